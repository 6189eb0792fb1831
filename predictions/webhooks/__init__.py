"""Webhooks: what they say, how they are signed, when they are attempted, and their deliveries in the store."""
