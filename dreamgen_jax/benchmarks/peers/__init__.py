"""Other people's implementations, timed beside ours; the only use of torch."""
