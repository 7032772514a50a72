"""Data: from images somewhere to a Dataset."""

from convladder.data.dataset import Account, Dataset, Split
from convladder.data.loading import load_dataset

__all__ = ["Account", "Dataset", "Split", "load_dataset"]
