"""Scripts and manifests that start runs, as far as this machine can tell."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml

from dreamgen_jax import main

ROOT = pathlib.Path(__file__).resolve().parents[1]
LAUNCH = ROOT / "launch"
SCRIPTS = sorted(LAUNCH.glob("*.sh"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse(script):
  subprocess.run(["bash", "-n", script], check=True)


def test_shellcheck_has_nothing_to_say():
  found = shutil.which(
      "shellcheck", path=os.pathsep.join(
          (str(pathlib.Path(sys.executable).parent), os.environ["PATH"])))
  if not found:
    pytest.skip("shellcheck is not installed")
  said = subprocess.run([found, "-x", "-P", "SCRIPTDIR", *SCRIPTS],
                        capture_output=True, text=True)
  assert not said.stdout + said.stderr


def _flags(*arguments):
  said = subprocess.run(
      ["bash", "-c", 'source "$0"; libtpu_flags "$@" && echo '
       '"$LIBTPU_INIT_ARGS"', LAUNCH / "libtpu_flags.sh", *arguments],
      capture_output=True, text=True)
  return said.returncode, said.stdout.split()


@pytest.mark.parametrize("generation", ["v4", "v5e", "v5p", "v6e"])
def test_each_generation_has_flags(generation):
  code, one = _flags(generation)
  assert code == 0 and one
  assert all(re.fullmatch(r"--xla_\w+=\w+", flag) for flag in one)
  _, two = _flags(generation, "2")
  assert set(one) < set(two)
  assert _flags("v1")[0] == 2


def _script(path, text):
  path.write_text(text)
  path.chmod(0o755)
  return path


def _worker(tmp_path, body, **environment):
  """Starts worker.sh with a stand-in for Python; notes what it was given."""
  python = _script(tmp_path / "python", f"""#!/bin/bash
echo "$*" >> {tmp_path}/given
count=$(wc -l < {tmp_path}/given)
{body}
""")
  return subprocess.Popen(
      [LAUNCH / "worker.sh", "--config=c.py", "--workdir=w", "--stage=s",
       "--config.a=1"], stderr=subprocess.DEVNULL,
      env=os.environ | {"PYTHON": str(python), "PAUSE": "0"} | environment)


@pytest.mark.parametrize(("body", "code", "calls"), [
    ("exit 0", 0, ["preflight", "main"]),
    ("exit 2", 2, ["preflight"]),  # a mistake: nothing is begun
    ("[ $count = 1 ] || exit 2", 2, ["preflight", "main"]),
    ("[ $count = 2 ] && exit 1; exit 0", 0, ["preflight", "main", "main"]),
    ("[ $count = 1 ] || exit 1", 1, ["preflight", "main", "main", "main"]),
])
def test_worker_tries_again_but_not_mistakes(tmp_path, body, code, calls):
  assert _worker(tmp_path, body).wait(30) == code
  given = (tmp_path / "given").read_text().splitlines()
  assert [line.split()[1] for line in given] == [
      f"dreamgen_jax.{name}" for name in calls]
  assert "--config.a=1" in given[0] and "--stage" not in given[0]
  assert all("--stage=s" in line for line in given[1:])


def test_a_notice_reaches_the_run_and_ends_the_worker(tmp_path):
  worker = _worker(tmp_path, f"""
trap 'echo saved > {tmp_path}/saved; exit 130' TERM
echo > {tmp_path}/ready
while :; do sleep 0.05; done""", PREFLIGHT="0")
  while not (tmp_path / "ready").exists():
    time.sleep(0.05)
  worker.send_signal(signal.SIGTERM)
  assert worker.wait(30) == 130
  assert (tmp_path / "saved").exists()
  assert len((tmp_path / "given").read_text().splitlines()) == 1


GCLOUD = """#!/bin/bash
# A cloud of one queued resource; its hosts are lost during the first run.
here={here}
echo "$*" >> $here/calls
case "$*" in
  *queued-resources\\ describe*) cat $here/state ;;
  *queued-resources\\ create*) echo ACTIVE > $here/state ;;
  *queued-resources\\ delete*) echo NONE > $here/state ;;
  *launch/worker.sh*)
    [ -e $here/again ] && exit 0
    touch $here/again; echo SUSPENDED > $here/state; exit 255 ;;
esac
"""


def _tpu_vm(tmp_path, *arguments, **environment):
  _script(tmp_path / "gcloud", GCLOUD.format(here=tmp_path))
  (tmp_path / "state").write_text("NONE")
  done = subprocess.run(
      [LAUNCH / "tpu_vm.sh", *arguments], capture_output=True, text=True,
      env=os.environ | {
          "PATH": f"{tmp_path}:{os.environ['PATH']}", "PROJECT": "p",
          "ZONE": "z", "TYPE": "v5litepod-16", "DISK": "gs://b", "SPOT": "1",
      } | environment)
  calls = tmp_path / "calls"
  return done, calls.read_text().splitlines() if calls.exists() else []


def test_hosts_that_are_taken_away_are_asked_for_again(tmp_path):
  done, calls = _tpu_vm(tmp_path, "run", "configs/c.py", "/mnt/dreamgen/w",
                        "--stage=a b", SLICES="2")
  assert done.returncode == 0, done.stderr
  said = "\n".join(calls)
  creates = [line for line in calls if "queued-resources create" in line]
  assert len(creates) == 2 and said.count("queued-resources delete") == 1
  assert "--spot" in creates[0] and "--node-count=2" in creates[0]
  assert "--accelerator-type=v5litepod-16" in creates[0]
  runs = re.findall(r"ssh dreamgen-(\d) --worker=all --command=cd", said)
  assert sorted(runs) == ["0", "0", "1", "1"]
  assert "GENERATION=v5e" in said and "SLICES=2" in said
  assert r"--stage=a\ b" in said


@pytest.mark.parametrize(("arguments", "environment", "words"), [
    ((), {}, "say run, logs, stop or delete"),
    (("run", "c.py", "/mnt/dreamgen/w"), {"DISK": ""}, "set DISK"),
    (("run", "c.py", "elsewhere"), {}, "shared disk: /mnt/dreamgen"),
])
def test_mistakes_of_tpu_vm(tmp_path, arguments, environment, words):
  done, calls = _tpu_vm(tmp_path, *arguments, **environment)
  assert done.returncode == 2 and words in done.stderr and not calls


def _documents(name):
  return list(yaml.safe_load_all((LAUNCH / name).read_text()))


@pytest.mark.parametrize(("name", "slices"), [
    ("gke/jobset.yaml", 1), ("gke/jobset_slices.yaml", 2)])
def test_jobsets(name, slices):
  (jobset,) = _documents(name)
  assert jobset["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
  assert jobset["kind"] == "JobSet"
  (replicated,) = jobset["spec"]["replicatedJobs"]
  assert replicated["replicas"] == slices
  job = replicated["template"]["spec"]
  pod = job["template"]["spec"]
  (container,) = pod["containers"]
  chips = 1
  for side in pod["nodeSelector"][
      "cloud.google.com/gke-tpu-topology"].split("x"):
    chips *= int(side)
  assert job["parallelism"] == job["completions"] == chips // 4
  assert job["completionMode"] == "Indexed" and job["backoffLimit"] == 0
  assert pod["restartPolicy"] == "Never"
  limits = container["resources"]
  assert limits["limits"] == limits["requests"] == {"google.com/tpu": 4}
  environment = {each["name"]: each["value"] for each in container["env"]}
  assert environment["SLICES"] == str(slices)
  assert _flags(environment["GENERATION"], environment["SLICES"])[0] == 0
  for argument in container["args"]:
    option, _, value = argument.removeprefix("--").partition("=")
    assert option in main.HELP
    assert not value.startswith("configs") or (ROOT / value).is_file()
  mounts = {each["name"] for each in container["volumeMounts"]}
  assert mounts == {each["name"] for each in pod["volumes"]}
  # A mistake ends the JobSet by these two rules together.
  (rule,) = job["podFailurePolicy"]["rules"]
  assert rule["onExitCodes"] == {
      "containerName": container["name"], "operator": "In", "values": [2]}
  assert jobset["spec"]["failurePolicy"]["rules"][0]["action"] == "FailJobSet"


def test_the_queue_holds_what_the_jobsets_ask_for():
  flavor, cluster, local = _documents("gke/kueue.yaml")
  (one,) = _documents("gke/jobset.yaml")
  assert one["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == (
      local["metadata"]["name"])
  assert local["spec"]["clusterQueue"] == cluster["metadata"]["name"]
  pod = one["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
  assert pod["spec"]["nodeSelector"] == flavor["spec"]["nodeLabels"]
  (group,) = cluster["spec"]["resourceGroups"]
  (quota,) = group["flavors"]
  assert quota["name"] == flavor["metadata"]["name"]
  assert quota["resources"][0]["nominalQuota"] >= 128


def test_skypilot_and_the_image():
  (task,) = _documents("skypilot.yaml")
  assert task["resources"]["accelerators"].startswith("tpu-v5p")
  assert (ROOT / task["envs"]["CONFIG"]).is_file()
  assert "launch/worker.sh" in task["run"]
  assert _flags(task["envs"]["GENERATION"])[0] == 0
  image = (LAUNCH / "Dockerfile").read_text()
  entry = re.search(r'ENTRYPOINT \["/dreamgen/(.+)"\]', image)[1]
  assert os.access(ROOT / entry, os.X_OK)
  version = re.search(r"FROM python:(\d+)\.(\d+)", image)
  assert tuple(map(int, version.groups())) >= (3, 11)
  extras = re.search(r"ARG EXTRAS=(\S+)", image)[1].split(",")
  known = re.search(r"extras_require={(.+?)}", (ROOT / "setup.py").read_text(),
                    re.DOTALL)[1]
  assert all(f'"{extra}":' in known for extra in extras)
