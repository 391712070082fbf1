"""RLDS datasets in other files."""
