"""Sinks: where events and states go."""
