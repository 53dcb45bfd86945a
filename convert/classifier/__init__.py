"""Quantizes an emotion classifier: load, calibrate, equalize, quantize, judge, repair."""
