"""The learning curve as a section of the report and of the audit's page."""

from pathlib import Path

from convladder.markup import shown
from convladder.reporting.curves import svg_of_learning_curve
from convladder.training.learning_curve import LearningCurve


def render_learning_curve(curve: LearningCurve) -> str:
    """A plot, a table of its numbers, and a summary. Names are escaped."""
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=shown)
    template = environment.from_string(Path(__file__).with_name("learning_curve.html").read_text(encoding="utf-8"))
    return template.render(curve=curve, figure=svg_of_learning_curve(curve))
