"""Pace: how many steps a training of so many minutes will come to, corrected after every look at the clock.

Nothing is measured beforehand: the steps that tell how long a step takes are the training's first.
"""

import time
from dataclasses import dataclass, replace

ENDLESS = 1_000_000  # epochs, of a training that the clock ends
FORWARD = 1 / 3  # of the seconds of a training step: what an answer takes, until one has been timed

# What a run does but for its steps is Python's work above all: tracing before them, export after. It grows with the
# network and the machine as building the network does: so many times that, and a little more.
BUILDS_BEFORE = 5
BUILDS_AFTER = 10
SECONDS_AFTER = 1.0


def seconds_after(building: float) -> float:
    """What follows the fitting of a network that took so many seconds to build, but for the answers it gives."""
    return SECONDS_AFTER + BUILDS_AFTER * building


@dataclass(frozen=True)
class Deadline:
    """When a run must be done, and what of the time until then is not for fitting.

    Attributes:
        at: The end, as `time.monotonic()` counts.
        fixed: Seconds that what follows the fitting takes, however fast the network is.
        images: For how many images a network answers in what follows.
        members: How many networks share the time that is left: this one, and those fitted after it.
    """

    at: float
    fixed: float = 0.0
    images: int = 0
    members: int = 1

    @staticmethod
    def in_minutes(minutes: float) -> "Deadline":
        """So many from now on, all of them for fitting."""
        return Deadline(time.monotonic() + 60 * minutes)

    def among(self, members: int) -> "Deadline":
        """The same, for the next of so many networks."""
        return replace(self, members=members)


class Pace:
    """Says after every look at the clock how many steps are left, and whether to end.

    Args:
        deadline: Of the run.
        batch_size: Images a step.
        images: For how many images the network answers when it is fitted, besides those of the deadline.
    """

    def __init__(self, deadline: Deadline, batch_size: int, images: int) -> None:
        self._deadline, self._batch_size, self._images = deadline, batch_size, images
        self._began = time.monotonic()
        self._answer = 0.0  # seconds, of an image
        self.begin_part()

    def begin_part(self, done: int = 0, share: float = 1.0, parts_after: int = 0) -> None:
        """A part of the training begins, in which a step takes another time.

        Args:
            done: Steps of the parts before it.
            share: Of the time that is left.
            parts_after: How many parts follow, each of about as many steps.
        """
        self._later, self._parts_after = (1 - share) * self.left, parts_after
        self._part_began = self._last = done
        self._first: tuple[float, int] | None = None
        self.over = self.left <= self._later

    def note_answers(self, images: int, seconds: float) -> None:
        """So long did the network take to answer for so many images."""
        self._answer = seconds / max(1, images)

    @property
    def left(self) -> float:
        """Seconds that are left to fitting."""
        after = self._deadline.fixed + (self._deadline.images + self._images) * self._answer
        return (self._deadline.at - after - self._began) / self._deadline.members - (time.monotonic() - self._began)

    def steps_left(self, done: int) -> float | None:
        """How many steps are left when so many are done; None where that cannot be told yet."""
        look, self._last = done - self._last, done
        now, left = time.monotonic(), self.left - self._later
        if self._first is None:  # it traced the network, and tells nothing
            self._first, self.over = (now, done), left <= 0
            return None
        seconds = (now - self._first[0]) / (done - self._first[1])
        self._answer = self._answer or FORWARD * seconds / self._batch_size
        self.over = left < look * seconds / 2
        here = max(0.0, left / seconds)
        return here + self._parts_after * (done - self._part_began + here)
