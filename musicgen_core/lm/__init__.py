"""MusicGen's language model: the transformer, the delay pattern of its codebooks, and its matrix products."""
