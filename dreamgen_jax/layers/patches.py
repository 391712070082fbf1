"""Patches of a latent video: what a transformer's tokens are cut from."""

from collections.abc import Sequence

from dreamgen_jax import errors


def check(latent: Sequence[int], patch: Sequence[int], factor: int) -> None:
  """Sees to it that patches cover a latent's rows and columns.

  Args:
    latent: its (t, h, w, ...).
    patch: latent frames, rows, columns of one patch.
    factor: pixels of a latent one, along height and along width.

  Raises:
    ConfigError: they do not.
  """
  (_, height, width), (_, tall, wide) = latent[:3], patch
  if height % tall or width % wide:
    raise errors.ConfigError(
        f"A picture of {factor * height}x{factor * width} pixels does not "
        f"divide into patches: height must be a multiple of {factor * tall}, "
        f"width of {factor * wide}.")
