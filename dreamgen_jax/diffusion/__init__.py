"""Noise processes, samplers and guidance: pure functions of arrays.

One time tau in [0, 1]: 0 is data, 1 is noise; velocity = noise - data.
"""
