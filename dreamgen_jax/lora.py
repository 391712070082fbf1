"""Low-rank adapters (arXiv 2106.09685) for linear layers that know nothing.

An adapter of a layer y = x W + b adds (alpha / rank) x A B. Adapters are a
tree of their own, {"lora_a": [..., in, rank], "lora_b": [..., rank, out]} at
the layer's path; layers stacked along a first axis have stacked adapters.
There are two ways to use them, equal but for rounding:

  merge    the base's parameters plus the products: for inference.
  adapted  the layers' calls are intercepted: for training, as it neither
           holds a second copy of the base nor its gradient.
"""

import dataclasses
import re
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from dreamgen_jax import errors, interfaces, paths, types


@dataclasses.dataclass(frozen=True)
class Config:
  """What to adapt, and how much.

  Attributes:
    rank: columns of A.
    alpha: the adapter's strength is alpha / rank.
    match: regex, or several, searched in the "/"-joined paths of layers.
    quantize: how the frozen base is held while they train: one of
      `quantize.KINDS`, or None for as it is.
  """

  rank: int
  alpha: float
  match: str | tuple[str, ...]
  quantize: str | None = None

  @property
  def scale(self) -> float:
    """Factor of the product A B."""
    return self.alpha / self.rank


def targets(params: interfaces.Params, config: Config) -> dict[str, Any]:
  """Path of each matched linear layer -> its kernel [..., in, out].

  Raises:
    ConfigError: patterns that match no linear layer, listed.
  """
  kernels = {
      path.removesuffix("/kernel"): leaf
      for path, leaf in paths.flatten(params).items()
      if path.endswith("/kernel")
  }
  match = config.match
  patterns = (match,) if isinstance(match, str) else tuple(match)
  found: dict[str, Any] = {}
  idle = []
  for pattern in patterns:
    hits = {path: kernel for path, kernel in kernels.items()
            if re.search(pattern, path)}
    if not hits:
      idle.append(pattern)
    found |= hits
  if idle or not found:
    raise errors.ConfigError(
        f"No layer matches the adapter pattern {', '.join(idle) or '()'}; "
        f"layers are, for example, {', '.join(list(kernels)[:4])}."
    )
  wrong = [path for path, kernel in found.items() if kernel.ndim not in (2, 3)]
  if wrong:
    raise errors.ConfigError(
        f"Adapters fit linear layers; {', '.join(wrong[:4])} is none."
    )
  return found


def init(
    rng: types.Array, params: interfaces.Params, config: Config
) -> interfaces.Params:
  """Fresh adapters that change nothing: A is random, B is zero.

  A layer's draw depends on the key and on its path alone.

  Raises:
    ConfigError: see `targets`.
  """
  tree = {}
  for path, kernel in targets(params, config).items():
    *stack, inputs, outputs = kernel.shape
    key = jax.random.fold_in(rng, zlib.crc32(path.encode()))
    bound = inputs**-0.5
    tree[f"{path}/lora_a"] = jax.random.uniform(
        key, (*stack, inputs, config.rank), jnp.float32, -bound, bound)
    tree[f"{path}/lora_b"] = jnp.zeros(
        (*stack, config.rank, outputs), jnp.float32)
  return paths.unflatten(tree)


def merge(
    params: interfaces.Params, adapters: interfaces.Params, config: Config
) -> interfaces.Params:
  """The base's parameters with every adapter added into its kernel.

  Raises:
    ConfigError: adapters without a layer of their shape in `params`.
  """
  return merge_all(params, [(adapters, config.scale)])


def merge_all(
    params: interfaces.Params,
    parts: Sequence[tuple[interfaces.Params, float]],
) -> interfaces.Params:
  """As `merge`, of several (adapters, factor of A B); rounded once.

  The changes are added up in the order given.

  Raises:
    ConfigError: see `merge`.
  """
  flat = paths.flatten(params)
  products: dict[str, list[tuple[Any, Any, float]]] = {}
  for adapters, factor in parts:
    for path, a, b in _pairs(flat, adapters):
      products.setdefault(path, []).append((a, b, factor))
  for path, found in products.items():
    kernel = flat[f"{path}/kernel"]
    lies = getattr(kernel, "sharding", None)
    spread = lies is not None and len(lies.device_set) > 1
    # Where the kernel lies on many devices, no one holds all of its change.
    add = jax.jit(_added, out_shardings=lies) if spread else _added
    flat[f"{path}/kernel"] = add(kernel, found)
  return paths.unflatten(flat)


def _added(kernel, products):
  change, *others = (factor * jnp.matmul(a, b, precision="highest")
                     for a, b, factor in products)
  for other in others:
    change = change + other
  return (kernel + change).astype(kernel.dtype)


def check(params: interfaces.Params, adapters: interfaces.Params) -> None:
  """Raises ConfigError: adapters without a layer of their shape in `params`."""
  _pairs(paths.flatten(params), adapters)


def adapted(
    function: Callable[..., Any], config: Config
) -> Callable[..., Any]:
  """A function of parameters as one of (base, adapters).

  Args:
    function: (params, *inputs) -> anything, that calls Linen modules. Apply
      `jit` outside, since a compiled function is not called again.
    config: of the adapters.

  Returns:
    (params, adapters, *inputs) -> the same, with adapters in place; raises
    ConfigError where adapters fit no layer or were never called.
  """

  def call(params, adapters, *inputs, **named):
    flat = paths.flatten(params)
    pairs = _pairs(flat, adapters)
    joined = paths.unflatten({**flat, **paths.flatten(adapters)})
    used: set[str] = set()

    def intercept(next_call, args, kwargs, context):
      y = next_call(*args, **kwargs)
      module = context.module
      if (
          context.method_name != "__call__"
          or not isinstance(module, nn.Dense)
          or not module.has_variable("params", "lora_a")
      ):
        return y
      used.add("/".join(module.path))
      a = module.get_variable("params", "lora_a").astype(y.dtype)
      b = module.get_variable("params", "lora_b").astype(y.dtype)
      return y + config.scale * ((args[0].astype(y.dtype) @ a) @ b)

    with nn.intercept_methods(intercept):
      out = function(joined, *inputs, **named)
    idle = [path for path, _, _ in pairs
            if not any(_ends(path, seen) for seen in used)]
    if idle:
      raise errors.ConfigError(
          f"{len(pairs) - len(idle)} of {len(pairs)} adapters applied; no "
          f"linear layer was called at {', '.join(idle[:8])}."
      )
    return out

  return call


def _ends(path, tail):
  return path == tail or path.endswith(f"/{tail}")


def _pairs(flat, adapters):
  """[(layer's path, A, B)], all of which fit a kernel in `flat`."""
  leaves = paths.flatten(adapters)
  pairs, wrong = [], []
  for name, a in leaves.items():
    if not name.endswith("/lora_a"):
      continue
    path = name.removesuffix("/lora_a")
    b, kernel = leaves[f"{path}/lora_b"], flat.get(f"{path}/kernel")
    product = (*a.shape[:-1], b.shape[-1])
    if kernel is None or tuple(kernel.shape) != product:
      wrong.append(f"{path} {product}")
    pairs.append((path, a, b))
  if wrong or not pairs:
    raise errors.ConfigError(
        f"{len(pairs) - len(wrong)} of {len(pairs)} adapters fit the model; "
        f"these do not: {', '.join(wrong[:8])}."
    )
  return pairs
