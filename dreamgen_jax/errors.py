"""Errors that a user can cause; `main` prints them as one sentence."""


class UserError(ValueError):
  """Bad input: what was given, where, and what would be right."""


class DataError(UserError):
  """A dataset or record is missing, damaged, or of the wrong shape."""


class CheckpointError(UserError):
  """A checkpoint or weight file is missing, damaged, or does not fit."""


class StorageError(UserError):
  """The disk that results are written to is full, read-only or gone."""


class ConfigError(UserError):
  """A config names something that does not exist or cannot work."""


class Stopped(KeyboardInterrupt):
  """The run was told to stop (SIGTERM), and has saved where it is."""
