"""Computation on a CPU in C: products with packed weights, and a whole decoding step in one call.

`source/` is compiled when the package is built (setup.py). Where it could not be, torch computes instead.
"""
