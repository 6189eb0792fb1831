"""MusicGen's language model: the transformer, its codebooks' delay pattern, and its matrix products."""
