"""Clips as latents: every leaf that the model asks for, and its place."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamgen_jax.stages import latents


def _model(leaves):
  sizes = {"latent": (1, 2, 2, 3), "condition": (1, 2, 2, 3), "image": (5, 1),
           "text": (7,)}

  def encode_frame(params, frame):
    found = {"condition": frame[:, None] * params,
             "image": jnp.broadcast_to(
                 frame[:, :1, 0, :1], (len(frame), 5, 1)) * params}
    return {name: found[name] for name in leaves if name in found}

  return types.SimpleNamespace(
      example=lambda b: {name: jax.ShapeDtypeStruct(
          (b, *sizes[name]), jnp.float32) for name in leaves},
      encode_video=lambda params, video: video[:, -1:] * params,
      encode_frame=encode_frame,
      config=types.SimpleNamespace(text_sees_frame=False))


@pytest.mark.parametrize("leaves", [
    ("latent", "condition", "text"), ("latent", "condition", "text", "image")])
def test_leaves_of_each_clip(leaves, tmp_path):
  clips = [{"video": np.full((4, 2, 2, 3), [[[[i]]]] + 10 * np.arange(
      4).reshape(4, 1, 1, 1), np.float32), "instruction": f"do {i}",
      "id": str(i)} for i in range(3)]
  encoded = latents.encode(clips, _model(leaves), 2.0, tmp_path / "set", 2)
  assert len(encoded) == 3
  for i in range(3):
    want = {"latent": 2 * (i + 30), "condition": 2 * i, "image": 2 * i}
    sample = encoded[i]
    assert sample.pop("caption") == f"do {i}"
    assert set(sample) == set(leaves) - {"text"}
    for name, array in sample.items():
      assert np.all(array == want[name]), name
