"""Jobs: what is asked of the processes that carry out a search, and what carries it to them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from convladder.comparing.trials import Late, Trial
from convladder.data.dataset import Dataset
from convladder.tuning.space import Space

if TYPE_CHECKING:
    import keras

Parts = Mapping[str, Dataset]  # by rung, the data at its size, without test images
LookOn = Callable[[str, Trial], "Sequence[keras.callbacks.Callback]"]


@dataclass(frozen=True)
class Job:
    """What a process is asked to do: one trial, the next that waits in a study, or a new one.

    Attributes:
        place: Where the study is kept.
        study: Its name.
        space: What is searched.
        seed: Of the trials of the search.
        wanted: Number of trials of the search; 0 of what is trained again, all of which waits in the study.
    """

    place: str
    study: str
    space: Space
    seed: int
    wanted: int


class Carrier(Protocol):
    """Carries out jobs. What becomes of them is in their study."""

    def __call__(self, jobs: Iterator[Job | None], parts: Parts, *, look_on: LookOn, late: Late) -> Iterator[None]:
        """Carry out jobs, and yield after each. The next one is taken when there is a free place.

        Args:
            jobs: None where there is none yet.
            parts: The data of all of them.
            look_on: From a trial's name, and the trial, to Keras callbacks that see its epochs and steps.
            late: Whether unfinished trials must be stopped now. They wait for another call.
        """
