"""Model folders: where they come from, what is in them, and how their weights are read."""
