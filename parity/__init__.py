"""Our engine beside the reference implementation, audiocraft: golden values, and both on the same weights."""
