"""Programs that measure what the documents claim."""
