"""Policies as stages find them: built from a config, or from a checkpoint."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import jax

from dreamgen_jax import agent as agent_lib
from dreamgen_jax import checkpoint, errors, interfaces, registry, types
from dreamgen_jax.data import dataset, normalize
from dreamgen_jax.stages import language, models


def load(folder: pathlib.Path) -> agent_lib.Agent:
  """The agent of a policy checkpoint.

  Raises:
    CheckpointError: the checkpoint is missing or damaged.
  """
  params, facts = checkpoint.load(folder / "checkpoint")
  known = _units(facts)
  said = facts["embodiment"]  # a name in checkpoints that are older
  robot = (registry.find("embodiments", said).EMBODIMENT
           if isinstance(said, str) else dataset.embodiment_from_dict(said))
  # Latent actions are as wide as the labeler makes them.
  robot = dataclasses.replace(robot, action=known["action"].keys)
  words = language.load(facts["text"])
  return agent_lib.Agent(
      model=build(facts["model"], robot, facts["cameras"], words),
      params=params, language=words,
      embodiment=facts.get("embodiment_id", robot.id), robot=robot,
      action=known["action"], state=known.get("state"))


def units(folder: pathlib.Path) -> dict[str, normalize.Normalizer]:
  """The normalizers "action" and, if it saw states, "state" of a checkpoint.

  Raises:
    CheckpointError: the checkpoint is missing or damaged.
  """
  return _units(checkpoint.meta(folder / "checkpoint"))


def _units(facts: Mapping[str, Any]) -> dict[str, normalize.Normalizer]:
  return {kind: normalize.Normalizer.from_json(facts[kind])
          for kind in ("action", "state") if facts[kind]}


def build(spec: Any, robot: Any, cameras: Any,
          words: agent_lib.Language) -> Any:
  """The policy of a config's `model` section for a robot."""
  decided = {"action_dim": robot.action_dim, "state_dim": robot.state_dim,
             "cameras": tuple(cameras)}
  fields = dataclasses.fields(registry.find("policies", spec["name"]).Config)
  if "text_dim" in (field.name for field in fields):
    decided["text_dim"] = words.text_dim
  return models.build("policies", spec, **decided)


def keys(own: tuple[types.Key, ...], config: Any) -> tuple[types.Key, ...]:
  """A robot's keys, with positions scaled as the policy's config says."""
  way = getattr(config, "normalize", None)
  if way is None:
    return own
  return tuple(
      dataclasses.replace(key, normalize=way)
      if key.kind == "position" and key.normalize != "identity" else key
      for key in own)


def start(spec: Any, model: interfaces.Policy, rng: jax.Array,
          earlier: pathlib.Path | None = None) -> interfaces.Params:
  """Parameters to train from.

  Args:
    spec: a section `model`; its `source`, if it has one, is a release's folder.
    model: the policy.
    rng: for fresh parameters.
    earlier: folder of a run of `train_policy`, which takes precedence.

  Raises:
    CheckpointError: the folder is missing, or does not fit the model.
  """
  if earlier:
    target = jax.eval_shape(model.init, rng)
    return checkpoint.load(earlier / "checkpoint", target)[0]
  if not spec.get("source"):
    return jax.jit(model.init)(rng)  # half the time of one by one
  return registry.find("policies", spec["name"]).load(
      spec["source"], model.config)


def embodiments(model: interfaces.Policy, own: Mapping[str, int],
                chosen: Mapping[str, int]) -> dict[str, int]:
  """Input -> id that tells its robot to the policy, see `interfaces.Policy`.

  Args:
    model: the policy.
    own: input -> its robot's id, which is the policy's unless chosen.
    chosen: input -> id. Neural trajectories may be an embodiment of their own.

  Raises:
    ConfigError: an unknown input, or an id that the policy has no weights of.
  """
  unknown = sorted(set(chosen) - set(own))
  if unknown:
    raise errors.ConfigError(
        f"embodiment_ids names {unknown[0]!r}, which is no input; have: "
        f"{', '.join(own)}." + registry.nearest(unknown[0], list(own)))
  if chosen and not hasattr(model.config, "embodiments"):
    raise errors.ConfigError(
        "This policy has no weights per embodiment; leave embodiment_ids out.")
  found = {**own, **chosen}
  for name, row in found.items():
    check_embodiment(model, row, name)
  return found


def check_embodiment(model: interfaces.Policy, row: int, whose: str) -> None:
  """Raises ConfigError: the policy has no weights of this embodiment."""
  count = getattr(model.config, "embodiments", None)
  if count is not None and not 0 <= row < count:
    raise errors.ConfigError(
        f"{whose} has the embodiment id {row}, but the policy has weights of "
        f"{count} embodiments, 0 to {count - 1}; let embodiment_ids choose "
        "one of them for this input.")


def acting(robot: Any, chosen: Mapping[str, int]) -> int:
  """The id to act with: the robot's own if it was trained, else the only one.

  Raises:
    ConfigError: there are several others.
  """
  others = sorted(set(chosen.values()))
  if robot.id in others:
    return robot.id
  if len(others) > 1:
    raise errors.ConfigError(
        f"No input has the id of {robot.name}, {robot.id}, and several others "
        f"were chosen, {', '.join(map(str, others))}: whose weights are to "
        "act? Give one input the robot's own, or all the same.")
  return others[0]
