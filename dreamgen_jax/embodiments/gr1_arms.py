"""Fourier GR1 as GR00T's IDM is trained on it: arms and hands, 26 joints."""

import dataclasses

from dreamgen_jax.embodiments import gr1

_WANTED = ("left_arm", "right_arm", "left_hand", "right_hand")
_KEYS = tuple(key for name in _WANTED for key in gr1.EMBODIMENT.action
              if key.name == name)

EMBODIMENT = dataclasses.replace(
    gr1.EMBODIMENT, name="gr1_arms", state=_KEYS, action=_KEYS)
