"""`mien doctor`: what is wrong with this machine, each finding with its fix. Looks only: nothing is written or sent."""
