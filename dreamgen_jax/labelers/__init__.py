"""A package per action labeler, with Config, PRESETS, RULES, Model."""
