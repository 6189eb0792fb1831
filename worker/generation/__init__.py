"""One attempt at a prediction, from its lease to its stored output."""
