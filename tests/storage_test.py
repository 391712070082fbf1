"""A failing disk is told in one sentence, whoever met it."""

import errno
import os
import shutil

import pytest

from dreamgen_jax import errors, storage


@pytest.mark.parametrize(("code", "words"), [
    (errno.ENOSPC, "is full .* make room"),
    (errno.EROFS, "cannot be written to .* make it writable"),
    (errno.EACCES, "cannot be written to"),
    (errno.ESTALE, "does not answer .* mount it again"),
])
@pytest.mark.parametrize("as_text", [False, True])
def test_what_a_disk_says(tmp_path, code, words, as_text):
  text = os.strerror(code)
  cause = RuntimeError(f"INTERNAL: {text}; writing") if as_text else OSError(
      code, text)
  with pytest.raises(errors.StorageError, match=words) as found, \
      storage.explained(tmp_path):
    try:
      raise cause
    except Exception as error:
      raise ValueError("checkpoint failed") from error
  assert "run the same command" in str(found.value)


def test_a_folder_that_went_away(tmp_path):
  folder = tmp_path / "run"
  folder.mkdir()
  with pytest.raises(errors.StorageError, match="has vanished"), \
      storage.explained(folder):
    shutil.rmtree(folder)
    (folder / "x").write_text("y")


def test_other_mistakes_stay_what_they_are(tmp_path):
  with pytest.raises(FileNotFoundError), storage.explained(tmp_path):
    (tmp_path / "absent").read_text()
  with pytest.raises(errors.ConfigError), storage.explained(tmp_path):
    raise errors.ConfigError("no")
  assert not list(tmp_path.iterdir())
