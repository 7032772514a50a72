"""Evaluation: how good a network is, how sure it may be, and what it cannot stand."""

from convladder.runs.evaluating import evaluate, load_like
from convladder.evaluating.metrics import describe, predict_probabilities, score, without

__all__ = ["describe", "evaluate", "load_like", "predict_probabilities", "score", "without"]
