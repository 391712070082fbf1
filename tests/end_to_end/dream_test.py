"""The stage that dreams: chains, goals, how it is asked to sample."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from configs import common
from dreamgen_jax import checkpoint, dreamer, errors, registry, types
from dreamgen_jax.data import rlds
from dreamgen_jax.encoders import tokenizer
from dreamgen_jax.stages import dream, latents, models, world_model
from dreamgen_jax.world_models import wan
from dreamgen_jax.world_models.wan import dit

SMALL = dict(frames=5, height=32, width=32, transformer=dict(layers=1),
             vae=dict(dim_mult=(1, 1, 1)))
ROBOT = registry.find("embodiments", "tabletop_panda").EMBODIMENT


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, draw):
  """What `finetune` leaves, of a small model that stayed as it was."""
  spec = dict(name="wan", preset="nano", kw=SMALL,
              source=str(tmp_path_factory.mktemp("base")))
  model = models.build("world_models", spec)
  params = draw(model.init, jax.random.key(0))
  wan.save(spec["source"], model, params,
           tokenizer.train(["push the red block", "too dark"], 50))
  folder = tmp_path_factory.mktemp("tuned")
  checkpoint.save(folder / "checkpoint", {
      "transformer": params["transformer"]}, {
          "model": spec, "lora": None,
          "source": world_model.load_base(spec).source})
  return folder


def prompts(folder, frames=1, count=3):
  """Each with a seed and colours of its own."""
  random = np.random.default_rng(0)
  episodes = [types.Episode(
      id=f"p{seed}", instruction="push the red block", embodiment=ROBOT.name,
      video={"front": random.integers(
          0, 256, (frames, 32, 32, 3), np.uint8)},
      clock=ROBOT.clock, origin=types.Origin("sim", seed=seed))
      for seed in range(count)]
  rlds.write(folder / "data", "prompts", episodes, ROBOT, cameras=["front"])
  return folder


def config(**changes):
  return common.section(camera="front", **{
      **dict(shards=1, steps=2, guidance=2.0, batch_size=2), **changes})


def test_a_chain_through_the_stage(tmp_path, tuned):
  asked = config(clips=2, negative="too dark")
  inputs = {"world_model": tuned, "prompts": prompts(tmp_path / "prompts")}
  dream.run(asked, inputs, tmp_path / "dreams")
  found = rlds.Dataset(tmp_path / "dreams" / "data")
  assert found.index["frames"].tolist() == [9, 9, 9]
  said = json.loads(found.episode(0).origin.sampler)
  assert said["clips"] == 2 and said["negative"] == "too dark"
  assert said["solver"] == "unipc" and said["steps"] == 2

  # The same without files: each clip goes on from the last frame.
  loaded = world_model.load_tuned(tuned)
  made = world_model.make_dreamer(loaded, asked)
  shown = rlds.Dataset(inputs["prompts"] / "data").episode(1).video["front"]
  video = made.dream(shown, ["push the red block"], [1])
  stored = found.episode(1).video["front"]
  assert np.abs(video[0] - stored.astype(int)).mean() < 8  # compressed
  seam = video[:, 4]
  text, empty = (dreamer.encode_prompts(
      loaded.model, loaded.params, loaded.tokenizer, [prompt] * 2)
      for prompt in ("push the red block", "too dark"))
  key = jax.random.fold_in(jax.random.key(1), 1)
  again = jax.jit(lambda frame: loaded.model.generate(
      loaded.params, jax.numpy.stack([key, key]), frame, text, empty, steps=2,
      guidance=2.0))(seam.repeat(2, axis=0))
  # Another program may round another way.
  assert np.abs(again[0, 1:].astype(int) - video[0, 5:]).max() <= 1
  assert np.abs(video[0, 5:].astype(int) - video[0, 1:5]).max() > 1

  # It is told that frame as training tells the first frame of a clip.
  clip = {"video": video[0, 4:], "instruction": "push", "id": "seam"}
  learnt = latents.encode(
      [clip], loaded.model, loaded.params, tmp_path / "latents", 1)[0]
  told = jax.jit(loaded.model.encode_frame)(loaded.params, seam)
  np.testing.assert_allclose(learnt["condition"], told["condition"][0],
                             atol=1e-5)


def test_a_distilled_sampler_calls_the_network_four_times(tuned, monkeypatch):
  calls, run = [], dit.Transformer.__call__

  def counted(self, latent, *inputs):
    jax.debug.callback(lambda time: calls.append((len(latent), time)),
                       inputs[0], ordered=True)
    return run(self, latent, *inputs)

  monkeypatch.setattr(dit.Transformer, "__call__", counted)
  loaded = world_model.load_tuned(tuned)
  made = world_model.make_dreamer(loaded, common.distilled_sampler(2))
  video = made.dream(np.zeros((2, 32, 32, 3), np.uint8),
                     ["push the red block"] * 2, [0, 1])
  jax.effects_barrier()
  assert video.shape == (2, 5, 32, 32, 3)
  assert [size for size, _ in calls] == [2] * 4  # no second branch
  np.testing.assert_allclose(
      [time[0] for _, time in calls], [1000, 937.5, 833.33, 625], atol=0.01)


def test_what_a_sampler_may_change(tuned):
  loaded = world_model.load_tuned(tuned)
  made = world_model.make_dreamer(loaded, config(sampling=dict(
      reuse=dict(ratios=[1.0, 0.9], longest=1))))
  assert made.model.config.reuse.ratios == (1.0, 0.9)
  assert made.negative == ""  # the preset's own
  with pytest.raises(errors.ConfigError, match="no 'solvr'.* mean 'solver'"):
    world_model.make_dreamer(loaded, config(sampling=dict(solvr="euler")))
  with pytest.raises(errors.ConfigError, match="no 'frames'; this model's"):
    world_model.make_dreamer(loaded, config(sampling=dict(frames=9)))


def between(loaded):
  """The same model, told its last frame too."""
  return dataclasses.replace(
      loaded, model=models.replaced(
          loaded.model, {"given": "both_ends"}, "the model"))


def test_between_two_frames(tmp_path, tuned, monkeypatch):
  load = world_model.load_tuned
  monkeypatch.setattr(world_model, "load_tuned",
                      lambda *inputs: between(load(*inputs)))
  one = {"world_model": tuned, "prompts": prompts(tmp_path / "one")}
  with pytest.raises(errors.DataError, match="goal as their last frame"):
    dream.run(config(), one, tmp_path / "no")
  with pytest.raises(errors.ConfigError, match="2 clips in a chain.*clips = 1"):
    dream.run(config(clips=2), one, tmp_path / "no")
  two = one | {"prompts": prompts(tmp_path / "three", frames=3)}
  dream.run(config(), two, tmp_path / "dreams")
  shown = rlds.Dataset(two["prompts"] / "data").episode(0).video["front"]
  made = world_model.make_dreamer(world_model.load_tuned(tuned), config())
  video, other = (made.dream(shown[:1], ["push the red block"], [0], goal)
                  for goal in (shown[2:], shown[1:2]))
  found = rlds.Dataset(tmp_path / "dreams" / "data").episode(0).video["front"]
  assert np.abs(found - video[0].astype(int)).mean() < 8
  assert np.abs(video.astype(int) - other).max() > 8
