"""Recipes: how a model is trained. ARTICLE is the article's, DEFAULT is ours."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from convladder.errors import check_choice, check_range

PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes:
        name: What run.json calls it.
        epochs: Passes over the training images, above 0; a fraction trains on that share of them.
        batch_size: Images a step.
        learning_rate: Of Adam; the peak of the cycle where there is one.
        one_cycle: Whether the learning rate rises and falls once over the run (Smith and Topin 2017,
            arXiv:1708.07120) instead of standing still.
        beta_1: Adam's decay of the mean gradient.
        beta_2: Adam's decay of its square.
        label_smoothing: Probability taken from the right class and spread over all, 0–1.
        rescale: Whether the model scales its pixels to 0–1.
        validate: Whether the validation images are held out, to choose the best epoch, or trained on as well.
        precision: "float32", "bfloat16", or "auto": bfloat16 where the processor has it in hardware.
    """

    name: str
    epochs: float
    batch_size: int
    learning_rate: float
    one_cycle: bool
    beta_1: float
    beta_2: float
    label_smoothing: float
    rescale: bool
    validate: bool
    precision: str

    def __post_init__(self) -> None:
        check_range("epochs", self.epochs, 0.001)
        check_range("batch size", self.batch_size, 1)
        check_range("learning rate", self.learning_rate, 0)
        check_range("label smoothing", self.label_smoothing, 0, 1)
        check_choice("precision", self.precision, PRECISIONS)


ARTICLE = Recipe(
    name="article",
    epochs=10,
    batch_size=128,
    learning_rate=0.001,
    one_cycle=False,
    beta_1=0.9,
    beta_2=0.999,
    label_smoothing=0,
    rescale=False,
    validate=False,
    precision="float32",
)

DEFAULT = Recipe(
    name="default",
    epochs=2,
    batch_size=256,
    learning_rate=0.006,
    one_cycle=True,
    beta_1=0.8,
    beta_2=0.95,
    label_smoothing=0.1,
    rescale=True,
    validate=True,
    precision="auto",
)

RECIPES: Mapping[str, Recipe] = {"article": ARTICLE, "default": DEFAULT}


def resolve_precision(recipe: Recipe) -> tuple[str, str]:
    """The precision to train in on this processor, and why."""
    if recipe.precision != "auto":
        return recipe.precision, "as the recipe says"
    if processor_flags() & {"avx512_bf16", "amx_bf16"}:
        return "bfloat16", "this processor multiplies bfloat16 in hardware"
    return "float32", "this processor has no bfloat16 in hardware, where it would be slower"


def processor_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> set[str]:
    """What the processor can do, in Linux's words; nothing where there is no such file."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())
