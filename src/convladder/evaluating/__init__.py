"""Evaluating: metrics and maps from probabilities, labels and pixels."""
