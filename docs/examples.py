"""Write example-report.html, the report on the whole ladder with one seed, and photos-curve.svg.

python docs/examples.py    # twenty minutes; the report has this machine's seconds
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from convladder.data.features import pool_features
from convladder.data.loading import load_dataset
from convladder.models.backbone import SIDE
from convladder.reporting.curves import svg_of_learning_curve
from convladder.training.learning_curve import measure_learning_curve

COMPARE = ("compare",)


def main() -> None:
    """Run the commands that the pages name, and keep what they show."""
    docs = Path(__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "convladder", *COMPARE], cwd=folder, check=True)
        (docs / "example-report.html").write_bytes((Path(folder) / "runs" / "report.html").read_bytes())
    photographs = load_dataset("clothes", photograph_size=SIDE, keep_leaks=True)
    figure = svg_of_learning_curve(measure_learning_curve(photographs, *pool_features(photographs)))
    # A page that shows a file gives it no background.
    (docs / "photos-curve.svg").write_text(figure.replace("<svg ", '<svg style="background:white" ', 1) + "\n")


if __name__ == "__main__":
    main()
