"""Comparing: plans and carries out runs, measures their costs, and says which rung to take."""
