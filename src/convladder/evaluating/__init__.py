"""Evaluation: from probabilities, labels and pixels to numbers and maps."""
