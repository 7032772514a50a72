"""Splits by their names: what people call the folders, and the rows of a table, that train, validate and test."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

SPLITS = ("train", "validation", "test")
EVALUATION = "evaluation"  # the test where nothing else is called so, else the validation

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "validating", "dev", "development"), "validation"),
    **dict.fromkeys(("test", "testing", "holdout", "heldout"), "test"),
    **dict.fromkeys(("eval", "evaluation", "evaluating"), EVALUATION),
}


def word_set(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


# Words that say of a folder no more than that there are pictures in it.
FILLERS = word_set(
    "set sets subset data dataset datasets image images img imgs picture pictures photo photos pic pics jpg jpeg png "
    "sample samples split folder files part parts batch fold chunk shard"
)
GLUED = re.compile(rf"({'|'.join(SPLIT_WORDS)})({'|'.join(FILLERS)})")
TOKEN = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\dA-Za-z_]+")


class Recognized(NamedTuple):
    """A name that tells a split, and what else it tells: of `seg_train` "train" and "seg"."""

    split: str
    rest: str


def tokenize(name: str) -> list[str]:
    """The words and numbers of a name, in lower case: of `TestImages_2` test, images, 2."""
    words: list[str] = []
    for token in TOKEN.findall(name):
        glued = GLUED.fullmatch(token.lower())
        words += glued.groups() if glued else (token.lower(),)
    return words


def recognize_split(name: str) -> Recognized | None:
    """The split that a name tells, where it tells one: train_set, Testing, seg_train, valid-images, TEST1, dev."""
    words = tokenize(name)
    found = [SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS]
    if len(found) != 1:
        return None
    return Recognized(
        found[0], " ".join(w for w in words if w not in SPLIT_WORDS and w not in FILLERS and not w.isdecimal())
    )


def resolve_evaluation(splits: Iterable[str]) -> Mapping[str, str]:
    """What each of the recognized splits is: what is called `eval` is for testing, unless something else is."""
    named = set(splits)
    return {split: split for split in named} | {EVALUATION: "validation" if "test" in named else "test"}
