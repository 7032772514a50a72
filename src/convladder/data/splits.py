"""Splits by their names: recognizes common names of training, validation and test splits."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

SPLITS = ("train", "validation", "test")
EVALUATION = "evaluation"  # the test split if no other name means test, else the validation split

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "validating", "dev", "development"), "validation"),
    **dict.fromkeys(("test", "testing", "holdout", "heldout"), "test"),
    **dict.fromkeys(("eval", "evaluation", "evaluating"), EVALUATION),
}


def word_set(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


# Words that say only that a folder holds pictures.
FILLERS = word_set(
    "set sets subset data dataset datasets image images img imgs picture pictures photo photos pic pics jpg jpeg png "
    "sample samples split folder files part parts batch fold chunk shard"
)
GLUED = re.compile(rf"({'|'.join(SPLIT_WORDS)})({'|'.join(FILLERS)})")
TOKEN = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\dA-Za-z_]+")


class Recognized(NamedTuple):
    """The split that a name means, and the rest of the name: "train" and "seg" for `seg_train`."""

    split: str
    rest: str


def tokenize(name: str) -> list[str]:
    """The words and numbers of a name, in lower case: test, images, 2 for `TestImages_2`."""
    words: list[str] = []
    for token in TOKEN.findall(name):
        glued = GLUED.fullmatch(token.lower())
        words += glued.groups() if glued else (token.lower(),)
    return words


def recognize_split(name: str) -> Recognized | None:
    """The split that a name means, if any: train_set, Testing, seg_train, valid-images, TEST1, dev."""
    words = tokenize(name)
    found = [SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS]
    if len(found) != 1:
        return None
    return Recognized(
        found[0], " ".join(w for w in words if w not in SPLIT_WORDS and w not in FILLERS and not w.isdecimal())
    )


def resolve_evaluation(splits: Iterable[str]) -> Mapping[str, str]:
    """The meaning of each recognized split. `eval` means the test split, unless another folder has that name."""
    named = set(splits)
    return {split: split for split in named} | {EVALUATION: "validation" if "test" in named else "test"}
