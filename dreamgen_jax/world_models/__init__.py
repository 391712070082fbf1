"""A package per video world model, with Config, PRESETS, RULES, Model."""
