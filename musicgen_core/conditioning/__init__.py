"""Conditioning: texts through T5, and melodies as chromagrams."""
