"""Cross-validation and the search for a network."""
