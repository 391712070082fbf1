"""The command line of a builder: flags in, one sentence out on a mistake."""

import sys
from collections.abc import Callable, Sequence

from absl import flags

from dreamgen_jax import errors, options


def run(argv: Sequence[str] | None, doc: str,
        define: Callable[[flags.FlagValues], None], required: Sequence[str],
        body: Callable[[flags.FlagValues], object]) -> int:
  """Parses flags and runs `body` with them.

  Args:
    argv: the command line; None takes this process's.
    doc: printed by --help, before the flags.
    define: defines the flags.
    required: names of flags that must be given.
    body: the work.

  Returns:
    Exit code: 0, or 2 after a user's mistake.
  """
  argv = list(sys.argv if argv is None else argv)

  def guarded() -> None:
    given = flags.FlagValues()
    define(given)
    flags.DEFINE_boolean("help", False, "show this text", short_name="h",
                         flag_values=given)
    options.parse(given, argv)
    if given.help:
      print(doc.strip(), given.get_help(), sep="\n")
      return
    missing = [name for name in required if given[name].value is None]
    if missing:
      raise errors.ConfigError(f"--{missing[0]} must be given.")
    body(given)

  return options.guard(guarded)
