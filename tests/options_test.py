"""Configs and overrides: types, groups, and what a mistake says."""

import ml_collections
import pytest

from dreamgen_jax import errors, options

FILE = '''
import ml_collections

def get_config(arg=None):
  return ml_collections.ConfigDict({"preset": arg or "nano"})
'''


@pytest.fixture
def config():
  return ml_collections.ConfigDict({
      "model": {"name": "wan", "preset": "nano", "kw": {"width": 4}},
      "train": {"steps": 3, "rate": 1e-3, "ema": False, "init": None,
                "size": (64, 64), "betas": [0.9, 0.99], "names": ("a", "b"),
                "empty": ()},
  }).lock()


@pytest.mark.parametrize(("key", "text", "value"), [
    ("model.name", "cosmos", "cosmos"),
    ("model.name", "5", "5"),
    ("model.name", "a=b", "a=b"),
    ("train.steps", "1_000", 1000),
    ("train.rate", "1", 1.0),
    ("train.rate", "3e-5", 3e-5),
    ("train.ema", "True", True),
    ("train.ema", "0", False),
    ("train.init", "None", None),
    ("train.init", "weights", "weights"),
    ("train.init", "[1, 2]", (1, 2)),
    ("train.steps", "None", None),
    ("train.size", "(32, 48)", (32, 48)),
    ("train.size", "32,48,64", (32, 48, 64)),
    ("train.size", "32", (32,)),
    ("train.betas", "[0, 1]", [0.0, 1.0]),
    ("train.names", "c,d", ("c", "d")),
    ("train.names", "()", ()),
    ("train.empty", "x,y", ("x", "y")),
    ("model.kw.width", "8", 8),
    ("model.kw.depth", "2", 2),
    ("model.kw.gate", "true", True),
])
def test_override_takes_the_type_of_what_it_replaces(config, key, text, value):
  options.override(config, [(key, text)])
  group = config
  for part in key.split("."):
    group = group[part]
  if isinstance(value, tuple) and isinstance(group, list):
    group = tuple(group)
  assert group == value
  assert type(group) is type(value)
  assert config.is_locked


@pytest.mark.parametrize(("key", "text", "message"), [
    ("train.stps", "1", "Unknown config key 'train.stps'. "
     "Did you mean 'train.steps'?"),
    ("preset", "1", "Did you mean 'model.preset'?"),
    ("train.steps.deep", "1", "Unknown config key 'train.steps.deep'."),
    ("kw.width", "1", "Did you mean 'model.kw.width'?"),
    ("xyzzy", "1", "Top-level keys: model, train."),
    ("model", "1", "'model' is a group of values; set one of: model."),
    ("train.steps", "2.5", "takes a whole number, such as 3; got '2.5'."),
    ("train.rate", "fast", "takes a number, such as 0.001; got 'fast'."),
    ("train.ema", "2", "takes true or false, such as False; got '2'."),
    ("train.size", "a,b", "takes a list of values, such as (64, 64)"),
    ("model.kw.", "1", "Unknown config key 'model.kw.'"),
])
def test_a_mistake_is_one_sentence(config, key, text, message):
  with pytest.raises(errors.ConfigError) as raised:
    options.override(config, [(key, text)])
  assert message in str(raised.value)
  assert "\n" not in str(raised.value)


def test_split_parts_overrides_from_flags():
  others, overrides = options.split(
      ["x", "--config=a.py", "--config.b.c=d=e", "--stage=s"])
  assert others == ["x", "--config=a.py", "--stage=s"]
  assert overrides == [("b.c", "d=e")]
  with pytest.raises(errors.ConfigError, match=r"write --config\.b=VALUE"):
    options.split(["--config.b", "1"])


def test_load_passes_the_argument_and_locks(tmp_path):
  path = tmp_path / "one.py"
  path.write_text(FILE)
  assert options.load(str(path)).preset == "nano"
  assert options.load(f"{path}:14b").preset == "14b"
  assert options.load(str(path)).is_locked


def test_overrides_of_arguments_decide_what_there_is(tmp_path):
  path = tmp_path / "one.py"
  path.write_text(
      "import ml_collections\nARGUMENTS = dict(kind='a', size=1)\n"
      "def get_config(arg=None):\n"
      "  found = {'seed': 0, 'arg': arg or ''}\n"
      "  return ml_collections.ConfigDict(found)\n")
  config = options.load(
      f"{path}:size=2", [("seed", "3"), ("kind", "b"), ("size", "4")])
  assert config.arg == "size=2,kind=b,size=4"
  assert config.seed == 3
  with pytest.raises(errors.ConfigError, match="Did you mean 'kind'"):
    options.load(str(path), [("knid", "b")])


def test_configs_import_their_neighbours(tmp_path, monkeypatch):
  folder = tmp_path / "setups"
  folder.mkdir()
  (folder / "shared.py").write_text("VALUE = 7\n")
  (folder / "one.py").write_text(
      "import ml_collections\nfrom setups import shared\n"
      "def get_config():\n"
      "  return ml_collections.ConfigDict({'v': shared.VALUE})\n")
  monkeypatch.chdir("/")
  assert options.load(str(folder / "one.py")).v == 7


@pytest.mark.parametrize(("text", "spec", "message"), [
    (FILE, "two.py", r"No config file '.*two.py'; have: .*one.py. Did you"),
    ("x = 1", "one.py", r"no function get_config"),
    ("x =", "one.py", r"cannot be read: SyntaxError: .*line 1"),
    ("\nraise KeyError('k')", "one.py", r"cannot be read: KeyError.* line 2"),
    ("import nothing_here", "one.py", "No module named 'nothing_here'"),
    ("import sys; sys.exit(0)", "one.py", "cannot be read: SystemExit"),
    ("def get_config():\n  return 1/0", "one.py",
     "ZeroDivisionError: division by zero at line 2"),
    ("def get_config():\n  return {}", "one.py", "returned dict; it must"),
    ("def get_config():\n  return {}", "one.py:nano", "takes no argument"),
])
def test_an_unreadable_config_says_why(tmp_path, text, spec, message):
  (tmp_path / "one.py").write_text(text)
  with pytest.raises(errors.ConfigError, match=message):
    options.load(str(tmp_path / spec))


def test_stages_are_the_sections_that_run_one(config):
  with config.unlocked():
    config.dream = {"stage": "dream", "inputs": {}}
  assert options.stages(config) == ["dream"]


def test_guard_prints_one_line(capsys):
  def fail():
    raise errors.DataError("No episodes\n  in data.")

  def interrupt():
    raise KeyboardInterrupt

  def bug():
    raise ValueError("ours")

  assert options.guard(lambda: None) == 0
  assert options.guard(fail) == 2
  assert capsys.readouterr().err == "error: No episodes in data.\n"
  assert options.guard(fail, debug=True) == 2
  assert "Traceback" in capsys.readouterr().err
  assert options.guard(interrupt) == 130
  with pytest.raises(ValueError, match="ours"):
    options.guard(bug)
