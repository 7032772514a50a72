"""Run folders: what was trained, on which data, how and how well; and the evaluation of a run."""
