"""Data: from images somewhere to a Dataset."""

from convladder.data.dataset import Dataset, Split
from convladder.data.loading import load_dataset

__all__ = ["Dataset", "Split", "load_dataset"]
