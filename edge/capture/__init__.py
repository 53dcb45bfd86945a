"""Frame sources: cameras, files, folders, synthetic pictures."""
