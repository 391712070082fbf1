"""Datasets, windows, clocks, loaders: numpy and grain, never JAX."""
