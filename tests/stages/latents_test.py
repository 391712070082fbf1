"""Clips as latents: every leaf that the model asks for, and its place."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamgen_jax.stages import latents

SIZES = {"latent": (1, 2, 2, 3), "condition": (1, 2, 2, 3), "image": (5, 1),
         "text": (7,)}


class _Model:
  """Every leaf is made of the clip's pixels; text of the frame's and ids."""

  def __init__(self, leaves, sees=False):
    self.leaves = leaves
    self.config = types.SimpleNamespace(
        text_sees_frame=sees, sees_last_frame=False, height=2, width=2)

  def example(self, b):
    return {name: jax.ShapeDtypeStruct((b, *SIZES[name]), jnp.float32)
            for name in self.leaves}

  def tokenize(self, tokenizer, prompts):
    return {"ids": np.array([tokenizer(prompt) for prompt in prompts])}

  def encode_video(self, params, video):
    return video[:, -1:] * params

  def encode_frame(self, params, frame):
    found = {"condition": frame[:, None] * params,
             "image": jnp.broadcast_to(
                 frame[:, :1, 0, :1], (len(frame), 5, 1)) * params}
    return {name: found[name] for name in self.leaves if name in found}

  def encode_text(self, params, tokens, frame):
    states = frame[:, 0, 0, :1] + tokens["ids"][:, None] * params
    return {"text": jnp.broadcast_to(states, (len(states), 7))}


def _clips(dtype):
  pixels = 10 * np.arange(4).reshape(4, 1, 1, 1)
  return [{"video": np.full((4, 2, 2, 3), i + pixels, dtype),
           "instruction": f"do {i}", "id": str(i)} for i in range(3)]


@pytest.mark.parametrize("leaves", [
    ("latent", "condition", "text"), ("latent", "condition", "text", "image")])
def test_leaves_of_each_clip(leaves, tmp_path):
  encoded = latents.encode(
      _clips(np.float32), _Model(leaves), 2.0, tmp_path / "set", 2)
  assert len(encoded) == 3
  for i in range(3):
    want = {"latent": 2 * (i + 30), "condition": 2 * i, "image": 2 * i}
    sample = encoded[i]
    assert sample.pop("caption") == f"do {i}"
    assert set(sample) == set(leaves) - {"text"}
    for name, array in sample.items():
      assert np.all(array == want[name]), name


def test_a_prompt_that_is_read_with_the_frame(tmp_path):
  model = _Model(("latent", "text"), sees=True)
  read = latents.encode(_clips(np.uint8), model, 2, tmp_path / "read", 2,
                        tokenizer=lambda prompt: 100 * int(prompt[-1]))
  raw = latents.encode(_clips(np.uint8), model, 2, tmp_path / "raw", 2)
  for i in range(3):
    assert set(read[i]) == {"latent", "text", "caption"}
    assert np.all(read[i]["text"] == i + 200 * i)
    assert set(raw[i]) == {"latent", "frame", "caption"}
    assert np.all(raw[i]["frame"] == i)
    assert raw[i]["frame"].dtype == np.uint8


def test_a_killed_encoding_goes_on_batch_by_batch(tmp_path, monkeypatch):
  whole = latents.encode(_clips(np.float32), _Model(("latent",)), 2.0,
                         tmp_path / "whole", 1)

  class Source(list):
    read, dies = (), 1

    def __getitem__(self, i):
      if i == self.dies:
        raise KeyboardInterrupt
      self.read = (*self.read, i)
      return super().__getitem__(i)

  source = Source(_clips(np.float32))
  folder = tmp_path / "killed"
  with pytest.raises(KeyboardInterrupt):
    latents.encode(source, _Model(("latent",)), 2.0, folder, 1)
  source.dies = None
  found = latents.encode(source, _Model(("latent",)), 2.0, folder, 1)
  assert source.read == (0, 1, 2)
  assert (found.captions, found.ids) == (whole.captions, whole.ids)
  files = sorted(path.name for path in folder.iterdir())
  assert files == ["latent.npy", "progress.json"]
  for name in files:
    assert (folder / name).read_bytes() == (
        tmp_path / "whole" / name).read_bytes()
