"""Five joints in the layout of the SO-100, scaled up to the same table."""

from dreamgen_jax.embodiments import _tabletop

EMBODIMENT = _tabletop.embodiment("tabletop_so100", 1)
