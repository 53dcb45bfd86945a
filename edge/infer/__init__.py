"""Interpreters that run TFLite models, and the emotion classifier."""
