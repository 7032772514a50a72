"""Evaluation: how good a network is, how sure it may be, and what it cannot stand."""

from convladder.evaluating.metrics import describe, predict_probabilities, score

__all__ = ["describe", "predict_probabilities", "score"]
