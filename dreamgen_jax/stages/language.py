"""Language for policies: a world model's text encoder, or a tokenizer alone."""

from collections.abc import Mapping
from typing import Any

from dreamgen_jax import agent, dreamer
from dreamgen_jax.encoders import tokenizer_files
from dreamgen_jax.stages import world_model


def load(spec: Mapping[str, Any]) -> agent.Language:
  """What a section `text` names.

  Args:
    spec: `dict(name=, preset=, source=)` of a world model, or
      `dict(tokenizer=FILE)` for policies that need no more.
  """
  if "tokenizer" in spec:
    return agent.Language(tokenizer_files.load(spec["tokenizer"]))
  loaded = world_model.load_base(spec, parts=("text",))

  def encode(prompts):
    return dreamer.encode_prompts(
        loaded.model, loaded.params, loaded.tokenizer, prompts)["text"]

  return agent.Language(loaded.tokenizer, encode)
