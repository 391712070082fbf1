"""Six joints in the layout of a UR arm."""

from dreamgen_jax.embodiments import _tabletop

EMBODIMENT = _tabletop.embodiment("tabletop_ur", 4)
