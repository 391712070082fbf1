"""Datasets that a user builds or imports, one folder each."""
