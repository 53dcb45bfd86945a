"""Quantizes models to int8 TFLite bundles, with a verdict on their accuracy."""
