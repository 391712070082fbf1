"""Policies over the wire: two protocols, one batcher."""
