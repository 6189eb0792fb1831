"""The command `musicgen`."""
