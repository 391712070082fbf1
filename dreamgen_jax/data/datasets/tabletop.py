"""Demonstrations of the embedded tabletop, as `stages/collect.py` writes them.
"""

from dreamgen_jax.data import layout

DATASET = layout.Native("demonstrations or prompts of the tabletop")
