"""One mesh, one table of rules per model, activations by shape letters."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils

from dreamgen_jax import errors

AXES = ("data", "fsdp", "context", "tensor")
P = jax.sharding.PartitionSpec

# Which mesh axes an activation dimension is split over, by its letter.
_LETTERS: dict[str, str | tuple[str, ...]] = {
    "b": ("data", "fsdp"), "l": "context", "w": "context",
    "n": "tensor"}


def mesh(sizes: Mapping[str, int],
         devices: Sequence[Any] | None = None) -> jax.sharding.Mesh:
  """The device mesh; one size may be -1 and takes the remaining devices.

  Slices, which only a slow network joins, part the outermost axis.

  Args:
    sizes: of the axes; those left out are 1.
    devices: to lay out; None takes all of the machine's.

  Raises:
    ConfigError: an unknown axis, or sizes that do not fit the device count.
  """
  unknown = set(sizes) - set(AXES)
  if unknown:
    raise errors.ConfigError(
        f"config.mesh names {sorted(unknown)}; the axes are {list(AXES)}.")
  devices = jax.devices() if devices is None else devices
  shape = [int(sizes.get(axis, 1)) for axis in AXES]
  count = len(devices)
  known = math.prod(size for size in shape if size != -1)
  if shape.count(-1) == 1 and known > 0 and count % known == 0:
    shape[shape.index(-1)] = count // known
  if min(shape) < 1 or math.prod(shape) != count:
    raise errors.ConfigError(
        f"config.mesh = {dict(zip(AXES, shape, strict=True))} does not "
        f"multiply to the {count} devices there are; set one axis to -1.")
  slices: dict[int, list[Any]] = {}
  for device in devices:
    slices.setdefault(getattr(device, "slice_index", 0) or 0, []).append(device)
  # The first axis that the slices part: data, or else fsdp.
  outer = next((i for i in (0, 1) if shape[i] % len(slices) == 0), None)
  if outer is None:
    raise errors.ConfigError(
        f"{len(slices)} slices part neither data = {shape[0]} nor fsdp = "
        f"{shape[1]} of config.mesh; make one a multiple of {len(slices)}.")
  part = [size // len(slices) if i == outer else size
          for i, size in enumerate(shape)]
  grids = [mesh_utils.create_device_mesh(
      part, each, allow_split_physical_axes=True)
           for _, each in sorted(slices.items())]
  return jax.sharding.Mesh(
      np.concatenate(grids, axis=outer), AXES,
      axis_types=(jax.sharding.AxisType.Auto,) * len(AXES))


def by_rules(tree: Any, rules: list[tuple[str, tuple]],
             on: jax.sharding.Mesh) -> Any:
  """NamedSharding per leaf: the first rule whose regex is found in its path.

  A rule names the axes of the last dimensions; leading (stacked) ones are
  whole. "fsdp" takes the devices that share a sample's tokens, too, so that
  none holds what another one does. An axis that does not divide its dimension
  is left out, scalars and vectors included, so that one table serves every
  size of a model.

  Raises:
    ConfigError: a leaf that no rule covers.
  """

  def shard(path, leaf):
    name = "/".join(_entry(entry) for entry in path)
    # The parts of a quantised kernel lie as the kernel would.
    name = re.sub(r"/kernel/(qvalue|scale)$", "/kernel", name)
    for pattern, axes in rules:
      if re.search(pattern, name):
        axes = axes[-leaf.ndim:] if leaf.ndim else ()
        spec = [None] * (leaf.ndim - len(axes)) + list(axes)
        return jax.sharding.NamedSharding(on, P(*(
            _fitting(on, axis, size)
            for axis, size in zip(spec, leaf.shape, strict=True))))
    raise errors.ConfigError(f"No sharding rule covers parameter {name!r}.")

  return jax.tree_util.tree_map_with_path(shard, tree)


def lay(tree: Any, rules: list[tuple[str, tuple]],
        on: jax.sharding.Mesh) -> Any:
  """Arrays, on the mesh by `rules`; each device is given its part alone."""
  return jax.device_put(tree, by_rules(tree, rules, on))


def make(function: Callable[[], Any], rules: list[tuple[str, tuple]],
         on: jax.sharding.Mesh) -> Any:
  """What `function` returns, computed where it is to lie."""
  shapes = jax.eval_shape(function)
  return jax.jit(function, out_shardings=by_rules(shapes, rules, on))()


def _fitting(on, axis, size):
  """The axis, or axes, that a rule's axis means for a dimension of a size."""
  wide = ("fsdp", "context")
  if axis == "fsdp" and on.shape["context"] > 1 and size % _extent(
      on, wide) == 0:
    return wide
  return axis if axis and size % _extent(on, axis) == 0 else None


def _entry(entry: Any) -> str:
  return str(getattr(entry, "key", getattr(entry, "name",
                                           getattr(entry, "idx", entry))))


def _extent(on: jax.sharding.Mesh | jax.sharding.AbstractMesh,
            axis: str | tuple[str, ...]) -> int:
  axes = (axis,) if isinstance(axis, str) else axis
  return math.prod(on.shape[a] for a in axes)


def place_batch(batch: dict[str, np.ndarray],
                on: jax.sharding.Mesh) -> dict[str, jax.Array]:
  """Host-local batch leaves to global arrays, split over data and fsdp.

  Raises:
    ConfigError: the batch size does not divide over those axes.
  """
  extent = _extent(on, ("data", "fsdp"))
  size = len(next(iter(batch.values()))) * jax.process_count()
  if size % extent:
    raise errors.ConfigError(
        f"Batch size {size} is not divisible by data*fsdp = {extent}; use a "
        f"multiple of {extent} or change config.mesh.")
  split = jax.sharding.NamedSharding(on, P(("data", "fsdp")))
  return {
      name: jax.make_array_from_process_local_data(split, np.asarray(leaf))
      for name, leaf in batch.items()
  }


def active() -> jax.sharding.AbstractMesh | None:
  """The mesh that a program is being traced for, if there is one."""
  on = jax.sharding.get_abstract_mesh()
  return on if set(on.axis_names) >= set(AXES) else None


def spec(shape: Sequence[int], letters: str,
         on: jax.sharding.Mesh | jax.sharding.AbstractMesh) -> P:
  """How an activation lies, by its shape letters; what does not divide, whole.
  """
  axes = [_LETTERS.get(letter) for letter in letters.split()]
  return P(*(axis if axis and size % _extent(on, axis) == 0 else None
             for axis, size in zip(axes, shape, strict=True)))


def constrain(x: jax.Array, letters: str) -> jax.Array:
  """Pins an activation to the mesh by its shape letters; no mesh, no effect."""
  on = active()
  if on is None:
    return x
  return jax.lax.with_sharding_constraint(x, spec(x.shape, letters, on))
