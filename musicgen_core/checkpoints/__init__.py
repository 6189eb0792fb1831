"""Model folders: how they are found, what they hold, and how their weights are read."""
