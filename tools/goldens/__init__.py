"""Cases of tests/goldens, one module for each family of released networks."""
