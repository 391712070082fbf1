"""Policies that learn by adapters while their base, or most of it, is frozen.

`config.lora` is one `dict(rank=, alpha=, match=)` or several, of one alpha /
rank; `config.train.trainable` then chooses among "lora/..." and "base/...".
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from dreamgen_jax import errors, interfaces, lora, optim, paths, types


@dataclasses.dataclass(frozen=True)
class Adapted:
  """A policy that runs with adapters; parameters {"base", "lora"}.

  Attributes:
    model: the policy.
    configs: of its adapters; of equal scale.
  """

  model: interfaces.Policy
  configs: tuple[lora.Config, ...]

  def __post_init__(self):
    scales = {config.scale for config in self.configs}
    if len(scales) > 1:
      raise errors.ConfigError(
          f"Adapters of one policy share alpha / rank; found {scales}.")
    if any(config.quantize for config in self.configs):
      raise errors.ConfigError(
          "A policy's base is not quantised; leave lora.quantize out.")

  def start(self, base: interfaces.Params, rng: jax.Array, trainable: str,
            frozen_dtype: str | None = None) -> interfaces.Params:
    """Fresh adapters beside the base.

    Args:
      base: the policy's parameters.
      rng: key.
      trainable: regex of the paths that are trained.
      frozen_dtype: of the others; None keeps theirs.
    """
    params = {"base": base, "lora": paths.unflatten({
        path: leaf for config in self.configs
        for path, leaf in paths.flatten(
            lora.init(rng, base, config)).items()})}
    if frozen_dtype is None:
      return params
    return jax.tree.map(
        lambda trained, leaf: leaf if trained else leaf.astype(frozen_dtype),
        optim.path_mask(params, trainable), params)

  def loss(
      self, params: interfaces.Params, rng: types.Array,
      batch: interfaces.Batch
  ) -> tuple[types.Array, dict[str, types.Array]]:
    """As the policy's."""
    return lora.adapted(self.model.loss, self.configs[0])(
        params["base"], params["lora"], rng, batch)

  def merged(self, params: interfaces.Params) -> interfaces.Params:
    """The policy's parameters, adapters added in."""
    return lora.merge(params["base"], params["lora"], self.configs[0])


def adapt(model: interfaces.Policy,
          settings: Mapping[str, Any] | Sequence[Mapping[str, Any]]
          ) -> Adapted:
  """The policy with adapters as `config.lora` says."""
  several = [settings] if isinstance(settings, Mapping) else settings
  return Adapted(model, tuple(lora.Config(**each) for each in several))
