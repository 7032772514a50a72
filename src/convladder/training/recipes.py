"""Recipes: how a model is trained. ARTICLE is the article's recipe, DEFAULT is ours."""

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convladder.errors import ConvladderError, check_choice, check_range

if TYPE_CHECKING:
    from convladder.data.dataset import Dataset

PRECISIONS = ("auto", "float32", "bfloat16")
AUGMENTATIONS = ("none", "digits", "photos")
EPOCHS = (0.001, 100_000)
LARGEST_RATE = 1e29  # a larger one takes weights out of float32's range in one step
MOST_MINUTES = 366 * 24 * 60


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes:
        name: Its name in run.json.
        epochs: Passes over the training images, 0.001 to 100,000. Fractions are allowed.
        minutes: Instead of epochs: a time limit for the whole run, with scoring and export. The learning rate follows
            the clock, so that it falls to zero in time.
        until: Stop after the first epoch with this validation accuracy, 0–1.
        batch_size: Images per step, 1 to 65,536.
        learning_rate: Learning rate of Adam, at least 0; with `one_cycle`, its peak.
        one_cycle: Whether the learning rate rises and falls once during the run (Smith and Topin 2017,
            arXiv:1708.07120) instead of being constant.
        beta_1: Adam's decay of the mean gradient.
        beta_2: Adam's decay of its square.
        weight_decay: Share of the kernels that a step subtracts, times the learning rate (Loshchilov and Hutter 2017,
            arXiv:1711.05101).
        label_smoothing: Probability that is moved from the right class to all classes, 0–1.
        augment: "none"; "digits": small shifts, rotations and scalings, different in every epoch; "photos": flips,
            shifts, changes of brightness, contrast and saturation, cutout.
        rescale: Whether the model scales its pixels to 0–1.
        validate: Whether the validation images are held out to choose the best epoch, or used for training too.
        precision: "float32", "bfloat16", or "auto": bfloat16 on x86 processors with hardware support.
        class_weights: Whether pictures of small classes count more, if the largest class is at least twice as large.
        views: Test-time augmentation of the shipped model: "none"; "digits": average over the picture and four copies
            shifted by a pixel; "photos": average over the picture and its mirror image. A prediction needs five or
            two times the arithmetic; training is not slower.
    """

    name: str
    epochs: float
    batch_size: int
    learning_rate: float
    one_cycle: bool
    beta_1: float
    beta_2: float
    weight_decay: float
    label_smoothing: float
    augment: str
    rescale: bool
    validate: bool
    precision: str
    minutes: float | None = None
    until: float | None = None
    class_weights: bool = False
    views: str = "none"

    def __post_init__(self) -> None:
        check_range("epochs", self.epochs, *EPOCHS)
        check_range("batch size", self.batch_size, 1, 65_536)
        check_range("learning rate", self.learning_rate, 0, LARGEST_RATE)
        check_range("label smoothing", self.label_smoothing, 0, 1)
        check_range("weight decay", self.weight_decay, 0)
        check_choice("augmentation", self.augment, AUGMENTATIONS)
        check_choice("views", self.views, AUGMENTATIONS)
        check_choice("precision", self.precision, PRECISIONS)
        if self.minutes is not None:
            check_range("minutes", self.minutes, 0.05, MOST_MINUTES)
        if self.until is not None:
            check_range("until", self.until, 0, 1)
            if not self.validate:
                raise ConvladderError(
                    "--until needs validation images. Expected a recipe that holds some out: default."
                )


ARTICLE = Recipe(
    name="article",
    epochs=10,
    batch_size=128,
    learning_rate=0.001,
    one_cycle=False,
    beta_1=0.9,
    beta_2=0.999,
    weight_decay=0,
    label_smoothing=0,
    augment="none",
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
    weight_decay=0,
    label_smoothing=0.1,
    augment="none",
    rescale=True,
    validate=True,
    precision="auto",
    class_weights=True,
)

# Changes of DEFAULT for rungs that were tuned for MNIST; all other rungs share DEFAULT. docs/benchmarks.md says how
# they were found. Every comparison marks these rungs with `settings.describe_tuned`.
TUNED: Mapping[str, Mapping[str, Any]] = {
    "fast": {"epochs": 0.9, "batch_size": 128, "learning_rate": 0.024, "weight_decay": 0.05},
    "strong": {"epochs": 13, "augment": "digits", "views": "digits", "weight_decay": 0.05},
    "tiny": {"epochs": 20, "augment": "digits", "views": "digits", "learning_rate": 0.01, "label_smoothing": 0},
    "transfer": {"epochs": 1, "views": "photos", "class_weights": False},
    "finetune": {
        "batch_size": 32,
        "learning_rate": 0.0003,
        "beta_1": 0.9,
        "beta_2": 0.999,
        "weight_decay": 0.05,
        "class_weights": False,
    },
}
# Further changes for pictures with colour; `strong` takes a quarter of an hour for CIFAR-10.
TUNED_FOR_COLOURS: Mapping[str, Mapping[str, Any]] = {
    "fast": {"epochs": 1.5, "learning_rate": 0.012},
    "strong": {"epochs": 20, "augment": "photos", "views": "photos", "weight_decay": 0.25},
    "tiny": {"augment": "photos", "views": "photos"},
    "finetune": {"augment": "photos", "views": "photos"},
}

# What all rungs can be given alike; what else a tuned rung has stays its own.
EQUAL = ("epochs", "batch_size", "augment", "views")

# Where pictures are few, steps count and not epochs: two epochs of a few hundred pictures are a handful of steps. Of
# 1,515 photographs in ten classes at 48 pixels `pool` was right on 53 % after these, a minute on two cores.
FEW_IMAGES = 20_000  # training images
FEWEST_STEPS = 1_000
BATCH_OF_FEW = 32
RATE_OF_FEW = 1 / 3  # of the rung's learning rate: about the square root of the batch's change, which is an eighth
MOST_EPOCHS = 100  # for a few hundred pictures; more would add nothing

# Epochs of `finetune` follow from this number of pictures in all, within these bounds.
FINETUNED_PICTURES = 15_000
FINETUNED_EPOCHS = (3, 12)


def default_recipe(rung: str, channels: int = 1, images: int | None = None, *, photographs: bool = False) -> Recipe:
    """The default recipe for a rung and data: DEFAULT with changes.

    Args:
        rung: A name from MODELS.
        channels: Channels of the images.
        images: Number of training images. With few, batches are smaller and epochs more.
        photographs: Whether they are photographs, which need their own augmentation.
    """
    in_colours = TUNED_FOR_COLOURS.get(rung, {}) if channels == 3 else {}
    recipe = replace(DEFAULT, **{**TUNED.get(rung, {}), **in_colours})
    if rung == "transfer":
        return recipe
    if rung == "finetune":
        least, most = FINETUNED_EPOCHS
        return replace(recipe, epochs=round(min(most, max(least, FINETUNED_PICTURES / (images or FEW_IMAGES))), 1))
    if images is not None and images < FEW_IMAGES:
        epochs = round(min(MOST_EPOCHS, FEWEST_STEPS * BATCH_OF_FEW / images), 1)
        recipe = replace(
            recipe,
            batch_size=BATCH_OF_FEW,
            epochs=max(recipe.epochs, epochs),
            learning_rate=RATE_OF_FEW * recipe.learning_rate,
        )
    if photographs and recipe.augment == "none":
        recipe = replace(recipe, augment="photos")
    return recipe


def default_recipe_for(rung: str, dataset: "Dataset") -> Recipe:
    """The default recipe of a rung for a data set."""
    return default_recipe(rung, dataset.input_shape[2], len(dataset.train), photographs=dataset.photographs)


def usual_recipe(rung: str, info: Mapping[str, Any]) -> Recipe:
    """The default recipe of a rung for the data of a run."""
    photographs = info.get("photographs", False)
    return default_recipe(rung, info["input_shape"][2], info["images"]["train"], photographs=photographs)


def is_tuned(info: Mapping[str, Any]) -> bool:
    """Whether a run's recipe has settings that were tuned for its rung."""
    rung, recipe = info["rung"], info.get("recipe", {})
    if rung not in TUNED or recipe.get("name") != DEFAULT.name:
        return False
    own, shared = (asdict(usual_recipe(name, info)) for name in (rung, ""))
    return any(recipe.get(key) == own[key] != shared[key] for key in own if key not in EQUAL)


def resolve_precision(recipe: Recipe) -> tuple[str, str]:
    """The precision to train in on this machine, and the reason."""
    if recipe.precision != "auto":
        return recipe.precision, "as the recipe says"
    if has_gpu():
        return "float32", "a GPU trains, and bfloat16 was only measured on x86 processors"
    if platform.machine().lower() not in ("x86_64", "amd64", "i686", "i386"):
        return "float32", f"bfloat16 was only measured on x86 processors, and this is {platform.machine()}"
    flags = processor_flags()
    if not flags:
        return "float32", f"{platform.system()} does not say whether this processor has bfloat16 in hardware"
    if flags & {"avx512_bf16", "amx_bf16"}:
        return "bfloat16", "this processor multiplies bfloat16 in hardware"
    return "float32", "this processor has no bfloat16 in hardware, so it would be slower"


def has_gpu() -> bool:
    """Whether TensorFlow sees a GPU, which it then uses for training."""
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def processor_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> set[str]:
    """The processor's features, as Linux names them; empty if the file does not exist."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())


def rung_side(rung: str, dataset: "Dataset") -> int:
    """The default height and width of a data set's pictures for a rung."""
    from convladder.models.backbone import PRETRAINED, SIDE

    side = dataset.input_shape[0]
    named = dataset.source is None or dataset.source["image_size"] is not None
    return SIDE if rung in PRETRAINED and dataset.photographs and not named else side


def idle_options(recipe: Recipe, ensemble: int, minutes: str = "--minutes") -> list[str]:
    """The given options that have no effect on a head that is solved, not trained."""
    idle = {
        "--ensemble": ensemble > 1,
        minutes: recipe.minutes is not None,
        "--until": recipe.until is not None,
        "--augment": recipe.augment != "none",
        "--views digits": recipe.views == "digits",
    }
    return [option for option, asked in idle.items() if asked]
