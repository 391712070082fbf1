"""One module per robot: data only."""
