"""Data before training: audited, cleared of copies, split, brought to one size."""
