"""The contract of GR00T N1, at a size that computes in no time."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from dreamgen_jax import agent, errors, paths, safetensors
from dreamgen_jax.encoders import llama, siglip, tokenizer
from dreamgen_jax.policies import groot_n1
from dreamgen_jax.policies.groot_n1 import backbone, head, prompt
from tests import drawn

NANO = groot_n1.PRESETS["nano"]
SMALL = dataclasses.replace(
    NANO,
    backbone=backbone.Config(
        siglip.Config(16, 1, 2, 32, 8, 32),
        llama.Config(64, 16, 2, 2, 8, 32, 1, skip=0, padding_attends=False),
        width=16, image_token=63),
    head=head.Config(8, 8, 16, 2, 2, 0.3, 16, 32, 3),
    prompt=dataclasses.replace(NANO.prompt, room=6),
    cameras=("front", "wrist"), image_size=(32, 32), resizes=(32,),
    jitter=(0, 0, 0, 0), horizon=4, sample_steps=2, draws=2)
WORDS = "pick the red block up push it away slowly"


def language(words=WORDS, size=60):
  return agent.Language(tokenizer.train([words], size))


def make_batch(model, size, seed=0):
  batch = drawn.batch(model, size, seed)
  texts = ["pick the red block", "push it away", "pick it up"] * size
  return batch | model.read(language(), texts[:size], batch["state"]) | {
      "embodiment": np.arange(size, dtype=np.int32) % 3}


@pytest.fixture(scope="module")
def model():
  return groot_n1.Model(SMALL)


@pytest.fixture(scope="module")
def params(model):
  return drawn.params(model)


@pytest.fixture(scope="module")
def act(model):
  unseen = ("action", "mask")
  compiled = jax.jit(model.act)
  return lambda params, key, batch: compiled(params, key, {
      name: leaf for name, leaf in batch.items() if name not in unseen})


@pytest.fixture(scope="module")
def loss(model):
  return jax.jit(jax.value_and_grad(model.loss, has_aux=True))


def test_presets():
  nano = groot_n1.Model(NANO)
  shapes = jax.eval_shape(nano.init, jax.random.key(0))
  assert 5e5 < sum(leaf.size for leaf in jax.tree.leaves(shapes)) < 1e6
  released = groot_n1.Model(groot_n1.PRESETS["n1_2b"])
  shapes = jax.eval_shape(released.init, jax.random.key(0))
  batch = released.example(2)
  assert batch["tokens"].shape == (2, 192)
  chunk = jax.eval_shape(released.act, shapes, jax.random.key(0), batch)
  assert chunk.shape == (2, 16, 32)
  scalar, _ = jax.eval_shape(
      released.loss, shapes, jax.random.key(0), batch)
  assert scalar.shape == ()
  flat = paths.flatten(shapes)
  for path, leaf in flat.items():
    axes = next(axes for rule, axes in groot_n1.RULES
                if re.search(rule, path))
    assert any(axes) or leaf.size < 2 ** 20, path
  frozen = {path for path in flat if not re.search(groot_n1.TUNED, path)}
  assert frozen == {path for path in flat
                    if path.startswith("backbone/language/")}


def test_the_loss_reaches_every_parameter(model, params, loss):
  batch = make_batch(model, 6)
  (value, metrics), grads = loss(params, jax.random.key(1), batch)
  assert np.isfinite(value)
  assert set(metrics) == {"flow"}
  still = {path for path, leaf in paths.flatten(grads).items()
           if not np.any(leaf)}
  # Keys share their bias's effect with the softmax, which cancels it.
  assert all(path.endswith("k/bias") for path in still), still
  again, other = (loss(params, jax.random.key(seed), batch)[0][0]
                  for seed in (1, 2))
  assert again == value != other


def test_an_embodiment_trains_its_own_rows_alone(model, params, loss):
  batch = make_batch(model, 6) | {"embodiment": np.full(6, 2, np.int32)}
  _, grads = loss(params, jax.random.key(1), batch)
  for name in ("state_encoder", "action_encoder", "action_decoder"):
    for leaf in jax.tree.leaves(grads["head"][name]):
      assert not np.any(leaf[:2])
      assert np.any(leaf[2])


def test_masked_and_unknown_actions_do_not_count(model, params, loss):
  batch, key = make_batch(model, 6), jax.random.key(1)
  batch["mask"][:, :, 1] = False
  batch["action"][:, :, 1] = 0
  expected = loss(params, key, batch)[0][0]
  batch["action"][:, :, 1] = np.nan
  assert loss(params, key, batch)[0][0] == expected
  batch["mask"][:] = False
  assert loss(params, key, batch)[0][0] == 0


def test_the_error_is_that_of_the_robots_dimensions(model, params):
  """With a silent head the error is the target's mean square."""
  silent = jax.tree.map(jnp.zeros_like, params["head"]["action_decoder"])
  params = params | {"head": params["head"] | {"action_decoder": silent}}
  batch, rng = make_batch(model, 3), np.random.default_rng(2)
  noise = rng.normal(size=(6, 4, 8)).astype(np.float32)
  got = jax.jit(model.loss_at)(
      params, jnp.zeros((3, 2, 32, 32, 3)), batch, noise, jnp.full(6, 0.3))
  target = np.tile(batch["action"], (2, 1, 1)) - noise[..., :5]
  np.testing.assert_allclose(got, np.mean(target ** 2), rtol=1e-5)


def test_a_chunk_depends_on_its_own_sample_only(model, params, act):
  batch, keys = make_batch(model, 3), jax.random.split(jax.random.key(3), 3)
  together = act(params, keys, batch)
  assert together.shape == (3, 4, 5)
  turned = act(params, keys[::-1], {
      name: leaf[::-1] for name, leaf in batch.items()})
  np.testing.assert_allclose(turned[::-1], together, atol=1e-4)


@pytest.mark.parametrize("change", [
    lambda b: {"image/front": b["image/wrist"],
               "image/wrist": b["image/front"]},
    lambda b: {name: b[name][::-1] for name in ("tokens", "token_mask")},
    lambda b: {"state": b["state"] + 1},
    lambda b: {"embodiment": (b["embodiment"] + 1) % 3},
])
def test_a_chunk_depends_on(model, params, act, change):
  batch, keys = make_batch(model, 3), jax.random.split(jax.random.key(3), 3)
  difference = act(params, keys, batch | change(batch)) - act(
      params, keys, batch)
  assert np.abs(difference[0]).max() > 1e-4


def test_unknown_states_are_zeros(model, params, act):
  batch, keys = make_batch(model, 3), jax.random.split(jax.random.key(3), 3)
  zero = act(params, keys, batch | {"state": 0 * batch["state"]})
  unknown = act(params, keys, batch | {
      "state": np.nan * batch["state"],
      "state_mask": np.zeros_like(batch["state_mask"])})
  np.testing.assert_array_equal(zero, unknown)


def test_padding_is_seen_as_released_or_not_at_all(params):
  batch, key = make_batch(groot_n1.Model(SMALL), 1), jax.random.key(0)

  def act(sees, room):
    model = groot_n1.Model(dataclasses.replace(
        SMALL, sees_padding=sees,
        prompt=dataclasses.replace(SMALL.prompt, room=room)))
    leaves = model.read(language(), ["push it"], batch["state"])
    return jax.jit(model.act)(params, key, batch | leaves)

  hidden = act(False, 4)
  np.testing.assert_allclose(act(False, 6), hidden, atol=1e-5)
  assert np.abs(act(True, 6) - hidden).max() > 1e-4


def test_read_pads_in_front_and_shows_every_camera(model):
  found = model.read(
      language(), ["push it", "pick the red block"], np.zeros((2, 1, 5)))
  tokens, mask = found["tokens"], found["token_mask"]
  assert tokens.shape == (2, 6 + 2 * 4) == mask.shape
  know = language().tokenizer.token_to_id
  assert tokens[0].tolist() == [
      *[0] * 4, *[63] * 8, know("push"), know("it")]
  assert mask[0].tolist() == [False] * 4 + [True] * 10
  assert (tokens[1] == 63).sum() == 8
  with pytest.warns(UserWarning, match="its last 2 tokens are cut"):
    found = model.read(language(), ["pick it up " * 2 + "push it"], None)
  assert found["token_mask"].all()


def test_read_tells_what_the_network_cannot_read(model):
  with pytest.raises(errors.UserError, match="never saw: dance"):
    model.read(language(), ["dance"], None)
  many = " ".join(f"w{number}" for number in range(100))
  with pytest.raises(errors.ConfigError, match="are of different models"):
    model.read(language(many, 100), ["w1"], None)
  many = language(many, 64)
  word = many.tokenizer.id_to_token(63)
  with pytest.raises(errors.UserError, match="stands for images' patches"):
    model.read(many, [word], None)


def test_a_chat_as_eagle_has_it():
  letters = sorted(pre_tokenizers.ByteLevel.alphabet())
  bytewise = tokenizers.Tokenizer(models.BPE(
      {letter: number for number, letter in enumerate(letters)}, []))
  bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  bytewise.decoder = decoders.ByteLevel()
  c = prompt.Config(room=300)

  def chat(images):
    ids, mask = prompt.read(c, bytewise, ["pick it"], images, 3, 999, 1000)
    assert ids.shape == (1, 300 + 3 * images)
    assert (ids[~mask] == 2).all()
    ids = ids[mask].tolist()
    return "".join("#" if number == 999 else bytewise.decode([number])
                   for number in ids)

  start = ("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
           "<|im_start|>user\n")
  end = "pick it<|im_end|>\n<|im_start|>assistant\n"
  assert chat(1) == f"{start}<img>###</img>\n{end}"
  assert chat(2) == (
      f"{start}<image 1><img>###</img>\n<image 2><img>###</img>\n{end}")
  short = dataclasses.replace(c, room=20)
  with pytest.raises(errors.ConfigError, match="too little for the template"):
    prompt.read(short, bytewise, ["pick it"], 1, 3, 999, 1000)
  with pytest.raises(errors.ConfigError, match="needs {images} and then"):
    prompt.Config(template="{instruction}{images}")


def test_folders_are_read_by_name(model, params, tmp_path):
  groot_n1.save(tmp_path, params, SMALL, dtype=None)
  again = groot_n1.load(tmp_path, SMALL)
  jax.tree.map(np.testing.assert_array_equal, again, params)
  # What the release holds besides: half of the bytes, and one more layer.
  tensors = dict(safetensors.read(tmp_path / "model.safetensors"))
  assert "backbone.model.mlp1.0.weight" in tensors
  assert tensors["action_head.action_encoder.W2.W"].shape == (3, 32, 16)
  left = {"left.over.weight": np.ones((2, 16), np.float32),
          "left.over.bias": np.ones(2, np.float32)}
  safetensors.write(tmp_path / "model.safetensors", {
      name: np.asarray(tensor, jnp.bfloat16)
      for name, tensor in (tensors | left).items()})
  again = groot_n1.load(tmp_path, SMALL)
  np.testing.assert_allclose(
      again["head"]["dit"]["out"]["kernel"],
      params["head"]["dit"]["out"]["kernel"], rtol=1e-2)
  # Horizon, robot and cameras may be others; sizes may not.
  other = dataclasses.replace(SMALL, horizon=2, cameras=("front",),
                              action_dim=3, sample_steps=4)
  groot_n1.load(tmp_path, other)
  wrong = dataclasses.replace(SMALL, head=dataclasses.replace(
      SMALL.head, embodiments=4))
  with pytest.raises(errors.CheckpointError,
                     match="max_num_embodiments = 3; the preset has 4"):
    groot_n1.load(tmp_path, wrong)


def test_nothing_else_in_a_folder_is_left_out(model, params, tmp_path):
  groot_n1.save(tmp_path, params, SMALL)
  said = json.loads((tmp_path / "config.json").read_text())
  assert said["model_type"] == "gr00t_n1"
  tensors = dict(safetensors.read(tmp_path / "model.safetensors"))
  for extra in ({"left.over.weight": (3, 16)},
                {"left.a.weight": (2, 16), "left.b.weight": (2, 16)}):
    safetensors.write(tmp_path / "model.safetensors", tensors | {
        name: np.ones(shape, np.float32) for name, shape in extra.items()})
    with pytest.raises(errors.CheckpointError, match="left\\."):
      groot_n1.load(tmp_path, SMALL)


def test_observations_that_do_not_fit(model, params):
  batch = make_batch(model, 1)
  act = jax.eval_shape

  def call(**changes):
    given = {name: leaf for name, leaf in (batch | changes).items()
             if leaf is not None}
    return act(model.act, params, jax.random.key(0), given)

  with pytest.raises(errors.DataError, match="wrist is not among .*: front"):
    call(**{"image/wrist": None})
  with pytest.raises(errors.DataError, match="state has 3 values; .* for 5"):
    call(state=np.zeros((1, 1, 3), np.float32))
  with pytest.raises(errors.DataError, match="6 values, .* 4 steps of 5"):
    act(model.loss, params, jax.random.key(0), batch | {
        "action": np.zeros((1, 4, 6), np.float32)})
  with pytest.raises(errors.DataError, match="reads square images"):
    call(**{name: np.zeros((1, 1, 32, 24, 3), np.uint8)
            for name in ("image/front", "image/wrist")})


@pytest.mark.parametrize("change,match", [
    (dict(action_dim=9), "action has 9 values, the policy takes 8"),
    (dict(state_dim=9), "state has 9 values"),
    (dict(horizon=64), "positions"),
    (dict(resizes=(64,)), "resized to 64 pixels, the vision tower reads 32"),
    (dict(sample_steps=0), "at least 1"),
    (dict(cameras=()), "needs a camera"),
])
def test_what_does_not_fit_is_refused(change, match):
  with pytest.raises(errors.ConfigError, match=match):
    dataclasses.replace(SMALL, **change)


def test_parts_that_do_not_fit_are_refused():
  c = SMALL.backbone
  with pytest.raises(errors.ConfigError, match="image_token = 64"):
    dataclasses.replace(c, image_token=64)
  with pytest.raises(errors.ConfigError, match="grid of 3 is too odd"):
    dataclasses.replace(c, vision=dataclasses.replace(
        c.vision, image_size=24))
  with pytest.raises(errors.ConfigError, match="divisible by heads"):
    dataclasses.replace(SMALL.head, heads=3)
