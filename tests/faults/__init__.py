"""Faults made on purpose, and whether the service keeps its promises in spite of them."""
