"""Sentence vectors for policies, from a world model's text encoder."""

from collections.abc import Mapping
from typing import Any

from dreamgen_jax import agent, dreamer
from dreamgen_jax.stages import world_model


def sentences(spec: Mapping[str, Any]) -> agent.Sentences:
  """Vectors by the text encoder of `dict(name=, preset=, source=)`."""
  loaded = world_model.load_base(spec, parts=("text",))

  def encode(prompts):
    return dreamer.encode_prompts(
        loaded.model, loaded.params, loaded.tokenizer, prompts)["text"]

  return agent.Sentences(encode)
