"""What episodes are scored by; the folder is the registry.

A judge is a module with a frozen dataclass `Judge`, see `interfaces.Judge`. Of
its fields the stage sets those that `stages.judges` knows by name (statistics
of actions, a simulator's replay, a labeler); the others are a config's to set.
A field `camera` asks for that camera's video with every episode.
"""
