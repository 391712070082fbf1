"""Work of several hosts: divided evenly, never lost, the same in the end."""

import itertools
import threading

import pytest

from dreamgen_jax import errors
from dreamgen_jax.data import pieces, rlds

IDS = [f"episode_{i}" for i in range(5)]


class Killed(Exception):
  pass


def _write(path, embodiment, episodes, hosts=1, dies=None, after=0):
  """Every host's made ids; host `dies` stops after so many episodes."""
  made = [[] for _ in range(hosts)]
  ready = dict(zip(IDS, episodes, strict=True))
  barrier = threading.Barrier(hosts)

  def run(host):
    def make(id_):
      if host == dies and len(made[host]) == after:
        barrier.abort()
        raise Killed
      made[host].append(id_)
      return ready[id_]

    try:
      rlds.write(path, "d", IDS, embodiment, num_shards=2, digest="x",
                 make=make, host=host, hosts=hosts, barrier=barrier.wait)
    except (Killed, threading.BrokenBarrierError):
      assert dies is not None

  threads = [threading.Thread(target=run, args=(i,)) for i in range(hosts)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(60)
  return made


def _all(parts):
  return list(itertools.chain(*parts))


def _files(path):
  return {file.name: file.read_bytes() for file in path.glob("d-train*")}


def test_hosts_make_each_episode_once_and_the_same_files(
    tmp_path, embodiment, episodes):
  (alone,) = _write(tmp_path / "one", embodiment, episodes)
  assert alone == IDS
  shared = _write(tmp_path / "three", embodiment, episodes, hosts=3)
  assert sorted(_all(shared)) == IDS
  assert sorted(map(len, shared)) == [1, 2, 2]
  assert _files(tmp_path / "one") == _files(tmp_path / "three")
  assert len(_files(tmp_path / "one")) == 2
  assert not list((tmp_path / "three").rglob("pieces*"))


@pytest.mark.parametrize("hosts", [1, 3])
def test_another_number_of_hosts_makes_what_a_dead_one_left(
    tmp_path, embodiment, episodes, hosts):
  path = tmp_path / "d"
  before = _write(path, embodiment, episodes, hosts=2, dies=0, after=1)
  done = _all(before)
  assert 1 <= len(done) < 5
  with pytest.raises(errors.DataError, match="not a finished dataset"):
    rlds.Dataset(path)
  after = _write(path, embodiment, episodes, hosts=hosts)
  assert sorted(done + _all(after)) == IDS
  _write(tmp_path / "one", embodiment, episodes)
  assert _files(path) == _files(tmp_path / "one")


def test_what_was_left_out_is_not_asked_for_again(tmp_path):
  store = pieces.Pieces(tmp_path / "p")
  assert store.missing(["a", "b", "c"]) == ["a", "b", "c"]
  store.put("b")
  store.put("c", b"data", {"id": "c"})
  assert store.missing(["a", "b", "c"]) == ["a"]
  assert store.get("b") is None
  assert store.get("c") == (b"data", {"id": "c"})
  with pytest.raises(errors.DataError, match="'a' is not in"):
    store.get("a")


def test_a_deal_is_even_and_depends_on_the_ids_alone():
  ids = [str(i) for i in range(10)]
  hands = [pieces.deal(ids, host, 4) for host in range(4)]
  assert sorted(map(len, hands)) == [2, 2, 3, 3]
  assert sorted(_all(hands)) == sorted(ids)
  assert all(pieces.deal(ids[::-1], host, 4) == hand[::-1]
             for host, hand in enumerate(hands))
