"""Process set-up: the compile cache, several hosts, versions."""

import importlib.metadata
import logging
import os
import pathlib
import platform

import jax

from dreamgen_jax import hosts, tpu_flags

_PACKAGES = ("dreamgen_jax", "jax", "jaxlib", "flax", "optax",
             "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy",
             "mujoco")


def start(cache_folder: pathlib.Path | None = None) -> None:
  """Joins a pod's other hosts and turns the compile cache on."""
  tpu_flags.add()
  # Orbax tells too much, and raises the errors that it tells.
  logging.getLogger("absl").setLevel(logging.CRITICAL)
  hosts.join()
  if cache_folder:
    jax.config.update("jax_compilation_cache_dir", str(cache_folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    # XLA's own cache for GPUs would make the folder's name part of every key,
    # so that a workdir that is moved or mounted elsewhere compiled anew.
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")


def versions() -> dict[str, str]:
  """Versions of what a result depends on."""
  found = {"python": platform.python_version()}
  for package in _PACKAGES:
    try:
      found[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found


def machine() -> str:
  """The devices and the host in words."""
  devices = jax.devices()
  return (f"{len(devices)} x {devices[0].device_kind}, "
          f"{os.cpu_count()} CPU cores, {platform.system()}")
