"""Tunes Wan 2.1 I2V-14B at 480p on recordings of a Fourier GR1.

Command: python -m dreamgen_jax.main --workdir=runs/gr1 \\
           --config=configs/finetune_wan2_1_i2v_14b_gr1.py \\
           --config.weights=FOLDER --config.demonstrations=FOLDER
Plan:    python -m dreamgen_jax.plan --topology=v5p:4x4x4 \\
           --config=configs/finetune_wan2_1_i2v_14b_gr1.py
Others:  FILE.py:full trains all parameters; :qlora holds the base in 4 bits;
         :tpu=v6e keeps what its memory has room for; :frames=33, :chips=16,
         :remat=full, ... change one thing
Hardware: 64 chips of TPU v5p or (:tpu=v6e) v6e; 16 of v5e
         (:tpu=v5e,qlora,frames=33,chips=16).
Hours and memory: README.md, "On a TPU pod" (by the plan above).

As the GR00T N1 paper does it (arXiv 2503.14734): 3,000 clips of 81 frames, 100
epochs, adapters. FOLDERs are the released weights and RLDS datasets; clips that
the tuned model is watched on are those of `heldout`.
"""

from configs import common
from dreamgen_jax import errors

CLIPS, EPOCHS = 3_000, 100
# What a generation's memory has room for, of a clip a chip.
REMAT = {"v5p": "attention", "v6e": "attention_offload",
         "v5e": "attention_offload"}
ARGUMENTS = dict(
    full=False, qlora=False, frames=81, height=480, width=832, tpu="v5p",
    chips=64, context=1, batch_size=0, remat="", layers=40,
    preset="wan2_1_i2v_14b_480p",
    weights="weights/Wan2.1-I2V-14B-480P-Diffusers",
    demonstrations="data/gr1", heldout="data/gr1_heldout")


def get_config(arg=None):
  """One stage, `finetune`; a clip a chip and step, but for `context`."""
  options = common.parse_arg(arg, ARGUMENTS)
  batch_size = options.batch_size or options.chips // options.context
  if options.tpu not in REMAT:
    raise errors.ConfigError(
        f"tpu={options.tpu}; have: {', '.join(REMAT)}.")
  remat = options.remat or REMAT[options.tpu]
  model = dict(
      name="wan", preset=options.preset, source=options.weights,
      hold="float32" if options.full else "bfloat16",
      kw=dict(frames=options.frames, height=options.height,
              width=options.width, transformer=dict(
                  dtype="bfloat16", remat=remat, layers=options.layers)))
  lora = None if options.full else dict(
      rank=32, alpha=32.0, quantize="nf4" if options.qlora else None,
      match=r"blocks/.*(q|k|v|o|ffn_in|ffn_out)$")
  optimizer = common.optim(
      1e-5 if options.full else 1e-4, 100,
      weight_decay=1e-2 if options.full else 0.0)
  config = common.section(seed=0)
  config.finetune = common.section(
      stage="finetune", model=model, camera="ego_view", text_dropout=0.1,
      inputs=dict(demonstrations=options.demonstrations,
                  heldout=options.heldout),
      lora=lora, batch_size=8, evaluate_clips=8,
      sampler=common.section(steps=40, guidance=5.0, batch_size=4),
      train=common.train(
          CLIPS * EPOCHS // batch_size, batch_size, optimizer,
          trainable="^base/" if options.full else "^lora/",
          checkpoint_seconds=900.0,
          mesh=common.section(fsdp=-1, context=options.context)))
  return config.lock()
