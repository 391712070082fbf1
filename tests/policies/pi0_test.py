"""The contract of pi0 and pi0.5, at a size that runs in seconds."""

import dataclasses
import io

import chex
import jax
import numpy as np
import pytest
import sentencepiece

from dreamgen_jax import agent, errors, lora, optim, paths
from dreamgen_jax.encoders import (
    gemma,
    gemma_prompt,
    siglip,
    tokenizer,
    tokenizer_files,
)
from dreamgen_jax.policies import pi0
from dreamgen_jax.policies.pi0 import nets
from tests import drawn

SMALL = dataclasses.replace(
    pi0.PRESETS["nano"], cameras=("front", "wrist"), action_dim=2, state_dim=3,
    width=4, image_size=(16, 16), horizon=4, vocabulary=20, text_length=3,
    steps=4, jitter=(0.0, 0.0, 0.0),
    vision=siglip.Config(16, 1, 2, 16, 8, 16),
    language=gemma.Config(16, 2, 16, 2, 1, 8),
    expert=gemma.Config(12, 2, 16, 2, 1, 8))
SMALL_05 = dataclasses.replace(pi0.model.pi05(SMALL), text_length=3)


def make_batch(config, batch_size, seed=0):
  batch = drawn.batch(pi0.Model(config), batch_size, seed, tokens=20)
  batch["image_mask/wrist"] = np.arange(batch_size) % 2 == 0
  return batch


def draw(config):
  """Parameters that let everything through: adaptive norms start at zero."""
  return drawn.params(pi0.Model(config), 0.3, seed=0)


@pytest.fixture(scope="module", params=[SMALL, SMALL_05],
                ids=["pi0", "pi05"])
def small(request):
  model = pi0.Model(request.param)
  compiled = jax.jit(model.act)

  def act(params, keys, batch):
    return np.asarray(compiled(params, keys, {
        name: leaf for name, leaf in batch.items()
        if name not in ("action", "mask")}))

  return model, draw(request.param), act


# Under `vmap`, keys of the cheaper kind "rbg" are not each other's strangers.
KEYS = jax.random.split(jax.random.key(7), 4)


def test_a_samples_actions_do_not_depend_on_the_batch(small):
  model, params, act = small
  batch, others = (make_batch(model.config, 4, seed) for seed in (0, 1))
  together = act(params, KEYS, batch)
  chex.assert_shape(together, (4, 4, 2))
  mixed = {name: np.concatenate([leaf[2:3], others[name][1:]])
           for name, leaf in batch.items()}
  keys = KEYS[np.array([2, 1, 0, 3])]
  np.testing.assert_allclose(
      act(params, keys, mixed)[0], together[2], atol=1e-5)
  assert not np.allclose(act(params, KEYS[::-1], batch), together)


def test_what_is_masked_is_not_seen_and_all_else_is(small):
  model, params, act = small
  batch = make_batch(model.config, 4)
  batch["token_mask"][:, 2] = False
  batch["state_mask"][2:] = False
  before = act(params, KEYS, batch)

  def changed(name, change):
    leaf = batch[name].copy()
    change(leaf)
    return np.abs(act(params, KEYS, batch | {name: leaf}) - before).max((1, 2))

  def other(rows):
    return lambda leaf: leaf.__setitem__(rows, 255 - leaf[rows])

  moved = changed("image/wrist", other(slice(None)))
  np.testing.assert_array_equal(moved > 1e-4, [True, False, True, False])
  assert (changed("image/front", other(slice(None))) > 1e-4).all()
  assert (changed("tokens", lambda x: x.__setitem__(np.s_[:, 0], 1)) > 0).any()
  assert not changed("tokens", lambda x: x.__setitem__(np.s_[:, 2], 1)).any()
  moved = changed("state", lambda x: x.__setitem__(slice(None), np.nan))
  if model.config.expert.adaptive:  # it reads states as words alone
    assert not moved.any()
  else:
    assert np.isnan(moved[:2]).all() and not moved[2:].any()


def test_a_masked_camera_is_as_good_as_absent(small):
  model, params, act = small
  if model.config.expert.adaptive:
    return  # the prefix is the same
  batch = make_batch(model.config, 4)
  batch["image_mask/wrist"][:] = False
  alone = dataclasses.replace(model, config=dataclasses.replace(
      model.config, cameras=("front",)))
  found = jax.jit(alone.act)(params, KEYS, {
      name: leaf for name, leaf in batch.items()
      if "wrist" not in name and name not in ("action", "mask")})
  np.testing.assert_allclose(found, act(params, KEYS, batch), atol=1e-5)


def test_blocks_see_those_before_them():
  valid = np.array([[True, False, True, True, True]])
  np.testing.assert_array_equal(gemma.block_mask(valid, [2, 1, 2])[0], [
      [1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 0, 1, 0, 0],
      [1, 0, 1, 1, 1], [1, 0, 1, 1, 1]])
  np.testing.assert_array_equal(gemma.positions(valid)[0], [0, 0, 1, 2, 3])


def test_times_are_of_the_released_density():
  tau = np.asarray(nets.beta_times(jax.random.key(0), 4000))
  assert tau.min() >= 0.001 and tau.max() <= 1
  # The mean of Beta(1.5, 1) is 0.6, its median 0.5 ** (2 / 3).
  np.testing.assert_allclose(tau.mean(), 0.001 + 0.999 * 0.6, atol=0.015)
  np.testing.assert_allclose(np.median(tau), 0.63, atol=0.02)


def test_several_draws_of_an_observation_are_as_many_observations():
  config = dataclasses.replace(SMALL, draws=3)
  model, batch = pi0.Model(config), make_batch(config, 2)
  rng = np.random.default_rng(0)
  noise = rng.standard_normal((6, 4, config.width), np.float32)
  tau = rng.uniform(0.1, 1, 6).astype(np.float32)
  error = jax.jit(model.error_at)
  params = draw(config)
  thrice = {name: np.concatenate([leaf] * 3) for name, leaf in batch.items()}
  np.testing.assert_allclose(
      error(params, batch, noise, tau), error(params, thrice, noise, tau),
      atol=1e-5)


def test_withheld_states_need_a_flag():
  with pytest.raises(errors.ConfigError, match="state_dropout needs state_fl"):
    dataclasses.replace(SMALL_05, state_dropout=0.5)


def test_loss_counts_what_is_known():
  config = dataclasses.replace(SMALL, cameras=("front",))
  model, batch = pi0.Model(config), make_batch(config, 4)
  params, key = draw(config), jax.random.key(0, impl="rbg")
  loss = jax.jit(lambda batch: model.loss(params, key, batch)[0])

  def weighted(*weight):
    return loss(batch | {"weight": np.array(weight, np.float32)})

  first, second = weighted(1, 0, 0, 0), weighted(0, 1, 0, 0)
  assert first != second
  np.testing.assert_allclose(
      weighted(3, 1, 0, 0), (3 * first + second) / 4, rtol=1e-4)
  batch["mask"][:, :, 1] = False
  known = weighted(1, 1, 1, 1)
  batch["action"][:, :, 1] = np.nan
  np.testing.assert_array_equal(weighted(1, 1, 1, 1), known)
  assert np.isfinite(known)
  batch["mask"][:] = False
  assert weighted(1, 1, 1, 1) == 0


@pytest.mark.parametrize("preset", ["pi0", "pi05"])
def test_released_sizes_trace(preset):
  model = pi0.Model(dataclasses.replace(
      pi0.PRESETS[preset], action_dim=7, state_dim=5))
  params = jax.eval_shape(model.init, jax.random.key(0))
  batch, c = model.example(2), model.config
  loss, _ = jax.eval_shape(model.loss, params, jax.random.key(0), batch)
  chex.assert_shape(loss, ())
  chunk = jax.eval_shape(model.act, params, jax.random.key(0), batch)
  chex.assert_shape(chunk, (2, c.horizon, 7))


def test_the_nano_is_small():
  params = jax.eval_shape(
      pi0.Model(pi0.PRESETS["nano"]).init, jax.random.key(0))
  assert 2e5 < sum(leaf.size for leaf in jax.tree.leaves(params)) < 5e5


def test_adapters_of_both_experts():
  model, params = pi0.Model(SMALL), draw(SMALL)
  tree = {}
  for settings in pi0.ADAPTERS:
    config = lora.Config(**settings)
    tree |= paths.flatten(lora.init(jax.random.key(0), params, config))
  assert len(tree) == 2 * 2 * 7  # two experts, A and B, seven layers
  ranks = {path.split("/")[2].split("_")[0]: leaf.shape[-1]
           for path, leaf in tree.items() if path.endswith("lora_a")}
  assert ranks == {"language": 16, "action": 32}
  adapters = paths.unflatten(tree)
  batch = make_batch(SMALL, 2)
  noise, tau = np.ones((2, 4, 4), np.float32), np.full(2, 0.5, np.float32)

  def error(adapters):
    both = (lora.adapted(model.error_at, config)(
        params, adapters, batch, noise, tau),
        model.error_at(params, batch, noise, tau))
    return both[0].mean(), both

  (_, both), grads = jax.jit(jax.value_and_grad(error, has_aux=True))(adapters)
  np.testing.assert_allclose(*both, rtol=1e-5)
  # Of the last block the prefix's output is not read, only its keys.
  for path, leaf in paths.flatten(grads).items():
    if path.endswith("lora_b"):
      assert np.any(leaf[0])
  tuned, frozen = optim.partition(
      {"lora": adapters, "base": params}, pi0.TUNED)
  assert tuned["base"]["words"]["token"]["embedding"] is None
  assert frozen["base"]["out"]["kernel"] is None
  assert not any(leaf is not None for leaf in jax.tree.leaves(
      tuned["base"]["experts"]))


def _pieces(folder):
  buffer = io.BytesIO()
  texts = ["put the red block on the table", "Task: push it, State: 0 12 255",
           "-1 3 4;\nAction: "]
  sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(texts * 20), model_writer=buffer, vocab_size=300,
      hard_vocab_limit=False, model_type="bpe", byte_fallback=True, pad_id=0,
      eos_id=1, bos_id=2, unk_id=3, minloglevel=9)
  file = folder / "paligemma_tokenizer.model"
  file.write_bytes(buffer.getvalue())
  return tokenizer_files.load(str(file))


def test_prompts(tmp_path):
  pieces = _pieces(tmp_path)
  end = pieces.encode("\n")
  ids, mask = gemma_prompt.tokenize(pieces, [" put_the\nred block "], None, 40)
  count = mask.sum()
  assert ids[0, 0] == pieces.bos_id() and not ids[0, count:].any()
  np.testing.assert_array_equal(
      ids[0, 1:count], pieces.encode("put the red block") + end)

  state = np.array([[-1.5, -1.0, -0.999, 0.0, 0.9999, 7.0]], np.float32)
  assert gemma_prompt.digits(state[0]) == "-1 0 0 128 255 255"
  ids, mask = gemma_prompt.tokenize(pieces, ["push it"], state, 80)
  np.testing.assert_array_equal(
      ids[0, 1:mask.sum()], pieces.encode(
          "Task: push it, State: -1 0 0 128 255 255;\nAction: "))
  with pytest.warns(UserWarning, match="the model takes 4"):
    ids, mask = gemma_prompt.tokenize(pieces, ["put the red block"], None, 4)
  assert mask.all() and ids[0, 0] == pieces.bos_id()
  with pytest.raises(errors.CheckpointError, match="not a sentencepiece"):
    (tmp_path / "x.model").write_bytes(b"nothing")
    tokenizer_files.load(str(tmp_path / "x.model"))


def test_the_nanos_tokenizer_and_its_limits():
  words = agent.Language(tokenizer.train(["push the red block"], 20))
  model, state = pi0.Model(SMALL), np.zeros((2, 1, 3), np.float32)
  leaves = model.read(words, ["push block", "push"], state)
  np.testing.assert_array_equal(
      leaves["token_mask"], [[True] * 3, [True, True, False]])
  assert leaves["tokens"][0, 2] == tokenizer.END_ID
  few = pi0.Model(dataclasses.replace(SMALL, vocabulary=4))
  with pytest.raises(errors.ConfigError, match="vocabulary = 4"):
    few.read(words, ["push block"], state)
  with pytest.raises(errors.UserError, match="never saw: pull"):
    model.read(words, ["pull"], state)
  with pytest.raises(errors.ConfigError, match="name a world model"):
    words.sentences(["push"])


@pytest.mark.parametrize(("name", "cut", "message"), [
    ("image/front", np.s_[:, :, :8], r"image/front has the shape \(1, 8, 16, "),
    ("state", np.s_[..., :2], r"state has the shape \(1, 2\), and .* \(1, 3\)"),
    ("image/wrist", None, "has no image/wrist; this policy sees front, wrist"),
])
def test_observations_of_another_shape(name, cut, message):
  model, batch = pi0.Model(SMALL), make_batch(SMALL, 1)
  leaf = batch.pop(name)
  if cut is not None:
    batch[name] = leaf[cut]
  with pytest.raises(errors.DataError, match=message):
    jax.eval_shape(model.act, draw(SMALL), KEYS[:1], batch)


@pytest.mark.parametrize(("changes", "message"), [
    ({"language": gemma.Config(16, 3, 16, 2, 1, 8)}, "must be the same"),
    ({"width": 3}, "no room for action_dim = 2 and state_dim = 3 with a flag"),
    ({"state_in_words": True}, "goes with an adaptive expert"),
    ({"cameras": ()}, "needs a camera"),
])
def test_mistakes_in_a_config(changes, message):
  with pytest.raises(errors.ConfigError, match=message):
    dataclasses.replace(SMALL, **changes)


@pytest.mark.parametrize("config", [SMALL, SMALL_05], ids=["pi0", "pi05"])
def test_openpis_folder_and_what_may_be_wrong_with_it(config, tmp_path):
  params = draw(config)
  pi0.save(tmp_path / "a", params, config)
  for place in (tmp_path / "a", tmp_path / "a" / "params"):
    chex.assert_trees_all_equal(pi0.load(place, config), params)
  other = dataclasses.replace(config, width=5)
  with pytest.raises(errors.CheckpointError, match="action_in_proj/kernel"):
    pi0.load(tmp_path / "a", other)
  with pytest.raises(errors.CheckpointError, match="No checkpoint of pi0"):
    pi0.load(tmp_path / "b", config)
  (tmp_path / "c").mkdir()
  with pytest.raises(errors.CheckpointError, match="not an Orbax checkpoint"):
    pi0.load(tmp_path / "c", config)
