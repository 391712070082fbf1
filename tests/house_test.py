"""The rules of the house, each checked on every file and shown to bite."""

import ast
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = "dreamgen_jax"

# Imports go down only: a module may import from lower floors and its own.
FLOORS = {
    "types": 0, "interfaces": 0, "registry": 0, "errors": 0, "options": 0,
    "layers": 1, "diffusion": 1, "data": 1, "embodiments": 1,
    "encoders": 2,
    "world_models": 3, "labelers": 3, "policies": 3, "sims": 3, "judges": 3,
    "rollout": 4, "dreamer": 4, "annotator": 4, "agent": 4, "agreement": 4,
    "serving": 4, "planner": 4,
    "stages": 4, "report": 4,
    "main": 5, "plan": 5, "serve": 5, "convert": 5, "benchmarks": 5,
    "validate_labels": 5, "provenance": 5, "preflight": 5,
}
TOOL_FLOOR = 1  # every other single file: sharding, optim, checkpoint, ...
INTERCHANGEABLE = {"world_models", "labelers", "policies", "sims", "judges"}
SHARED_BY_WORLD_MODELS = f"{PACKAGE}.world_models.wan"

FLAX = {"layers", "encoders", "world_models", "labelers", "policies", "lora",
        "quantize"}
NO_JAX = {"data", "embodiments", "types", "interfaces", "registry", "errors",
          "options", "report", "main"}
BANNED_NAMES = {"utils", "util", "common", "helpers", "misc"}
LINES, LINES_WITH_REASON, REASON = 400, 500, "Long because"
# Written in two parts, or this file would break its own rules.
UNFINISHED = re.compile("|".join(
    rf"\b{word}\b" for word in ("TO" + "DO", "FIX" + "ME", "XX" + "X",
                                "NotImplemented" + "Error")))
MACHINE_PATH = re.compile(
    r"(?<![\w.~}])/(" + "|".join(("wo" + "rk", "ro" + "ot", "tm" + "p",
                                  "ho" + "me", "Us" + "ers")) + r")/")


def _files():
  """Every file that is, or is about to be, under version control."""
  listed = subprocess.run(
      ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT,
      capture_output=True, text=True)
  if listed.returncode == 0:
    return [name for name in listed.stdout.splitlines()
            if (ROOT / name).is_file()]
  return [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*")
          if path.is_file() and not {".venv", "runs"} & set(path.parts)]


def _house(name):
  """"dreamgen_jax.data.loader" -> "data", for the floor and the bans."""
  parts = name.split(".")
  return parts[1] if len(parts) > 1 else ""


def _module(path):
  return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _floor(name):
  house = _house(name)
  return FLOORS.get(house, TOOL_FLOOR) if house else 0


def _imports(path, text):
  """(line, dotted name) of everything imported, however deep in the file."""
  here = _module(path).split(".")
  package = here if path.endswith("/__init__.py") else here[:-1]
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.Import):
      for alias in node.names:
        yield node.lineno, alias.name
    elif isinstance(node, ast.ImportFrom):
      base = node.module or ""
      if node.level:
        above = package[:len(package) - node.level + 1]
        base = ".".join([*above, *filter(None, [base])])
      for alias in node.names:
        yield node.lineno, f"{base}.{alias.name}"


def imports_go_down(path, text):
  """A module imports only from lower floors, and no sibling."""
  if not path.startswith(f"{PACKAGE}/"):
    return
  name = _module(path)
  house, floor = _house(name), _floor(name)
  for line, target in _imports(path, text):
    if not target.startswith(PACKAGE + "."):
      continue
    other = _house(target)
    if _floor(target) > floor:
      yield f"line {line}: {target} is above"
    elif house in {"data", "embodiments"}:
      if _floor(target) == 1 and other not in {"data", "embodiments"}:
        yield f"line {line}: {target} may start JAX"
    elif floor == 1 and other in {"data", "embodiments"}:
      yield f"line {line}: {target} knows of disks and robots"
    elif house in INTERCHANGEABLE and other in INTERCHANGEABLE:
      same = target.split(".")[:3] == name.split(".")[:3]
      shared = (house == "world_models"
                and target.startswith(SHARED_BY_WORLD_MODELS))
      if not same and not shared and len(target.split(".")) > 2:
        yield f"line {line}: {target} is a neighbour"
    elif house == "report" and floor == _floor(target) and other != house:
      yield f"line {line}: {target} makes what a report only shows"


def no_torch_no_tensorflow(path, text):
  """The package runs on JAX alone; its benchmarks' peers may not."""
  peers = f"{PACKAGE}/benchmarks/peers/"
  if path.startswith(f"{PACKAGE}/") and not path.startswith(peers):
    for line, target in _imports(path, text):
      if target.split(".")[0] in {"torch", "tensorflow"}:
        yield f"line {line}: {target}"


def flax_only_in_networks(path, text):
  """The module system stays behind the contracts."""
  if path.startswith(f"{PACKAGE}/") and _house(_module(path)) not in FLAX:
    for line, target in _imports(path, text):
      if target.split(".")[0] == "flax":
        yield f"line {line}: {target}"


def no_jax_in_loaders(path, text):
  """Loader workers, contracts and error messages must start fast."""
  if path.startswith(f"{PACKAGE}/") and _house(_module(path)) in NO_JAX:
    for line, target in _imports(path, text):
      if target.split(".")[0] in {"jax", "jaxlib", "flax", "optax", "orbax"}:
        yield f"line {line}: {target}"


def files_are_short(path, text):
  """400 lines; 500 if the docstring says "Long because ..."."""
  count = text.count("\n")
  reason = REASON in (ast.get_docstring(ast.parse(text)) or "")
  if count > (LINES_WITH_REASON if reason else LINES):
    yield f"{count} lines"


def names_say_something(path, text):
  """No drawer for things that found no place."""
  del text
  stem = pathlib.PurePath(path).stem.removesuffix("_test")
  if stem in BANNED_NAMES and path != "configs/common.py":
    yield f"a file called {stem}"


def modules_have_docstrings(path, text):
  """Every module says what it does."""
  if text.strip() and not ast.get_docstring(ast.parse(text)):
    yield "no docstring"


def configs_tell_their_command(path, text):
  """A config's docstring holds the command that runs it."""
  if path.startswith("configs/") and not re.search(
      r"python -m dreamgen_jax\.|launch/\w+\.sh",
      ast.get_docstring(ast.parse(text)) or ""):
    yield "no command in the docstring"


def nothing_is_unfinished(path, text):
  """What is not written yet is not here."""
  del path
  for number, line in enumerate(text.splitlines(), 1):
    if UNFINISHED.search(line):
      yield f"line {number}: {line.strip()}"


def no_machine_paths(path, text):
  """The checkout works wherever it lies."""
  if path.endswith((".ipynb", "Dockerfile")) or path.startswith("launch/"):
    return  # these describe machines other than the developer's
  for number, line in enumerate(text.splitlines(), 1):
    if MACHINE_PATH.search(line):
      yield f"line {number}: {line.strip()}"


def lock_names_versions_only(path, text):
  """Exact versions, no hosts, no local files."""
  if path == "requirements.lock":
    for number, line in enumerate(text.splitlines(), 1):
      if not re.fullmatch(
          r"#.*|[A-Za-z0-9_.-]+==[\w.]+( ; \w+ != \"\w+\")?", line):
        yield f"line {number}: {line}"


def stages_meet_on_disk(path, text):
  """No stage imports another one; pipeline and train are not stages."""
  if not path.startswith(f"{PACKAGE}/stages/"):
    return
  stages = {file.stem for file in (ROOT / PACKAGE / "stages").glob("*.py")
            if re.search(r"^def run\(", file.read_text(), re.MULTILINE)}
  for line, target in _imports(path, text):
    parts = target.split(".")
    if parts[:2] == [PACKAGE, "stages"] and parts[2:3] and parts[2] in stages:
      yield f"line {line}: {target}"


PYTHON_RULES = [
    imports_go_down, no_torch_no_tensorflow, flax_only_in_networks,
    no_jax_in_loaders, files_are_short, names_say_something,
    modules_have_docstrings, configs_tell_their_command, stages_meet_on_disk,
]
TEXT_RULES = [nothing_is_unfinished, no_machine_paths, lock_names_versions_only]


def _text(name):
  try:
    return (ROOT / name).read_text()
  except UnicodeDecodeError:
    return None  # a video, weights, ...


@pytest.mark.parametrize("rule", PYTHON_RULES, ids=lambda rule: rule.__name__)
def test_python_files(rule):
  names = [name for name in _files() if name.endswith(".py")]
  assert len(names) > 20
  faults = [f"{name}: {fault}" for name in names
            for fault in rule(name, (ROOT / name).read_text())]
  assert not faults, f"{rule.__doc__}\n" + "\n".join(faults)


@pytest.mark.parametrize("rule", TEXT_RULES, ids=lambda rule: rule.__name__)
def test_text_files(rule):
  faults = [f"{name}: {fault}" for name in _files()
            for text in [_text(name)] if text is not None
            for fault in rule(name, text)]
  assert not faults, f"{rule.__doc__}\n" + "\n".join(faults)


@pytest.mark.parametrize(("rule", "path", "text"), [
    (imports_go_down, "layers/rope.py", "import dreamgen_jax.policies"),
    (imports_go_down, "types.py", "from dreamgen_jax import layers"),
    (imports_go_down, "layers/rope.py", "from ..stages import train"),
    (imports_go_down, "stages/x.py",
     "def f():\n  from dreamgen_jax import main"),
    (imports_go_down, "data/x.py", "from dreamgen_jax.layers import rope"),
    (imports_go_down, "data/x.py", "from dreamgen_jax import sharding"),
    (imports_go_down, "layers/x.py", "from dreamgen_jax.data import loader"),
    (imports_go_down, "encoders/t5.py",
     "from dreamgen_jax.world_models import wan"),
    (imports_go_down, "policies/a/net.py",
     "from dreamgen_jax.world_models.wan import vae"),
    (imports_go_down, "policies/a/net.py",
     "from dreamgen_jax.policies.b import net"),
    (imports_go_down, "report/x.py", "from dreamgen_jax.stages import train"),
    (no_torch_no_tensorflow, "layers/x.py", "from torch import nn"),
    (no_torch_no_tensorflow, "data/x.py", "import tensorflow as tf"),
    (flax_only_in_networks, "stages/x.py", "from flax import linen"),
    (flax_only_in_networks, "optim.py", "import flax.traverse_util"),
    (no_jax_in_loaders, "data/x.py", "import jax.numpy as jnp"),
    (no_jax_in_loaders, "types.py", "if False:\n  import jax"),
    (no_jax_in_loaders, "main.py", "def f():\n  from jax import jit"),
    (files_are_short, "x.py", "\n" * 401),
    (files_are_short, "x.py", '"""Long because of a table."""' + "\n" * 501),
    (names_say_something, "layers/utils.py", ""),
    (names_say_something, "common.py", ""),
    (modules_have_docstrings, "x.py", "x = 1"),
    (configs_tell_their_command, "../configs/x.py", '"""Nothing."""'),
    (nothing_is_unfinished, "x.py", "# TO" + "DO: later"),
    (nothing_is_unfinished, "x.py", "raise NotImplemented" + "Error"),
    (no_machine_paths, "x.py", "open('/wo" + "rk/main/x')"),
    (no_machine_paths, "../README.md", "cd /ro" + "ot/x"),
    (lock_names_versions_only, "../requirements.lock", "jax>=0.10"),
    (lock_names_versions_only, "../requirements.lock",
     "jax @ https://example.org/jax.whl"),
    (stages_meet_on_disk, "stages/x.py",
     "from dreamgen_jax.stages import pipeline"),
])
def test_each_rule_bites(rule, path, text):
  path = path.removeprefix("../") if path[:3] == "../" else f"{PACKAGE}/{path}"
  assert list(rule(path, text))


@pytest.mark.parametrize(("rule", "path", "text"), [
    (imports_go_down, "stages/x.py", "from dreamgen_jax.layers import rope"),
    (imports_go_down, "data/x.py", "from dreamgen_jax import types, errors"),
    (imports_go_down, "data/x.py", "from dreamgen_jax.data import windows"),
    (imports_go_down, "policies/a/model.py",
     "from dreamgen_jax.policies.a import net\nfrom . import net"),
    (imports_go_down, "world_models/cosmos/model.py",
     "from dreamgen_jax.world_models.wan import vae"),
    (imports_go_down, "sims/x.py", "from dreamgen_jax.data import rotation"),
    (flax_only_in_networks, "lora.py", "import flax"),
    (no_jax_in_loaders, "layers/x.py", "import jax"),
    (files_are_short, "x.py", '"""Long because of a table."""' + "\n" * 450),
    (configs_tell_their_command, "x.py", ""),
    (no_machine_paths, "x.py", "path / 'wo" + "rk/x'"),
    (stages_meet_on_disk, "stages/x.py",
     "from dreamgen_jax.stages import train, artefact"),
])
def test_no_rule_bites_good_code(rule, path, text):
  assert not list(rule(f"{PACKAGE}/{path}", text))
