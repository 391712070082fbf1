"""Three overhead slides and a yaw joint."""

from dreamgen_jax.embodiments import _tabletop

EMBODIMENT = _tabletop.embodiment("tabletop_gantry", 2)
