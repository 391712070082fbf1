"""Tests of the stage that makes prompts of recordings."""

import json
import types

import numpy as np
import pytest

from configs import common
from dreamgen_jax import endpoint, errors
from dreamgen_jax.data import rlds
from dreamgen_jax.stages import prompts
from tests.data import conftest as sticks


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
  root = tmp_path_factory.mktemp("inputs")
  for k, name in enumerate(("lab", "kitchen")):
    rlds.write(root / name / "data", name, [
        sticks.make_episode(10 * k + i, 9) for i in range(3)],
        sticks.EMBODIMENT)
  return {name: root / name for name in ("lab", "kitchen")}


def config(**changes):
  return common.section(**dict(
      stage="prompts", episodes=12, when="any", first_seed=7,
      cameras=("front",), own=False, templates=("{verb} the {object}",),
      words=dict(verb=("push", "pull"), object=("cup", "box", "bin")),
      lists=(), endpoint=None, editor=None, shards=2) | changes)


def test_frames_of_any_time_and_every_instruction(inputs, tmp_path):
  found = prompts.run(config(), inputs, tmp_path / "prompts")
  made = rlds.Dataset(tmp_path / "prompts" / "data")
  assert found["prompts"] == len(made) == 12 and found["instructions"] == 6
  episodes = [made.episode(i) for i in range(12)]
  told = [episode.instruction for episode in episodes]
  assert sorted(told) == sorted(list(set(told)) * 2) and len(set(told)) == 6
  assert {episode.facts["frame"] for episode in episodes} > {0}
  assert {episode.origin.dataset for episode in episodes} == {
      "lab", "kitchen"}
  sources = {name: rlds.Dataset(path / "data")
             for name, path in inputs.items()}
  for i, episode in enumerate(episodes):
    frame = episode.facts["frame"]
    source = sources[episode.origin.dataset]
    origin = source.episode(source.position(episode.origin.source_id))
    assert len(episode.video["front"]) == 1 and list(episode.video) == [
        "front"]
    error = (episode.video["front"][0].astype(int)
             - origin.video["front"][frame].astype(int))
    assert np.abs(error).max() <= 8
    # Controls run at twice the video's rate.
    np.testing.assert_array_equal(episode.state, origin.state[2 * frame][None])
    assert episode.action is None and episode.origin.seed == 7 + i
  table = json.loads((tmp_path / "prompts" / "coverage.json").read_text())
  assert sum(table["counts"].values()) == 12
  again = prompts.run(config(), inputs, tmp_path / "again")
  assert again["digest"] == found["digest"]


def test_no_two_are_alike(inputs, tmp_path):
  # Three first frames of one input, one instruction: three prompts at most.
  found = prompts.run(
      config(when="first", templates=("wave",), shards=1),
      {"lab": inputs["lab"]}, tmp_path / "prompts")
  assert (found["prompts"], found["asked"]) == (3, 12)


def test_models_write_and_edit(inputs, tmp_path, monkeypatch):
  asked = []

  def chat(self, text):
    asked.append((self.url, text))
    return "1. Push the cup\n2. lift the lid\n"

  monkeypatch.setattr(endpoint.Endpoint, "chat", chat)
  monkeypatch.setattr(endpoint.Endpoint, "edit",
                      lambda self, image, text: 255 - image)
  service = dict(url="http://localhost/v1", model="m")
  made = config(
      episodes=8, own=True, templates=(), endpoint=dict(
          service=service, count=2, about="A kitchen."),
      editor=dict(service=service, texts=("at night",), share=0.5))
  (tmp_path / "prompts").mkdir()
  prompts.run(made, inputs, tmp_path / "prompts")
  prompts.run(made, inputs, tmp_path / "prompts")
  assert len(asked) == 1 and "2 different" in asked[0][1]  # it was kept
  found = rlds.Dataset(tmp_path / "prompts" / "data")
  episodes = [found.episode(i) for i in range(len(found))]
  by = {episode.facts["told_by"] for episode in episodes}
  assert by == {"endpoint", "episode"}
  edited = {episode.facts["edit"] for episode in episodes}
  assert edited == {"", "at night"}
  for episode in episodes:
    blue = episode.video["front"][0, 0, 0, 2]  # 0 as recorded
    assert (blue > 200) == bool(episode.facts["edit"])


def test_frames_that_show_another_pose_are_left_out(
    inputs, tmp_path, monkeypatch):
  half = np.array([0.5, 0.5, 0.5])

  class Eye:
    """Sees the recorded state, but for one episode's."""

    digest = "abc"
    state_normalizer = types.SimpleNamespace(apply=lambda x: x / half)

    def states(self, video):
      # The colours name the frame and the episode.
      red, green, _ = video["front"][0, 0, 0]
      episode = sticks.make_episode(round(green / 40), 9)
      state = episode.state[2 * round(red / 20)]
      return (state + (0.4 if round(green / 40) == 1 else 0.04))[None]

  monkeypatch.setattr(prompts.labelers, "load", lambda *unused: Eye())
  found = prompts.run(
      config(pose_error=0.1), {"lab": inputs["lab"], "labeler": tmp_path},
      tmp_path / "prompts")
  made = rlds.Dataset(tmp_path / "prompts" / "data")
  assert 0 < found["prompts"] == 12 - found["rejected"] < 12
  for i in range(len(made)):
    episode = made.episode(i, ())
    assert episode.origin.source_id != "episode_1"
    assert episode.facts["pose_error"] == pytest.approx(0.04, abs=1e-3)


@pytest.mark.parametrize("changes, words", [
    (dict(when="sometimes"), "have: first, any"),
    (dict(templates=()), "There is no instruction"),
    (dict(cameras=("top",)), "has no camera 'top', only front, wrist"),
])
def test_mistakes(inputs, tmp_path, changes, words):
  with pytest.raises(errors.ConfigError, match=words):
    prompts.run(config(**changes), inputs, tmp_path)
