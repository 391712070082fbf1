"""One module per foreign dataset: how its records become episodes."""
