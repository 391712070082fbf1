"""Dreams with the Wan 2.1 I2V-14B that was tuned on a Fourier GR1.

Command: python -m dreamgen_jax.main --workdir=runs/gr1_dreams \\
           --config=configs/dream_wan2_1_i2v_14b_gr1.py \\
           --config.tuned=runs/gr1/finetune --config.prompts=FOLDER
Plan:    python -m dreamgen_jax.plan --topology=v5p:2x2x1 \\
           --config=configs/dream_wan2_1_i2v_14b_gr1.py
Others:  FILE.py:distilled takes four unguided steps, with a step-distilled
         adapter (--config.adapter=FILE); :steps=40, :batch_size=8, ...
Hardware: any number of hosts with 4 chips each of TPU v5p or v6e; prompts are
         shared among them.
Hours and memory: README.md, "On a TPU pod" (by the plan above).
"""

from configs import common

ARGUMENTS = dict(
    distilled=False, adapter="", steps=50, guidance=5.0, batch_size=4,
    data=1, fsdp=-1, context=1, frames=81, height=480, width=832, layers=40,
    weights="weights/Wan2.1-I2V-14B-480P-Diffusers",
    tuned="runs/gr1/finetune", prompts="data/gr1_prompts")


def get_config(arg=None):
  """One stage, `dream`; `data`, `fsdp` and `context` lay out a host's chips."""
  options = common.parse_arg(arg, ARGUMENTS)
  sampler = (common.distilled_sampler(options.batch_size)
             if options.distilled else common.section(
                 steps=options.steps, guidance=options.guidance,
                 batch_size=options.batch_size, sampling=common.section()))
  config = common.section(seed=0)
  config.dream = common.section(
      stage="dream", camera="ego_view", shards=64,
      inputs=dict(world_model=options.tuned, prompts=options.prompts),
      adapters=(dict(path=options.adapter, weight=1.0),)
      if options.adapter else (),
      # As tuned; the stage reads it from there, the plan reads it here.
      model=dict(
          name="wan", preset="wan2_1_i2v_14b_480p", source=options.weights,
          hold="bfloat16",
          kw=dict(frames=options.frames, height=options.height,
                  width=options.width, transformer=dict(
                      dtype="bfloat16", layers=options.layers))),
      mesh=common.section(
          data=options.data, fsdp=options.fsdp, context=options.context),
      **sampler)
  return config.lock()
