"""Demonstrations in the embedded tabletop simulator."""
