"""Labelled dreams, as `stages/label.py` writes them."""

from dreamgen_jax.data import layout

DATASET = layout.Native("neural trajectories: dreams with their labels")
