"""The daemon: the only place that starts threads."""
