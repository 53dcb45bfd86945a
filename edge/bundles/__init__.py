"""Installed, shipped and previous bundles: stored whole, chosen by name, signed."""
