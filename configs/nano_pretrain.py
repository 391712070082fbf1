"""Trains a nano world model from nothing, such as the one that ships.

Command: python -m dreamgen_jax.main --config=configs/nano_pretrain.py \\
           --workdir=runs/nano_pretrain
Others:  --config.world_model=cogvideox_nano (or wan2_2_nano, cosmos_nano,
           hunyuan_nano); --config.scale=0.001 shrinks every count, to try
           the road out
Hardware: 2 CPU cores, 8 GB, about 3 hours; may be killed and goes on.
Result: runs/nano_pretrain/export/nano, the folder that is committed as
`dreamgen_jax/world_models/wan/nano` with its model card.

The corpus shows four robots, none of them the target (a Franka Panda), doing
all sixteen verbs in nine rooms, none of them the quickstart's, half of the
time in random colours: video and caption, no actions. The transformer first
learns from all of it at every noise level (`world_model`), then mostly at high
noise, for few steps of sampling, from things placed as narrowly as the
quickstart places them (`finish`). Random paint keeps it from knowing the four
robots by their colours: it has to look at the one in the first frame.
"""

from configs import common

ROBOTS = ("so100", "gantry", "scara", "ur")
VERBS = ("pick_place", "lift", "stack", "push", "pull", "slide_left",
         "slide_right", "touch", "topple", "open_drawer", "close_drawer",
         "press_button", "turn_lever", "take_out", "rotate", "gather")
SCENES = ("marble", "slate", "felt", "sky", "brick", "checker", "dusk",
          "sunset", "blush")
ARGUMENTS = dict(scale=1.0, world_model="wan_nano")


def get_config(arg=None):
  """All of it for one world model."""
  options = common.parse_arg(arg, ARGUMENTS)
  world_model = common.world_model(options.world_model)

  def steps(count):
    return max(int(count * options.scale), 4)

  config = common.section(seed=0)
  corpus = dict(
      stage="collect", what="demonstrations", sim="tabletop", robots=ROBOTS,
      verbs=VERBS, scenes=SCENES, length=17, image_size=64, spread=1.0,
      paraphrases=3,
      shards=16, workers=2)
  config.corpus_plain = common.section(
      first_seed=10_000_000, randomize_looks=False, episodes=steps(3584),
      **corpus)
  config.corpus_random = common.section(
      first_seed=20_000_000, randomize_looks=True, episodes=steps(3584),
      **corpus)
  config.corpus_heldout = common.section(
      first_seed=30_000_000, randomize_looks=True, episodes=64,
      **corpus | dict(shards=1))
  corpus["spread"] = 0.4
  config.corpus_narrow = common.section(
      first_seed=40_000_000, randomize_looks=False, episodes=steps(4608),
      **corpus)
  config.corpus_narrow_random = common.section(
      first_seed=60_000_000, randomize_looks=True, episodes=steps(4608),
      **corpus)
  config.corpus_narrow_heldout = common.section(
      first_seed=50_000_000, randomize_looks=False, episodes=64,
      **corpus | dict(shards=1))
  model = dict(name=world_model["name"], preset=world_model["preset"], kw={})
  corpora = dict(plain="corpus_plain", random="corpus_random",
                 heldout="corpus_heldout")
  clip = ("vae", "frames", "height", "width", "video_hz")
  config.vae = common.section(
      stage="pretrain_vae", inputs=corpora, model=model, model_fields=clip,
      crop_size=32, crop_frames=17, camera="front",
      train=common.train(
          steps(5000), 4, common.optim(1.5e-3, 100, weight_decay=0.0),
          ema=True, log_steps=50, eval_steps=1000))
  config.latents = common.section(
      stage="encode", inputs=dict(corpora, vae="vae"), model=model,
      model_fields=clip,
      camera="front", clips=steps(2500), batch_size=16)
  config.world_model = common.section(
      stage="pretrain", inputs=dict(latents="latents"),
      model=model | dict(kw=world_model["pretrain"]),
      text_dropout=world_model["text_dropout"], vocab_size=512,
      train=common.train(
          steps(4400), 16, common.optim(1e-3, 200), ema=True,
          log_steps=50, eval_steps=1000))
  config.latents_narrow = common.section(
      stage="encode",
      inputs=dict(vae="vae", narrow="corpus_narrow",
                  narrow_random="corpus_narrow_random",
                  heldout="corpus_narrow_heldout"),
      model=model, model_fields=clip, camera="front", clips=steps(4608),
      batch_size=16)
  config.finish = common.section(
      stage="pretrain",
      inputs=dict(latents="latents_narrow", start="world_model"), model=model,
      text_dropout=world_model["text_dropout"],
      train=common.train(
          steps(5000), 16, common.optim(1e-3, 200), ema=True,
          log_steps=50, eval_steps=1000))
  config.export = common.section(
      stage="export", inputs=dict(latents="latents", vae="vae",
                                  world_model="world_model",
                                  latents_narrow="latents_narrow",
                                  finish="finish"),
      model=model, corpus=dict(robots=ROBOTS, verbs=VERBS, scenes=SCENES))
  return config.lock()
