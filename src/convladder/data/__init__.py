"""Data: from images somewhere to a Dataset."""
