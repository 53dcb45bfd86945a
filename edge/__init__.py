"""Mien's device runtime: camera frames in, emotion events out."""

__version__ = "0.1.0"
