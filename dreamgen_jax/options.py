"""Command line -> resolved config; no JAX, so mistakes show at once.

A config is a Python file with `get_config(arg=None) -> ConfigDict` of plain
values. `--config=FILE.py:arg` passes `arg`; `--config.some.key=value` replaces
one value, read as the type that it replaces. What the file lists in ARGUMENTS
decides what the config holds: `--config.name=value` is then the same as
`FILE.py:name=value`. Groups called `kw` are open: the dataclass beside the net
checks their keys.
"""

import ast
import importlib.util
import inspect
import pathlib
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import ml_collections
from absl import flags

from dreamgen_jax import errors, registry

PREFIX = "--config."
OPEN_GROUP = "kw"
WORDS = {"true": True, "yes": True, "1": True,
         "false": False, "no": False, "0": False}

KINDS = {bool: "true or false", int: "a whole number", float: "a number",
         str: "a text", tuple: "a list of values", list: "a list of values"}


def program(about: str | None, known: Mapping[str, Any],
            required: Sequence[str] = ()) -> Callable[[Callable], Callable]:
  """Decorator: `body(given)` becomes a program, `main(argv=None) -> exit code`.

  A program that knows the option `config` takes overrides of it, too: its body
  is `body(given, overrides)`, see `split`.

  Args:
    about: the program's docstring.
    known: see `read`.
    required: options that must be given.
  """
  def wrap(body: Callable[..., int | None]) -> Callable[..., int]:

    def main(argv: Sequence[str] | None = None) -> int:
      """The program; returns the exit code, see `options.guard`."""
      argv = list(sys.argv if argv is None else argv)

      def run() -> int | None:
        others, overrides = split(argv) if "config" in known else (argv, ())
        given = read(about or "", known, others)
        if given is None:
          return 0
        for name in required:
          need(given, name)
        if not flags.FLAGS.is_parsed():
          flags.FLAGS(argv[:1])  # grain and orbax read absl's own flags
        return body(given, overrides) if "config" in known else body(given)

      return guard(run, "--debug" in argv)

    return main

  return wrap


def need(given: flags.FlagValues, name: str) -> None:
  """Raises a ConfigError where an option was not given."""
  if not given[name].value:
    raise errors.ConfigError(f"No {name}; give --{name}: {given[name].help}.")


def guard(body: Callable[[], int | None], debug: bool = False) -> int:
  """Runs a program's body; user mistakes become one line on stderr.

  Returns:
    Exit code: the body's own or 0, 2 after a `UserError`, 130 after Ctrl-C.
    With `debug` the traceback is printed before the line.
  """
  try:
    return body() or 0
  except errors.UserError as error:
    if debug:
      traceback.print_exc()
    print("error:", " ".join(str(error).split()), file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print("Interrupted; the same command continues.", file=sys.stderr)
    return 130


def split(argv: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
  """Parts `--config.key=value` from the other arguments.

  Returns:
    The other arguments, and (dotted key, text) pairs in order.

  Raises:
    ConfigError: an override without "=".
  """
  others, overrides = [], []
  for argument in argv:
    if not argument.startswith(PREFIX):
      others.append(argument)
      continue
    key, equals, text = argument.removeprefix(PREFIX).partition("=")
    if not equals:
      raise errors.ConfigError(
          f"{argument!r} has no value; write {PREFIX}{key}=VALUE."
      )
    overrides.append((key, text))
  return others, overrides


def parse(given: flags.FlagValues, argv: Sequence[str]) -> None:
  """Reads a program's options into `given`, which has a flag `help`.

  Raises:
    ConfigError: an unknown option (with the nearest known one), a value that
      cannot be read, or, unless help is asked for, a bare argument.
  """
  try:
    rest = given(argv)[1:]
  except flags.UnrecognizedFlagError as error:
    raise errors.ConfigError(
        f"Unknown option --{error.flagname}."
        + registry.nearest(error.flagname, list(given))
    ) from error
  except flags.Error as error:
    raise errors.ConfigError(f"{error}.") from error
  if rest and not given.help:
    raise errors.ConfigError(
        f"Unexpected argument {rest[0]!r}; options begin with two dashes."
    )


_DEFINE = {bool: flags.DEFINE_boolean, int: flags.DEFINE_integer,
           float: flags.DEFINE_float, tuple: flags.DEFINE_list}


def read(about: str, known: Mapping[str, Any],
         argv: Sequence[str]) -> flags.FlagValues | None:
  """A program's options, with --debug and --help; None once help is printed.

  Args:
    about: the program's docstring.
    known: option -> what it is; or (default, what it is), read as the type of
      its default, a tuple from words with commas between; or the same and
      what limits it: the values that there are, or the least.
    argv: the command line.

  Raises:
    ConfigError: see `parse`.
  """
  given = flags.FlagValues()
  for name, said in known.items():
    default, text, *limit = (None, said) if isinstance(said, str) else said
    plain = default in (None, "", ()) or default is False
    told = "" if plain else f" ({default})"
    define, limits = _DEFINE.get(type(default), flags.DEFINE_string), {}
    if limit and isinstance(default, int):
      limits["lower_bound"], = limit
    elif limit:
      define, limits["enum_values"] = flags.DEFINE_enum, *limit
    define(name=name, default=default, help=text + told, flag_values=given,
           **limits)
  flags.DEFINE_boolean(
      "debug", False, "show tracebacks of mistakes too", flag_values=given)
  flags.DEFINE_boolean(
      "help", False, "show this text", short_name="h", flag_values=given)
  parse(given, argv)
  if not given.help:
    return given
  print(about.strip(), "", sep="\n")
  width = max(9, *(len(name) + 1 for name in known))
  for name in (*known, "debug"):
    print(f"  --{name:{width}}{given[name].help}")
  return None


def load(spec: str, overrides: Iterable[tuple[str, str]] = ()
         ) -> ml_collections.ConfigDict:
  """Reads `FILE.py` or `FILE.py:arg` and returns its locked config.

  Args:
    spec: of the command line.
    overrides: see `override`; those of the file's ARGUMENTS go to get_config.

  Raises:
    ConfigError: no such file, it cannot be run, it makes no config, or see
      `override`.
  """
  name, marker, arg = spec.partition(".py:")
  path = pathlib.Path(name + ".py" if marker else name)
  module = _module(path)
  get_config = getattr(module, "get_config", None)
  if not callable(get_config):
    raise errors.ConfigError(
        f"{path} has no function get_config(arg=None)."
    )
  known, overrides = getattr(module, "ARGUMENTS", {}), list(overrides)
  arg = ",".join(filter(None, [arg, *(
      f"{key}={text}" for key, text in overrides if key in known)]))
  if arg and not inspect.signature(get_config).parameters:
    raise errors.ConfigError(
        f"{path} takes no argument, but {arg!r} was given after the colon."
    )
  try:
    config = get_config(arg) if arg else get_config()
  except errors.UserError:
    raise
  except (Exception, SystemExit) as error:
    raise errors.ConfigError(
        f"{path} failed: {type(error).__name__}: {error}{_line(error, path)}."
    ) from error
  if not isinstance(config, ml_collections.ConfigDict):
    raise errors.ConfigError(
        f"get_config of {path} returned {type(config).__name__}; it must "
        "return an ml_collections.ConfigDict."
    )
  override(config.lock(), [
      (key, text) for key, text in overrides if key not in known], known)
  return config


def keys(config: ml_collections.ConfigDict) -> list[str]:
  """Dotted names of all values and groups, in the config's order."""
  found = []
  for key, value in config.items():
    found.append(key)
    if isinstance(value, ml_collections.ConfigDict):
      found += [f"{key}.{inner}" for inner in keys(value)]
  return found


def override(
    config: ml_collections.ConfigDict,
    overrides: Iterable[tuple[str, str]],
    arguments: Iterable[str] = (),
) -> None:
  """Replaces values in place; `arguments` are names to suggest, too.

  Raises:
    ConfigError: unknown key (with the nearest known one), a group, or a text
      that cannot be read as the type of the value that it replaces.
  """
  for dotted, text in overrides:
    *groups, leaf = dotted.split(".")
    group = config
    for part in groups:
      if not isinstance(group, ml_collections.ConfigDict) or part not in group:
        raise _unknown(config, dotted, arguments)
      group = group[part]
    if not isinstance(group, ml_collections.ConfigDict):
      raise _unknown(config, dotted, arguments)
    if leaf not in group:
      if not leaf or not groups or groups[-1] != OPEN_GROUP:
        raise _unknown(config, dotted, arguments)
      with group.unlocked():
        group[leaf] = _literal(text)
      continue
    if isinstance(group[leaf], ml_collections.ConfigDict):
      inner = ", ".join(f"{dotted}.{key}" for key in group[leaf])
      raise errors.ConfigError(
          f"{dotted!r} is a group of values; set one of: {inner or 'none'}."
      )
    value = _read(dotted, text, group[leaf])
    with group.ignore_type():
      group[leaf] = value


def stages(config: ml_collections.ConfigDict) -> list[str]:
  """Names of the sections that run a stage, which is what --stage takes."""
  return [
      name for name, section in config.items()
      if isinstance(section, ml_collections.ConfigDict) and "stage" in section
  ]


def _module(path: pathlib.Path) -> Any:
  """Runs a config file; its folder's neighbours can be imported from it."""
  if not path.is_file():
    folder = path.parent if path.parent.is_dir() else pathlib.Path("configs")
    known = sorted(str(file) for file in folder.glob("*.py"))
    have = f"; have: {', '.join(known)}" if known else ""
    raise errors.ConfigError(
        f"No config file {str(path)!r}{have}."
        + registry.nearest(str(path), known)
    )
  if path.suffix != ".py":
    raise errors.ConfigError(f"A config is a Python file; {path} is not.")
  spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
  module = importlib.util.module_from_spec(spec)
  # `from configs import common` works from any working directory.
  root = str(path.resolve().parent.parent)
  sys.path.insert(0, root)
  try:
    spec.loader.exec_module(module)
  except (Exception, SystemExit) as error:
    raise errors.ConfigError(
        f"{path} cannot be read: {type(error).__name__}: {error}"
        f"{_line(error, path)}."
    ) from error
  finally:
    sys.path.remove(root)
  return module


def _line(error: BaseException, path: pathlib.Path) -> str:
  """" at line N" of the config file, if the error passed through it."""
  if isinstance(error, SyntaxError):
    return ""  # its own text says the line
  lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)
           if pathlib.Path(frame.filename).name == path.name]
  return f" at line {lines[-1]}" if lines else ""


def _unknown(config: ml_collections.ConfigDict, dotted: str,
             arguments: Iterable[str]) -> errors.ConfigError:
  known = [*arguments, *keys(config)]
  leaf = dotted.rpartition(".")[2]
  same_leaf = [key for key in known if key.rpartition(".")[2] == leaf]
  hint = registry.nearest(dotted, same_leaf or known)
  if same_leaf and not hint:
    hint = f" Did you mean {same_leaf[0]!r}?"
  if not hint:
    hint = f" Top-level keys: {', '.join(config)}."
  return errors.ConfigError(f"Unknown config key {dotted!r}.{hint}")


def _read(dotted: str, text: str, old: Any) -> Any:
  """Text -> a value of the type of `old`."""
  if text in ("None", "none") or old is None:
    return None if text in ("None", "none") else _literal(text)
  kind = type(old)
  try:
    if kind is bool:
      return WORDS[text.lower()]
    if kind is int:
      return int(text.replace("_", ""))
    if kind in (float, str):
      return kind(text)
    if kind in (tuple, list):
      return kind(_items(text, old))
  except (KeyError, ValueError, TypeError):
    raise errors.ConfigError(
        f"Config key {dotted!r} takes {KINDS[kind]}, such as {old!r}; "
        f"got {text!r}."
    ) from None
  raise errors.ConfigError(
      f"{dotted!r} holds a {kind.__name__}, which flags cannot replace."
  )


def _items(text: str, old: Sequence[Any]) -> list[Any]:
  """"(1, 2)", "[1, 2]" or "1,2" -> items of the type of the old ones."""
  try:
    value = ast.literal_eval(text)
    items = list(value) if isinstance(value, tuple | list) else [value]
  except (SyntaxError, ValueError):
    items = [part.strip() for part in text.strip("()[] ").split(",")]
    items = [part for part in items if part]
  if not old:
    return items
  kinds = {type(item) for item in old}
  if kinds == {float}:
    return [float(item) for item in items]
  if len(kinds) == 1 and {type(item) for item in items} - kinds:
    raise TypeError
  return items


def _literal(text: str) -> Any:
  """A Python literal if the text is one, else the text."""
  try:
    return ast.literal_eval(text)
  except (SyntaxError, ValueError):
    return WORDS[text.lower()] if text.lower() in ("true", "false") else text
