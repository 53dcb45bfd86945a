"""TFLite files: read, checked, changed, measured."""
