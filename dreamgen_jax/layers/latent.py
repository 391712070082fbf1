"""The grid of a clip's latent under a causal video autoencoder."""

from dreamgen_jax import errors


def grid(frames: int, height: int, width: int, *, time: int,
         space: int) -> tuple[int, int, int]:
  """Latent frames, rows and columns (t, h', w') of a clip.

  Args:
    frames, height, width: of the clip.
    time, space: how many frames, or pixels of a side, one latent one stands
      for; the first frame has a latent frame of its own.

  Raises:
    ConfigError: the clip does not divide into latent frames and pixels.
  """
  if (frames - 1) % time or height % space or width % space:
    raise errors.ConfigError(
        f"A clip of {frames} frames of {height}x{width} pixels has no latent: "
        f"frames must be 1 plus a multiple of {time}, height and width "
        f"multiples of {space}.")
  return 1 + (frames - 1) // time, height // space, width // space
