"""Requests to addresses that clients name, without becoming their way into our network."""
