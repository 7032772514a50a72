"""The run folder: what was trained, on what, how, and how well; and the evaluation of a run."""
