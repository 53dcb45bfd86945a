"""Mien to look at: real pictures of people through the real pipeline, over a real broker, onto the terminal."""
