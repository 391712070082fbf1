"""A frozen base in 8 or 4 bits, on which adapters train (arXiv 2305.14314).

Only kernels of stacked linear layers are quantised: they are nearly all of a
transformer, and what lies outside the stack is sensitive. Such a kernel is a
`qwix.QArray` in the place of an array: integers in the kernel's shape, and
scales. A layer's kernel is restored where it is used, one layer at a time.

  int8  one scale per layer and output
  nf4   16 levels at a normal distribution's quantiles; a scale per 64 inputs
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import qwix
from flax import linen as nn

from dreamgen_jax import errors, interfaces, paths

KINDS = ("int8", "nf4")
_TILE = 64  # inputs that share a scale of nf4


def quantize(params: interfaces.Params, kind: str) -> interfaces.Params:
  """Parameters with each stacked kernel [layers, in, out] as a QArray.

  Runs layer by layer. numpy arrays stay on the host, and no device ever holds
  all of the unquantised base; what lies on a mesh stays there.

  Args:
    params: of a transformer.
    kind: one of `KINDS`.

  Raises:
    ConfigError: an unknown kind, or no kernel to quantise.
  """
  if kind not in KINDS:
    raise errors.ConfigError(
        f"A base cannot be quantised to {kind!r}; have: {', '.join(KINDS)}.")
  flat, stacks = _stacks(params)
  if not stacks:
    raise errors.ConfigError(
        "The base has no stacked linear layers to quantise.")
  for path in stacks:
    if isinstance(flat[path], jax.Array):
      flat[path] = _layers(kind, flat[path])
      continue
    layers = [jax.tree.map(np.asarray, _ONE[kind](np.asarray(layer)))
              for layer in flat[path]]
    flat[path] = jax.tree.map(lambda *parts: np.stack(parts), *layers)
  return paths.unflatten(flat)


def shapes(params: interfaces.Params, kind: str) -> interfaces.Params:
  """What `quantize` makes of jax.ShapeDtypeStructs, without computing it."""
  flat, stacks = _stacks(params)
  for path in stacks:
    count, *rest = flat[path].shape
    one = jax.eval_shape(
        _ONE[kind], jax.ShapeDtypeStruct(rest, flat[path].dtype))
    flat[path] = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(
        (count, *leaf.shape), leaf.dtype), one)  # noqa: B023  used at once
  return paths.unflatten(flat)


def _stacks(params):
  """(flat parameters, the paths of stacked kernels)."""
  flat = paths.flatten(params)
  return flat, [path for path, leaf in flat.items()
                if path.endswith("/kernel") and leaf.ndim == 3]


@jax.jit
def _int8(kernel):
  return qwix.quantize(
      kernel.astype(jnp.float32), jnp.int8, channelwise_axes=(1,))


@jax.jit
def _nf4(kernel):
  tile = math.gcd(kernel.shape[0], _TILE)
  return qwix.quantize(kernel.astype(jnp.float32), "nf4",
                       channelwise_axes=(1,), tiled_axes={0: tile})


_ONE = {"int8": _int8, "nf4": _nf4}


@functools.partial(jax.jit, static_argnums=0)
def _layers(kind, stack):
  return jax.lax.map(_ONE[kind], stack)


def aware(function: Callable[..., Any]) -> Callable[..., Any]:
  """A function of parameters as one whose kernels may be quantised.

  Args:
    function: (params, ...) -> anything, that calls Linen modules. Apply `jit`
      outside, since a compiled function is not called again.
  """

  def intercept(next_call, args, kwargs, context):
    module = context.module
    if context.method_name != "__call__" or not isinstance(module, nn.Dense):
      return next_call(*args, **kwargs)
    params = module.variables["params"]
    if not isinstance(params.get("kernel"), qwix.QArray):
      return next_call(*args, **kwargs)

    # Without this, a scan keeps every layer's restored kernel for the
    # backward pass: the whole base in full, which is what we came to avoid.
    @jax.checkpoint
    def run(params, x):
      kernel = qwix.dequantize(params["kernel"])
      return module.clone(parent=None).apply(
          {"params": {**params, "kernel": kernel}}, x)

    return run({name: leaf for name, leaf in params.items()
                if name in ("kernel", "bias")}, *args, **kwargs)

  def call(*args, **kwargs):
    with nn.intercept_methods(intercept):
      return function(*args, **kwargs)

  return call


def size(params: interfaces.Params) -> int:
  """Bytes that a device holds; two values of 4 bits share one."""
  return sum(leaf.size * _bits(leaf.dtype) // 8
             for leaf in jax.tree.leaves(params))


def _bits(dtype):
  return jnp.iinfo(dtype).bits if jnp.issubdtype(dtype, jnp.integer) else (
      8 * np.dtype(dtype).itemsize)
