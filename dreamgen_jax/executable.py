"""Compiled programs on disk: what `plan --save` made, a run need not compile.

A file says which program it holds, by the text that the compiler was given, in
which all is written that its results depend on; no other one is ever run. Load
only files that you made: they can hold any code.
"""

import hashlib
import pathlib
import pickle
from collections.abc import Callable
from typing import Any

import jax
from jax.experimental import serialize_executable

from dreamgen_jax import errors, hosts


def lower(function: Any, arguments: tuple[Any, ...],
          platform: str | None = None) -> jax.stages.Lowered:
  """`function` of `jax.jit`, lowered; its text is the same wherever code lies.

  Args:
    function: see above.
    arguments: arrays, or their shapes.
    platform: to compile for; None is the machine's.
  """
  # Kernels carry the paths of their sources.
  key = "jax_hlo_source_file_canonicalization_regex"
  before = getattr(jax.config, key)
  jax.config.update(key, ".*/")
  try:
    return function.trace(*arguments).lower(
        lowering_platforms=(platform,) if platform else None)
  finally:
    jax.config.update(key, before)


def digest(lowered: jax.stages.Lowered) -> str:
  """Of the program's text."""
  return hashlib.sha256(lowered.as_text().encode()).hexdigest()


def write(path: pathlib.Path, compiled: jax.stages.Compiled,
          text: str) -> None:
  """Writes a program; `text` is the digest of what it was compiled from."""
  path.write_bytes(pickle.dumps(
      (text, *serialize_executable.serialize(compiled))))


def prefer(path: str, function: Any, arguments: tuple[Any, ...],
           on: jax.sharding.Mesh) -> Callable[..., Any]:
  """`function`, by the program in a file if that is what the file holds.

  Where it holds another one, since config, code or versions have changed, this
  is said, and `function` is returned.

  Args:
    path: the file.
    function: of `jax.jit`.
    arguments: of its first call. Later ones whose last argument is of other
      shapes, such as batches of longer clips, go to `function`.
    on: the mesh that they lie on.

  Raises:
    ConfigError: there is no such file.
  """
  if not pathlib.Path(path).is_file():
    raise errors.ConfigError(
        f"There is no compiled program at {path}; write it by "
        "`python -m dreamgen_jax.plan ... --save=FILE`.")
  text, payload, given, returned = pickle.loads(
      pathlib.Path(path).read_bytes())
  if not hosts.every(text == digest(lower(function, arguments))):
    hosts.say(f"{path} holds another program than this config, code and these "
              "versions make; compiling anew.")
    return function
  hosts.say(f"The program is read from {path}.")
  ready = serialize_executable.deserialize_and_load(
      payload, given, returned, execution_devices=list(on.devices.flat))
  shapes = _shapes(arguments[-1])

  def run(*values):
    return (ready if _shapes(values[-1]) == shapes else function)(*values)

  return run


def _shapes(tree):
  return [leaf.shape for leaf in jax.tree.leaves(tree)]
