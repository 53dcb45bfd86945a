"""The work of the command ``mien`` beside the daemon."""
