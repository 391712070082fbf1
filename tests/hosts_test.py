"""Several processes as one: which rows each loads, and one alone."""

import os
import signal

import jax
import numpy as np
import pytest

from dreamgen_jax import errors, hosts, sharding


def test_alone_is_host_0_of_1():
  hosts.join()
  assert (hosts.index(), hosts.count(), hosts.first()) == (0, 1, True)
  hosts.barrier()
  assert hosts.agree(True) and not hosts.agree(False)
  tree = {"a": np.arange(3)}
  assert hosts.local(tree) is tree
  assert hosts.share(sharding.mesh({"data": -1})) == (0, 1)


@pytest.mark.parametrize(("shape", "devices_of_host", "parts"), [
    ((8, 1, 1, 1), 2, [0, 1, 2, 3]),  # rows of their own
    ((1, 4, 2, 1), 2, [0, 1, 2, 3]),  # context within a host
    ((2, 1, 4, 1), 2, [0, 0, 1, 1]),  # context across two hosts
    ((1, 1, 2, 4), 2, [0, 0, 0, 0]),  # all hosts see the same row
])
def test_rows_that_a_process_loads(shape, devices_of_host, parts):
  processes = np.arange(8).reshape(shape) // devices_of_host
  found = [hosts.part(processes, process) for process in range(4)]
  assert found == [(i, max(parts) + 1) for i in parts]


def test_rows_that_cross_hosts_unevenly():
  processes = np.repeat(np.arange(4), 2)[:6].reshape(2, 1, 3, 1)
  with pytest.raises(errors.ConfigError, match="multiple or a divisor"):
    hosts.part(processes, 0)


def test_a_notice_is_seen_and_the_old_handler_comes_back():
  before = signal.getsignal(signal.SIGTERM)
  with hosts.Notice() as notice:
    assert not notice.at(1)
    os.kill(os.getpid(), signal.SIGTERM)
    assert notice.at(2)
  assert signal.getsignal(signal.SIGTERM) == before


def test_a_run_that_cannot_join_says_how(monkeypatch):
  monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "localhost:1")
  with pytest.raises(errors.ConfigError, match="JAX_NUM_PROCESSES"):
    hosts.join()


def test_a_tpu_in_no_cluster_runs_alone_unless_it_has_more_hosts(monkeypatch):
  def initialize(**told):
    raise ValueError("coordinator_address should be defined.")

  monkeypatch.setenv("TPU_ML_PLATFORM", "JAX")
  monkeypatch.setattr(jax.distributed, "initialize", initialize)
  hosts.join()
  assert hosts.count() == 1
  monkeypatch.setattr(jax, "process_count", lambda: 4)
  with pytest.raises(errors.ConfigError, match="coordinator_address should"):
    hosts.join()
