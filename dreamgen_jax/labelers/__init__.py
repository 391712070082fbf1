"""One package per action labeler; each exports Config, PRESETS, RULES, Model."""
