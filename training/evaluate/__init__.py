"""Measures trained models and reports what was found."""
