"""What all policies do alike with observations and chunks of actions."""

from typing import Any

import jax
import jax.numpy as jnp

from dreamgen_jax import errors, interfaces, types


def example(config: Any, batch_size: int,
            **more: tuple[tuple[int, ...], Any]) -> interfaces.Batch:
  """jax.ShapeDtypeStruct of the leaves of a policy's training batch.

  Args:
    config: the policy's; has cameras, image_size, n_obs_steps, horizon,
      action_dim and state_dim.
    batch_size: b.
    **more: leaves of the policy's own: name -> (shape without b, dtype).
  """
  b, o = batch_size, config.n_obs_steps
  chunk = (config.horizon, config.action_dim)
  leaves = {
      f"image/{camera}": ((o, *config.image_size, 3), jnp.uint8)
      for camera in config.cameras
  } | {
      "state": ((o, config.state_dim), jnp.float32),
      "state_mask": ((o,), jnp.bool_),
      "action": (chunk, jnp.float32),
      "mask": (chunk, jnp.bool_),
  } | more
  return {name: jax.ShapeDtypeStruct((b, *shape), dtype)
          for name, (shape, dtype) in leaves.items()}


def state_now(batch: interfaces.Batch, width: int) -> types.Array:
  """The last step's state f32[b,width], zero where it is unknown."""
  known = batch["state_mask"][:, -1:]
  return widen(jnp.where(known, batch["state"][:, -1], 0.0), width)


def withhold(rng: types.Array, state_mask: types.Array,
             share: float) -> types.Array:
  """Masks bool[b,o] with the whole state of a share of samples hidden.

  In demonstrations the hand is soon where it is going to: a policy that always
  knows where it is need not look for what it is told to go to.
  """
  if not share:
    return state_mask
  return state_mask & jax.random.bernoulli(
      rng, 1 - share, (len(state_mask), 1))


def check_withheld(config: Any) -> None:
  """Raises ConfigError: states are withheld from a network that has no flag."""
  if config.state_dropout and not config.state_flag:
    raise errors.ConfigError(
        "state_dropout needs state_flag = True, or the network cannot tell a "
        "missing state from a zero one.")


def widen(x: types.Array, width: int, value: float = 0.0) -> types.Array:
  """Pads the last axis to `width`."""
  sides = [(0, 0)] * (x.ndim - 1) + [(0, width - x.shape[-1])]
  return jnp.pad(x, sides, constant_values=value)


def check(config: Any, batch: interfaces.Batch) -> None:
  """Raises DataError: the batch's chunks are not those of a policy's config."""
  wanted = (config.horizon, config.action_dim)
  if batch["action"].shape[1:] != wanted:
    found = batch["action"].shape[1:]
    raise errors.DataError(
        f"The chunks have {found[0]} steps of {found[1]} values, and the "
        f"policy was made for {wanted[0]} steps of {wanted[1]}: give the data "
        "and the policy the same horizon and robot.")


def kept(batch: interfaces.Batch, before: int, width: int
         ) -> tuple[types.Array, types.Array] | None:
  """What a chunk has to begin with: (known, share), each f32[b,u,width].

  Args:
    batch: may have `kept` f32[b,u,a] and `kept_share` f32[b,u], from the
      current step on; None if it has not.
    before: steps that the network's chunk begins earlier.
    width: of its actions; the rest is free.
  """
  if "kept" not in batch:
    return None
  known = batch["kept"]
  share = jnp.broadcast_to(batch["kept_share"][..., None], known.shape)
  return tuple(widen(jnp.pad(leaf, ((0, 0), (before, 0), (0, 0))), width)
               for leaf in (known, share))


def mean(error: types.Array, share: types.Array,
         batch: interfaces.Batch) -> types.Array:
  """Mean of f32[b,u,a] by shares of that shape, and by the batch's `weight`."""
  share = weighed(share, batch)
  return jnp.sum(share * error) / jnp.maximum(jnp.sum(share), 1e-6)


def weighed(share: types.Array, batch: interfaces.Batch) -> types.Array:
  """Shares [b,u,a] times `weight`, f32[b] or f32[b,u], if there is one."""
  if "weight" not in batch:
    return share
  weight = batch["weight"]
  return share * weight.reshape(*weight.shape, *[1] * (3 - weight.ndim))


def keys(rng: types.Array, batch_size: int) -> types.Array:
  """One key or one per sample -> one per sample, key[b].

  What is drawn by a sample's own key does not depend on the batch it is in.
  """
  return rng if rng.ndim else jax.random.split(rng, batch_size)


def noise(rng: types.Array, batch_size: int,
          shape: tuple[int, ...]) -> types.Array:
  """Normal noise f32[b,*shape] by `keys`."""
  return jax.vmap(lambda key: jax.random.normal(key, shape))(
      keys(rng, batch_size))
