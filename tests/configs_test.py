"""The configs: which world model they run with, and what a mistake says."""

import pathlib

import pytest

from configs import common
from dreamgen_jax import errors, options, registry
from dreamgen_jax.data import labels
from dreamgen_jax.stages import labelers, models, pipeline, planners

ROOT = pathlib.Path(__file__).resolve().parents[1]
QUICKSTART, PRETRAIN, THREE, LATENT = (
    str(ROOT / "configs" / f"{name}.py")
    for name in ("quickstart", "nano_pretrain", "three_policies",
                 "latent_actions"))


@pytest.mark.parametrize("name", common.WORLD_MODELS)
def test_one_flag_chooses_the_world_model(name, tmp_path):
  chosen = common.WORLD_MODELS[name]
  pretrain = options.load(PRETRAIN, [("world_model", name)])
  quickstart = options.load(
      QUICKSTART, [("world_model", name), ("weights", str(tmp_path))])
  assert quickstart == options.load(
      f"{QUICKSTART}:world_model={name},weights={tmp_path}")
  for config, stages in (
      (pretrain, ("vae", "latents", "world_model", "latents_narrow", "finish",
                  "export")), (quickstart, ("finetune",))):
    for stage in stages:
      model = config[stage].model
      assert (model.name, model.preset) == (chosen["name"], chosen["preset"])
      pipeline.resolve(pipeline.steps(config)[stage])  # its fields are there
  assert quickstart.finetune.model.source == str(tmp_path)
  c = models.build("world_models", quickstart.finetune.model).config
  assert (c.frames, c.height, c.width, c.video_hz) == (17, 64, 64, 5.0)
  reader = models.build("world_models", quickstart.policy_mixed.text).config
  assert not reader.text_sees_frame  # a policy has no first frame to show it
  assert not (c.text_sees_frame and quickstart.finetune.text_dropout)


def test_the_shipped_world_model_is_the_default():
  assert options.load(QUICKSTART) == options.load(
      QUICKSTART, [("world_model", "wan_nano")])
  assert options.load(QUICKSTART).finetune.model.source == "nano"
  assert options.load(QUICKSTART).demonstrations.episodes < options.load(
      QUICKSTART, [("long", "true")]).demonstrations.episodes
  assert options.load(PRETRAIN, [("scale", "0.001")]).vae.train.steps == 5


@pytest.mark.parametrize("name", common.LABELERS)
def test_one_flag_chooses_the_labeler(name):
  config = options.load(QUICKSTART, [("labeler_model", name)])
  assert config.labeler.model.name == name.removesuffix("_nano")
  assert (options.load(QUICKSTART) == config) == (name == "idm_nano")
  robot = registry.find("embodiments", "tabletop_panda").EMBODIMENT
  base = labels.TimeBase(control_hz=robot.clock.control_hz,
                         video_hz=robot.clock.video_hz,
                         **config.labeler.time_base)
  c = labelers.build(config.labeler.model, robot, base, ["front"]).config
  assert c.action_dim == robot.action_dim and c.embodiments > robot.id


@pytest.mark.parametrize("name", common.POLICIES)
def test_one_flag_chooses_the_policy(name):
  chosen = common.POLICIES[name]
  config = options.load(QUICKSTART, [("policy", name)])
  for section in (config.policy_neural, config.policy_mixed):
    assert (section.model.name, section.model.preset) == (
        chosen["name"], chosen["preset"])
    c = models.build("policies", section.model).config
    assert tuple(c.image_size) == (64, 64)
    # What a plan leaves after the past steps must last until the next one.
    assert c.horizon - c.n_obs_steps + 1 >= config.evaluation.execute_steps
  assert (options.load(QUICKSTART) == config) == (
      name == "diffusion_policy_nano")


def test_three_policies_go_on_from_the_quickstart():
  quickstart, three = (
      pipeline.steps(options.load(name)) for name in (QUICKSTART, THREE))
  assert {name: step for name, step in three.items()
          if name in quickstart} | {"evaluation": None, "report": None} == {
              name: step for name, step in quickstart.items()
              if not name.startswith("policy_")} | {
                  "evaluation": None, "report": None}
  parts = planners.inputs(three["evaluation"].config.planners)
  judged = three["evaluation"].inputs.keys() - parts
  assert len(judged) == 9
  for name in judged:
    inputs = three[name].inputs
    assert ("neural" in inputs) == name.endswith("_mixed")
    assert inputs["real"] == ("many" if name.endswith("_upper") else "few")


def test_tokens_say_codes_then_actions():
  config = options.load(f"{LATENT}:tokens")
  c = models.build("labelers", config.labeler.model).config
  first, then = (models.build("policies", config[name].model).config
                 for name in ("policy", "tuned"))
  assert c.as_codes and first.bins == c.codes and first.horizon == 1
  assert config.tuned.inputs.start == "policy" and then.horizon > 1
  plain = options.load(LATENT)
  assert plain.policy.model.name == "diffusion_policy" and (
      set(config) - set(plain) == {"taught", "tuned"})


@pytest.mark.parametrize(("file", "overrides", "message"), [
    (QUICKSTART, {"world_model": "cogvideo_nano"},
     "Unknown world model 'cogvideo_nano'; have: .* "
     "Did you mean 'cogvideox_nano'?"),
    (QUICKSTART, {"labeler_model": "vpt"},
     "Unknown labeler 'vpt'; have: idm_nano, vpt_nano. Did you mean"),
    (QUICKSTART, {"policy": "diffusion_nano"},
     "Unknown policy 'diffusion_nano'; have: .*"
     "Did you mean 'diffusion_policy_nano'?"),
    (PRETRAIN, {"world_model": "nano"}, "Unknown world model 'nano'"),
    (QUICKSTART, {"world_model": "hunyuan_nano"},
     "No weights of hunyuan_nano ship with the package; `python -m "
     "dreamgen_jax.main --config=configs/nano_pretrain.py "
     "--config.world_model=hunyuan_nano --workdir=runs/hunyuan_nano` makes"),
    (QUICKSTART, {"weights": "no/such/folder"},
     "no/such/folder is no folder of weights; .*--config.weights="),
    (QUICKSTART, {"wold_model": "wan_nano"}, "Did you mean 'world_model'"),
    (QUICKSTART + ":word_model=x", {}, "argument 'word_model'; have: long, "),
])
def test_a_mistake_is_one_sentence(file, overrides, message):
  with pytest.raises(errors.ConfigError, match=message):
    options.load(file, overrides.items())
