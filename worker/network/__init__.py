"""Requests to URLs that clients name, which cannot reach the operator's own network."""
