"""Training of one recipe, from its targets to the run folder."""
