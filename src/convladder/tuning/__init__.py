"""Tuning: a search for a rung, its choices and its recipe."""
