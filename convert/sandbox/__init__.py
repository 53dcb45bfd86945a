"""Reads files of strangers: checks before anything is parsed, and a process with limits that does the parsing."""
