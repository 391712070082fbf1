"""HunyuanVideo as a whole: sizes, prompts, learning, dreams."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers

from dreamgen_jax import errors, paths, weights
from dreamgen_jax.encoders import tokenizer
from dreamgen_jax.world_models import hunyuan
from dreamgen_jax.world_models.hunyuan import dit, presets, prompt
from dreamgen_jax.world_models.hunyuan import weights as names
from tests import drawn

_NANO = hunyuan.PRESETS["nano"]
_SMALL = dataclasses.replace(  # what differs costs only time
    _NANO, frames=5, height=8, width=8, steps=2,
    vae=dataclasses.replace(
        _NANO.vae, widths=(8,), space_factor=1, time_factor=1))


@functools.cache
def _words():
  words = tokenizer.train(["pick up the red block", "push it"], 64)
  return {"llama": words, "clip": words}


# Compiling takes longer than running, and half as long without care.
_jit = functools.partial(jax.jit, compiler_options={
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True})


@functools.cache
def _small():
  """A model and parameters, none of which is zero."""
  model = hunyuan.Model(_SMALL)
  return model, drawn.params(model, 0.1, seed=0)


@functools.cache
def _prompts():
  """Two frames, the leaves of two prompts, and those with frames swapped."""
  model, params = _small()
  c = model.config
  frames = np.random.default_rng(0).integers(
      0, 256, (2, c.height, c.width, 3), np.uint8)
  encode = _jit(model.encode_text)
  tokens = model.tokenize(_words(), ["pick up the red block", "push it"])
  return frames, *(
      encode(params, tokens, shown) for shown in (frames, frames[::-1]))


@functools.cache
def _shapes(preset):
  return jax.eval_shape(
      hunyuan.Model(hunyuan.PRESETS[preset]).init, jax.random.key(0))


# --- sizes --------------------------------------------------------------------


@pytest.mark.parametrize(("preset", "billions", "latent"), [
    ("hunyuanvideo_i2v", 12.821, (33, 90, 160, 16)),
    ("hunyuanvideo_i2v_33ch", 12.811, (33, 90, 160, 16))])
def test_released_sizes(preset, billions, latent):
  model = hunyuan.Model(hunyuan.PRESETS[preset])
  assert model.config.latent_shape == latent
  params = _shapes(preset)
  counts = {part: sum(x.size for x in jax.tree.leaves(tree))
            for part, tree in params.items()}
  assert round(counts["transformer"] / 1e9, 3) == billions
  assert round(counts["vae"] / 1e6, 1) == 246.5
  head = 128_320 * 4096  # of LLaVA's language model; it is not read
  assert round((counts["text"] + head) / 1e9, 3) == 8.355
  assert round(counts["text_2"] / 1e9, 3) == 0.123
  loss, scalars = jax.eval_shape(
      model.loss, params, jax.random.key(0), model.example(1))
  assert loss.shape == () and set(scalars) == {"velocity_error"}
  rows = {"hunyuanvideo_i2v": 144, "hunyuanvideo_i2v_33ch": 288}[preset] + 252
  assert model.example(2)["text"].shape == (2, rows, 4096)


def test_every_parameter_has_one_name_and_one_place():
  config, params = hunyuan.PRESETS["hunyuanvideo_i2v"], _shapes(
      "hunyuanvideo_i2v")
  for tables in (names.parts(config), names.original_parts(config)):
    for part, table in tables.items():
      released = weights.export(params[part], table)
      matched = weights.match(released, table, params[part])
      assert paths.flatten(matched).keys() == paths.flatten(
          params[part]).keys()
  assert presets.describe(config).keys() == params.keys()
  rules = [pattern for pattern, axes in presets.RULES if axes]
  whole = [path for path, leaf in paths.flatten(params).items()
           if leaf.size > 2 ** 22 and not path.startswith("vae/")
           and not any(re.search(pattern, path) for pattern in rules)]
  assert not whole  # nothing large is on every device


def test_nano_is_small():
  model = hunyuan.Model(_NANO)
  assert sum(x.size for x in jax.tree.leaves(_shapes("nano"))) < 3e6
  t, h, w, _ = _NANO.latent_shape
  tokens = t * h * w // 4 + model.example(1)["text"].shape[1]
  assert tokens <= 150


def test_parts_must_fit():
  with pytest.raises(errors.ConfigError, match="in_channels is 33; .* 16"):
    dataclasses.replace(_NANO, transformer=dataclasses.replace(
        _NANO.transformer, in_channels=33))
  with pytest.raises(errors.ConfigError, match="starts from a frame"):
    dataclasses.replace(_NANO, transformer=dataclasses.replace(
        _NANO.transformer, image=None))


# --- prompts ------------------------------------------------------------------


def test_rows_of_a_template():
  """Which states are kept, of a template like the released one."""
  special = ["<s>", "<e>", "<image>"]
  words = tokenizers.Tokenizer(tokenizers.models.WordLevel(
      {word: i for i, word in enumerate(
          [*special, "see", "push", "it", "say", "now"])}, unk_token="<unk>"))
  words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  words.add_special_tokens(special)
  config = prompt.Config("<s> see <image> <e> {} <e> say now", start=4, tail=3,
                         length=7, image_every=4)
  text = dataclasses.replace(_NANO.text, image_token=99)
  found = prompt.tokenize(
      config, text, dataclasses.replace(_NANO.text_2, begin=0, end=1, length=4),
      {"llama": words, "clip": words}, ["push  it", "it push it it"])
  image = [99] * 16
  np.testing.assert_array_equal(found["ids"], [
      [0, 3, *image, 1, 4, 5, 1, 6, 7, 0, 0],
      [0, 3, *image, 1, 5, 4, 5, 5, 1, 6, 7]])
  np.testing.assert_array_equal(found["mask"].sum(1), [24, 26])
  # Every fourth of the image, the prompt, and the last token of the tail.
  np.testing.assert_array_equal(found["rows"], [
      [2, 6, 10, 14, 19, 20, 23, 0, 0], [2, 6, 10, 14, 19, 20, 21, 22, 25]])
  np.testing.assert_array_equal(found["rows_mask"].sum(1), [7, 9])
  # CLIP's is filled up with its end token, and cut off before it.
  np.testing.assert_array_equal(
      found["pooled_ids"], [[0, 4, 5, 1], [0, 5, 4, 1]])

  with pytest.warns(UserWarning, match="last 1 tokens are cut; .* takes 4"):
    cut = prompt.tokenize(config, text, _NANO.text_2,
                          {"llama": words, "clip": words}, ["it push it it it"])
  np.testing.assert_array_equal(cut["ids"][0], found["ids"][1])
  with pytest.raises(errors.CheckpointError, match="4 tokens .*reads 9"):
    prompt.tokenize(dataclasses.replace(config, start=9), text, _NANO.text_2,
                    {"llama": words, "clip": words}, ["it"])
  with pytest.raises(errors.ConfigError, match="'<image>' once"):
    dataclasses.replace(config, template="{} <image>")


def test_text_depends_on_prompt_and_frame():
  model, params = _small()
  assert model.config.text_sees_frame
  _, text, other = _prompts()
  example = model.example(2)
  for name, leaf in text.items():
    assert leaf.shape == example[name].shape and leaf.dtype == (
        example[name].dtype), name
  np.testing.assert_array_equal(text["text_mask"].sum(1), [4 + 5, 4 + 2])
  assert not np.any(text["text"][~text["text_mask"]])
  last = np.abs(other["text"] - text["text"])[0, 8]  # of the prompt's rows
  assert last.max() > 1e-3
  np.testing.assert_array_equal(other["text_pooled"], text["text_pooled"])
  assert np.abs(text["text_pooled"][0] - text["text_pooled"][1]).max() > 1e-3
  with pytest.raises(errors.DataError, match="together with a frame"):
    model.encode_text(params, {})


# --- learning -----------------------------------------------------------------


def test_a_fresh_transformer_learns_in_all_its_parameters():
  model, params = _small()
  frames, text, _ = _prompts()
  video = np.random.default_rng(1).integers(0, 256, (2, 5, 8, 8, 3), np.uint8)
  video[:, 0] = frames

  @_jit
  def encode(params):
    return {"latent": model.encode_video(params, video),
            **model.encode_frame(params, frames), **text}

  batch = encode(params)
  assert jax.tree.map(jnp.shape, batch) == {
      name: leaf.shape for name, leaf in model.example(2).items()}

  @_jit
  def fresh(key):
    return dit.Transformer(model.config.transformer).init(
        key, *model._inputs(batch["latent"], jnp.zeros(2), batch, 6.0))

  tree = fresh(jax.random.key(0))["params"]
  assert jax.tree.map(jnp.shape, tree) == jax.tree.map(
      jnp.shape, params["transformer"])
  # The head is born zero, and would hide all that lies before it.
  tree["head"]["kernel"] = params["transformer"]["head"]["kernel"]

  @_jit
  def gradients(tree, latent, condition):
    (loss, scalars), found = jax.value_and_grad(
        lambda tree, latent, condition: model.loss(
            {"transformer": tree}, jax.random.key(2),
            batch | {"latent": latent, "condition": condition}),
        (0, 1, 2), has_aux=True)(tree, latent, condition)
    return loss, scalars, *found

  loss, scalars, learns, latent, condition = gradients(
      tree, batch["latent"], batch["condition"])
  assert np.isfinite(loss) and loss == scalars["velocity_error"]
  for path, leaf in paths.flatten(learns).items():
    # Of all blocks; but what the text says last, nobody hears, and a bias of
    # all keys alike changes no attention.
    if not path.endswith("/k/bias"):
      stacked = "blocks/" in path
      each = np.abs(leaf).max(axis=tuple(range(int(stacked), leaf.ndim)))
      assert np.all(each > 0), (path, each)
  # The first frame is told; it is no part of what is learned.
  assert not np.any(latent[:, 0]) and np.any(latent[:, 1])
  assert np.any(condition)


# --- dreaming -----------------------------------------------------------------


def test_a_dream_does_not_depend_on_its_batch():
  model, params = _small()
  frames, text, empty = _prompts()
  keys = jax.random.split(jax.random.key(3), 2)
  generate = _jit(model.generate)

  def dream(rows):
    mine, other = (jax.tree.map(lambda leaf: leaf[rows], leaves)
                   for leaves in (text, empty))
    video = generate(params, keys[rows], frames[rows], mine, other)
    assert video.dtype == np.uint8 and video.shape[1:] == (5, 8, 8, 3)
    return np.asarray(video).astype(int)

  both, first, second = map(dream, (slice(2), slice(1), slice(1, 2)))
  apart = np.abs(both - np.concatenate([first, second]))
  assert apart.max() <= 1  # sums in another order, then rounded
  assert np.abs(both[0] - both[1]).max() > 1


def test_a_clip_told_by_channels_is_longer_inside():
  c = presets.by_channels(dataclasses.replace(
      _SMALL, vae=dataclasses.replace(
          _SMALL.vae, widths=(8, 8), space_factor=2, time_factor=2)), 5)
  assert c.frames == 5 and c.latent_shape[0] == 4  # of 7 frames
  assert c.transformer.image == dit.CONCAT and not c.transformer.guidance
  seen = []

  class Watched(hunyuan.Model):
    def _encode(self, params, video):
      seen.append(video.shape[1])
      return super()._encode(params, video)

  def dream(key):
    params, keys = model.init(key), jax.random.split(key)
    zeros = {name: jnp.zeros(leaf.shape, leaf.dtype)
             for name, leaf in model.example(2).items()}
    text = {name: leaf for name, leaf in zeros.items() if "text" in name}
    video = jnp.zeros((2, 5, 8, 8, 3), jnp.uint8)
    dreamt = model.generate(
        params, keys, video[:, 0], text, text, guidance=2.0)
    return model.encode_video(params, video), dreamt

  model = Watched(c)
  latent, dreamt = jax.eval_shape(dream, jax.random.key(0))
  assert latent.shape == (2, *c.latent_shape) and seen == [1, 7]
  assert dreamt.shape == (2, 5, 8, 8, 3)
