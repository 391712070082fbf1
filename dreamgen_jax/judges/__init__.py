"""Judges of videos."""
