"""Frozen towers that several models share, and their tokenizers."""
