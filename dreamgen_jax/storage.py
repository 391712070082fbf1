"""When the workdir fails: full, read-only, vanished; said in one sentence."""

import contextlib
import errno
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterator

from dreamgen_jax import errors

_FULL = (errno.ENOSPC, errno.EDQUOT)
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
_GONE = (errno.ESTALE, errno.EIO, errno.ENOTCONN, errno.ENODEV)
_KINDS = {code: codes for codes in (_FULL, _READ_ONLY, _GONE) for code in codes}


@contextlib.contextmanager
def explained(folder: pathlib.Path) -> Iterator[None]:
  """Turns whatever a failing disk raised inside into a StorageError.

  Libraries below raise errors of all kinds for it, so the folder itself is
  asked, too.
  """
  try:
    yield
  except errors.UserError:
    raise
  except Exception as error:
    if sentence := trouble(folder, error):
      raise errors.StorageError(sentence) from error
    raise


def trouble(folder: pathlib.Path, error: BaseException | None = None
            ) -> str | None:
  """What is wrong with a folder that results are written to, or None."""
  if not folder.is_dir():
    return (f"Workdir {str(folder)!r} has vanished (removed, or its disk was "
            "unmounted); bring it back and run the same command to go on.")
  kind = _kind_of(error) or _kind_of(_probe(folder))
  if kind is _FULL:
    free = shutil.disk_usage(folder).free / 1e9
    return (f"The disk of workdir {str(folder)!r} is full ({free:.2f} GB "
            "free); make room and run the same command to go on.")
  if kind is _READ_ONLY:
    return (f"Workdir {str(folder)!r} cannot be written to (read-only disk or "
            "missing rights); make it writable and run the same command to go "
            "on.")
  if kind is _GONE:
    return (f"The disk of workdir {str(folder)!r} does not answer (a network "
            "disk that was lost?); mount it again and run the same command to "
            "go on.")
  return None


def _kind_of(error: BaseException | None) -> tuple[int, ...] | None:
  """The family of the first disk error among an error and its causes."""
  while error:
    code = error.errno if isinstance(error, OSError) else None
    for known, kind in _KINDS.items():
      # Orbax and ArrayRecord pass on the text alone.
      if code == known or (code is None and os.strerror(known) in str(error)):
        return kind
    error = error.__cause__ or error.__context__
  return None


def _probe(folder: pathlib.Path) -> OSError | None:
  """Writes a little; the error that this met."""
  file = folder / f".probe.{uuid.uuid4().hex}"
  try:
    file.write_bytes(bytes(1 << 16))
  except OSError as error:
    return error
  finally:
    with contextlib.suppress(OSError):
      file.unlink()
  return None
