"""Predictions for any number of pictures, spread over a Ray cluster: what they are, parts of them, one actor's work."""
