"""Continuous batching: requests of different lengths and settings share each decoding step."""
