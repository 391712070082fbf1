"""One package per video world model; each exports Config, PRESETS, RULES, Model."""
