"""Serves a trained policy to robots and simulators.

  python -m dreamgen_jax.serve --checkpoint=runs/quickstart/policy_mixed
      --protocol=openpi|groot [--layout=droid|libero|aloha] [--host=ADDRESS]
      [--port=N] [--batch_size=N] [--deadline=SECONDS] [--api_key_file=FILE]
      [--debug]

openpi: observations with "observation/<camera>" (u8 images of any size),
"observation/state" and "prompt", or a layout's names; answers with "actions".
groot: "video.<camera>", "state.<key>", "annotation.human.action.
task_description"; answers with "action.<key>". Units are those of the policy's
robot. Requests that come together are computed together.
"""

import asyncio
import ipaddress
import pathlib
import sys
from typing import Any

from dreamgen_jax import errors, options

HELP = {
    "checkpoint": "folder of a train_policy stage",
    "protocol": "openpi (websocket) or groot (ZMQ)",
    "layout": "of openpi's observations: droid, libero or aloha; default: the "
              "policy's own names of cameras",
    "host": ("127.0.0.1", "address to listen at; 0.0.0.0 is every interface"),
    "port": (0, "0 is the protocol's own: 8000 or 5555"),
    "batch_size": (8, "most requests per call of the policy"),
    "deadline": (5.0, "seconds until a request is answered with an error"),
    "api_key_file": "file that holds the key which clients must send",
}
PORTS = {"openpi": 8000, "groot": 5555}


@options.program(__doc__, HELP, ("checkpoint",))
def main(given: Any) -> None:
  """Runs the program."""
  if given.protocol not in PORTS:
    raise errors.ConfigError(
        f"Unknown protocol {given.protocol!r}; have: {', '.join(PORTS)}.")
  if given.layout and given.protocol != "openpi":
    raise errors.ConfigError("--layout goes with --protocol=openpi.")
  if given.batch_size < 1 or not given.deadline > 0:
    raise errors.ConfigError("--batch_size and --deadline must be positive.")
  key = _key(given.api_key_file)
  if not key and not _loopback(given.host):
    print(f"Anyone who reaches {given.host} can use this policy; "
          "--api_key_file asks them for a key.", flush=True)
  folder = pathlib.Path(given.checkpoint)
  try:
    from dreamgen_jax import runtime  # brings JAX
    from dreamgen_jax.serving import endpoint
    from dreamgen_jax.stages import policies

    import_module(given.protocol)
  except ModuleNotFoundError as error:
    raise errors.ConfigError(
        f"Serving needs the package {error.name}: pip install "
        "'dreamgen_jax[serve]'.") from error
  runtime.start(folder.parent / ".compile_cache")
  ready = endpoint.Endpoint(policies.load(folder), batch_size=given.batch_size)
  print("Compiling ...", flush=True)
  ready.warm()
  asyncio.run(_serve(given, ready, key))


async def _serve(given: Any, endpoint: Any, key: str) -> None:
  """Listens until the process ends."""
  from dreamgen_jax.serving import batch

  host, port = given.host, given.port or PORTS[given.protocol]
  module = import_module(given.protocol)
  async with batch.Batcher(endpoint, given.batch_size,
                           given.deadline) as batcher:
    print(f"Serving {given.protocol} at {host}:{port}", flush=True)
    if given.protocol == "groot":
      await module.Service(endpoint, batcher, key).serve(host, port)
      return
    c = endpoint.agent.model.config
    reader = module.Reader(c.cameras, given.layout or "")
    service = module.Service(endpoint, batcher, reader, {
        "robot": endpoint.agent.robot.name, "cameras": list(c.cameras),
        "action_horizon": c.horizon - c.n_obs_steps + 1,
        "control_hz": endpoint.agent.robot.clock.control_hz}, key)
    async with service.serve(host, port) as listener:
      await listener.serve_forever()


def import_module(protocol: str) -> Any:
  """The protocol's module; its packages are an extra."""
  import importlib

  return importlib.import_module(f"dreamgen_jax.serving.{protocol}")


def _key(path: str | None) -> str:
  if not path:
    return ""
  try:
    key = pathlib.Path(path).read_text().strip()
  except (OSError, UnicodeDecodeError) as error:
    raise errors.ConfigError(f"The key file {path} cannot be read.") from error
  if not key:
    raise errors.ConfigError(f"The key file {path} is empty.")
  return key


def _loopback(host: str) -> bool:
  try:
    return ipaddress.ip_address(host).is_loopback
  except ValueError:
    return host == "localhost"


if __name__ == "__main__":
  sys.exit(main())
