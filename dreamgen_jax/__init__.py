"""DreamGen (arXiv 2505.12705) in JAX: dream robot videos, label, train."""

__version__ = "0.1.0"
