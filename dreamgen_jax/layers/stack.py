"""Identical blocks in a row: the one place of scan and rematerialisation."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from dreamgen_jax import errors, types
from dreamgen_jax.diffusion import reuse
from dreamgen_jax.layers import attention

_INPUT = "block_input"
_keep = jax.checkpoint_policies.save_only_these_names
_offload = jax.checkpoint_policies.save_and_offload_only_these_names
# What the backward pass may keep instead of computing it again.
POLICIES = {
    "full": None,  # nothing but each block's input
    "offload": _offload(  # nor that, but in the host's memory
        names_which_can_be_saved=[], names_which_can_be_offloaded=[_INPUT],
        offload_src="device", offload_dst="pinned_host"),
    "attention": _keep(attention.RESULTS),  # of long attention
    "attention_offload": _offload(  # both in the host's memory
        names_which_can_be_saved=[],
        names_which_can_be_offloaded=[_INPUT, attention.RESULTS],
        offload_src="device", offload_dst="pinned_host"),
    "attention_inputs": _keep(attention.RESULTS, attention.INPUTS),
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


def repeat(block: nn.Module, x: Any, *inputs: Any, depth: int,
           remat: str = "none") -> Any:
  """Applies `depth` copies of a block, each with parameters of its own.

  The parameters lie under the block's name, stacked along a first axis, and
  the loop is a scan, which compiles one block.

  Args:
    block: a module, not yet bound, with `__call__(x, *inputs) -> x`.
    x: what walks through the blocks.
    inputs: the same for every block; any of them may be None.
    depth: how many.
    remat: what the backward pass finds again instead of computing it: "none"
      keeps all there is; "full" each block's input; "offload" that, in the
      host's memory; "attention" the input and what attention gives;
      "attention_offload" both in the host's memory; "attention_inputs" what
      attention is given, too; "dots" the results of matrix products with
      weights.

  Raises:
    ConfigError: an unknown `remat`.
  """
  def body(block, x, unused, *inputs):
    return block(x, *inputs), None

  return _scan(body, remat, depth, inputs)(block, x, None, *inputs)[0]


def repeat_remembering(block: nn.Module, x: Any, memory: Any, *inputs: Any,
                       depth: int, remat: str = "none") -> tuple[Any, Any]:
  """As `repeat`, of blocks that each have a memory of their own.

  Args:
    block: as of `repeat`, with `__call__(x, memory, *inputs) -> (x, memory)`.
    x: what walks through the blocks.
    memory: what each block is given, stacked along a first axis; or None.
    inputs, depth, remat: as of `repeat`.

  Returns:
    (x, what the blocks return as their memory, stacked).
  """
  def body(block, x, memory, *inputs):
    return block(x, memory, *inputs)

  return _scan(body, remat, depth, inputs)(block, x, memory, *inputs)


def _scan(body, remat, depth, inputs):
  """The loop over body(block, x, what is each block's own, *inputs)."""
  if remat != "none":
    if remat not in POLICIES:
      raise errors.ConfigError(
          f"remat is {remat!r}; it can be none, {', '.join(POLICIES)}.")
    inner = body

    def named(block, x, *rest):
      x = jax.tree.map(lambda each: checkpoint_name(each, _INPUT), x)
      return inner(block, x, *rest)

    # Inside a scan the compiler cannot undo the recomputation by itself.
    body = nn.remat(named, policy=POLICIES[remat], prevent_cse=False)
  return nn.scan(
      body,
      variable_axes={"params": 0},
      split_rngs={"params": True, "dropout": True},
      in_axes=(0, *(nn.broadcast for _ in inputs)),
      length=depth,
  )


def remembered(module: nn.Module, blocks: Callable[[types.Array], types.Array],
               x: types.Array,
               memory: reuse.Memory | None = None) -> types.Array:
  """Runs blocks, or adds again what they added to their input before.

  Args:
    module: whose submodules the blocks are.
    blocks: x [b, l, d] -> the same shape.
    x: their input.
    memory: says which; None runs the blocks.
  """
  if memory is None:
    return blocks(x)
  factor, before = memory.recall(x)
  added = nn.cond(factor > 0, lambda _, x: before,
                  lambda _, x: blocks(x) - x, module, x)
  memory.keep(added)
  return x + jnp.where(factor > 0, factor, 1).astype(x.dtype) * added
