"""Seven joints with the kinematics of the Franka Panda."""

from dreamgen_jax.embodiments import _tabletop

EMBODIMENT = _tabletop.embodiment("tabletop_panda", 0)
