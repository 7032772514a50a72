"""Training: from a model, a Dataset and a recipe to a Run."""
