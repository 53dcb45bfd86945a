"""What the command ``mien`` does beside the daemon."""
