"""Rebuilds and quantizes the YuNet face detector."""
