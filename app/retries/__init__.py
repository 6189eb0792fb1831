"""Requests that come again because their answer was lost."""
