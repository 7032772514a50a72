"""Plots leave alone what belongs to whoever calls: in a notebook, its backend, its settings and its figures."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import convladder as cl

EVERYTHING = """
import sys
from pathlib import Path
import numpy as np
import convladder as cl
from convladder.reporting import plots
from convladder.comparing.comparison import Comparison
from convladder.evaluating.explaining import explain

def draw():
    run, image = cl.Run(sys.argv[1]), np.load(sys.argv[2])
    comparison = Comparison((run,))
    assert "<svg" in run._repr_html_()
    assert "<svg" in comparison._repr_html_()
    cl.write_report(comparison, "report.html")
    seen = explain(run.classifier().predict_probabilities, image)
    plots.plot_explanations([("one", seen)], None, Path("all.png"))
    plots.plot_map(seen, "occlusion", Path("one.png"))
    plots.plot_filters(np.ones((4, 3, 3, 1), np.float32), Path("filters.svg"))
    plots.plot_feature_maps(np.ones((4, 4, 3), np.float32), Path("maps.svg"))
"""

OWN = """
import matplotlib.pyplot as plt
plt.switch_backend("pdf")
plt.rcParams["lines.linewidth"] = 7
plt.plot([1, 2])
def state():
    return plt.get_backend(), dict(plt.rcParams), plt.get_fignums(), id(plt.gcf()), id(plt.gca())
before = state()
draw()
assert state() == before
"""

NOT_YET = """
draw()
import matplotlib
assert matplotlib.get_backend(auto_select=False) is None  # it is still to be chosen
changed = plots.PAGE_STYLE
assert {key: matplotlib.rcParams[key] for key in changed} == {key: matplotlib.rcParamsDefault[key] for key in changed}
import matplotlib.pyplot as plt
plt.switch_backend("agg")
plt.plot([1, 2])
assert plt.get_fignums() == [1]
"""


@pytest.mark.long
@pytest.mark.parametrize("notebook", [OWN, NOT_YET], ids=["after the caller's plots", "before them"])
def test_the_caller_s_backend_settings_and_figures_stay(
    notebook: str, run: cl.Run, small: cl.Dataset, tmp_path: Path
) -> None:
    np.save(tmp_path / "image.npy", small.test.images[0])
    command = [sys.executable, "-c", EVERYTHING + notebook, str(run.path.resolve()), "image.npy"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    drawn = {"report.html", "all.png", "one.png", "filters.svg", "maps.svg", "image.npy"}
    assert {path.name for path in tmp_path.iterdir()} == drawn
