"""Two upright hinges, a quill and a yaw joint."""

from dreamgen_jax.embodiments import _tabletop

EMBODIMENT = _tabletop.embodiment("tabletop_scara", 3)
