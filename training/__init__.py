"""The workspace that prepares data and trains the models that ship."""
