"""Model state on disk: Orbax, written whole or not at all.

`save`/`load` hold one finished tree; `Series` holds a training's last steps,
with the data iterator's position beside the arrays. With several hosts, each
must call and writes what lies on its devices.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint.experimental.v1 as ocp

from dreamgen_jax import errors, hosts


def _abstract(target: Any) -> Any:
  """Shapes, dtypes and shardings of a tree; single-device where unsaid."""
  device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

  def describe(leaf):
    return jax.ShapeDtypeStruct(
        leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None)
        or device)

  return jax.tree.map(describe, target)


def save(path: str | os.PathLike, tree: Any, meta: dict[str, Any]) -> None:
  """Writes a tree of arrays and JSON-able facts; replaces what was there."""
  ocp.save_checkpointables(
      os.path.abspath(path),
      {"tree": tree, "meta": {"json": json.dumps(meta)}},
      overwrite=True,
  )


def load(path: str | os.PathLike, target: Any = None,
         lay: Callable[[Any], Any] | None = None) -> tuple[Any, dict]:
  """Reads what `save` wrote.

  Args:
    path: the checkpoint's folder.
    target: tree of arrays or jax.ShapeDtypeStruct to read into (its dtypes
      and shardings hold); None reads as it was saved, onto one device.
    lay: the tree's shapes -> shardings to read it onto.

  Raises:
    CheckpointError: missing, damaged, or of another structure or shape.
  """
  path = pathlib.Path(path).absolute()
  with _reading(path):
    saved = ocp.checkpointables_metadata(path).metadata["tree"]
    target = saved if target is None else target
    _check_shapes(path, saved, target)
    if lay:
      target = jax.tree.map(
          lambda leaf, sharding: jax.ShapeDtypeStruct(
              leaf.shape, leaf.dtype, sharding=sharding), target, lay(target))
    found = ocp.load_checkpointables(
        path, {"tree": _abstract(target), "meta": None})
    return found["tree"], json.loads(found["meta"]["json"])


@contextlib.contextmanager
def _reading(path: pathlib.Path) -> Iterator[None]:
  """Says in one sentence what went wrong inside."""
  if not path.is_dir():
    raise errors.CheckpointError(f"No checkpoint at {path}.")
  try:
    yield
  except errors.CheckpointError:
    raise
  except Exception as error:  # Orbax raises many kinds
    raise errors.CheckpointError(
        f"The checkpoint at {path} cannot be read ({_first_line(error)}); it "
        "is damaged or of another model. Delete the folder to make it again."
    ) from error


def meta(path: str | os.PathLike) -> dict[str, Any]:
  """The facts that `save` wrote, without the arrays.

  Raises:
    CheckpointError: see `load`.
  """
  path = pathlib.Path(path).absolute()
  with _reading(path):
    return json.loads(
        ocp.load_checkpointables(path, {"meta": None})["meta"]["json"])


def digest(tree: Any, facts: Mapping[str, Any]) -> str:
  """sha256 of what `load` gave, one array at a time.

  The files' own would not do: equal trees are written to different ones.
  """
  total = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    array = np.ascontiguousarray(leaf)
    total.update(f"{jax.tree_util.keystr(path)} {array.dtype} "
                 f"{array.shape}\0".encode())
    total.update(array.reshape(-1).view(np.uint8).data)
  return total.hexdigest()


def _check_shapes(path: pathlib.Path, saved: Any, target: Any) -> None:
  """Names the first parameters that differ between file and model."""
  have, want = ({
      jax.tree_util.keystr(key, simple=True, separator="/"): tuple(leaf.shape)
      for key, leaf in jax.tree_util.tree_leaves_with_path(tree)
  } for tree in (saved, target))
  wrong = [f"{name} is {have.get(name, 'absent')}, "
           f"not {want.get(name, 'there')}"
           for name in sorted(have.keys() | want.keys())
           if have.get(name) != want.get(name)]
  if wrong:
    raise errors.CheckpointError(
        f"The checkpoint at {path} is of another model: "
        f"{'; '.join(wrong[:3])}{' ...' if len(wrong) > 3 else ''}.")


def _first_line(error: BaseException) -> str:
  while error.__cause__:  # Orbax wraps what went wrong in what it tried
    error = error.__cause__
  text = str(error).strip().splitlines()
  return f"{type(error).__name__}: {text[0][:160]}" if text else repr(error)


class Series:
  """The last checkpoints of one training run, by step.

  Saving goes on in the background; what it meets is raised by the next call.
  """

  def __init__(self, folder: str | os.PathLike, keep: int = 2):
    """Two are kept, so that one is left if the last is damaged."""
    self._folder, self._keep = pathlib.Path(folder).absolute(), keep
    self._saving: Any = None
    self._checkpointer = self._open()

  def _open(self) -> ocp.training.Checkpointer:
    return ocp.training.Checkpointer(
        self._folder,
        save_decision_policy=(
            ocp.training.save_decision_policies.FixedIntervalPolicy(1)),
        preservation_policy=(
            ocp.training.preservation_policies.LatestN(self._keep)),
        cleanup_tmp_directories=True,  # those of killed runs
    )

  def __enter__(self) -> "Series":
    return self

  def __exit__(self, *unused: Any) -> None:
    try:
      self.wait()
    finally:
      self._checkpointer.close()

  @property
  def latest(self) -> int | None:
    """Step of the newest complete checkpoint, or None."""
    latest = self._checkpointer.latest
    return None if latest is None else latest.step

  def save(self, step: int, state: Any, meta: dict[str, Any]) -> None:
    """Copies the state off the devices; writes it in the background."""
    self.wait()
    self._saving = self._checkpointer.save_checkpointables_async(
        step, {"state": state, "meta": {"json": json.dumps(meta)}})

  def wait(self) -> None:
    """Until what is being saved is on disk."""
    saving, self._saving = self._saving, None
    if saving:
      saving.result()

  def restore(self, target: Any) -> tuple[int, Any, dict] | None:
    """(step, state, meta) of the newest checkpoint that can be read.

    Those that cannot are said and set aside. The state comes in the dtypes and
    shardings of `target`, whatever mesh or hosts it was saved on.

    Returns:
      None if there is no checkpoint.

    Raises:
      CheckpointError: there are some, and none can be read into `target`.
    """
    damaged: list[tuple[int, str]] = []
    for step in sorted((info.step for info in self._checkpointer.checkpoints),
                       reverse=True):
      try:
        found = self._checkpointer.load_checkpointables(
            step, {"state": _abstract(target), "meta": None})
        why = ""
      except Exception as error:  # Orbax raises many kinds
        why = _first_line(error) or "unreadable"
      if not hosts.every(not why):
        damaged.append((step, why or "another host cannot read it"))
        continue
      self._set_aside(damaged, step)
      return step, found["state"], json.loads(found["meta"]["json"])
    if damaged:
      raise errors.CheckpointError(
          f"Checkpoint {damaged[0][0]} in {self._folder} cannot be read "
          f"({damaged[0][1]}), and there is no good one before it; delete that "
          "folder to start over.")
    return None

  def _set_aside(self, damaged: list[tuple[int, str]], taken: int) -> None:
    if not damaged:
      return
    self._checkpointer.close()
    for step, why in damaged if hosts.first() else ():
      aside = self._folder / f"damaged-{step}"
      shutil.rmtree(aside, ignore_errors=True)
      (self._folder / str(step)).rename(aside)
      hosts.say(f"Checkpoint {step} in {self._folder} cannot be read ({why}); "
                f"it is now {aside.name}, and {taken} is taken instead.")
    hosts.barrier()
    self._checkpointer = self._open()
