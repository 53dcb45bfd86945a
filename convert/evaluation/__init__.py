"""Judges a small model against the float one: statistics, average precision, the verdict."""
