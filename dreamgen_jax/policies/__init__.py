"""One package per policy; each exports Config, PRESETS, RULES, Model."""
