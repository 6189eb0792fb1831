"""Audio files that clients upload ahead of their predictions."""
