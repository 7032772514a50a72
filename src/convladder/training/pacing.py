"""Pacing: predicts how many steps a training with a time limit can do, corrected after every look at the clock.

Nothing is measured beforehand: the training's first steps show how long a step takes.
"""

import time
from dataclasses import dataclass, replace

ENDLESS = 1_000_000  # epochs of a training that the clock ends
FORWARD = 1 / 3  # of a training step: the time of an answer, until one has been timed

# Besides the steps, a run spends most time in Python: tracing before them, export after them. That grows with the
# network and the machine like building the network does, so it is estimated as a multiple of that plus a constant.
BUILDS_BEFORE = 5
BUILDS_AFTER = 10
SECONDS_AFTER = 1.0


def seconds_after(building: float) -> float:
    """Seconds that follow the fitting, without predictions, for a network that took `building` seconds to build."""
    return SECONDS_AFTER + BUILDS_AFTER * building


@dataclass(frozen=True)
class Deadline:
    """When a run must be done, and the part of the time that is not for fitting.

    Attributes:
        at: The end, on the clock of `time.monotonic()`.
        fixed: Seconds needed after the fitting, independent of the network's speed.
        images: Number of images that a network must classify after the fitting.
        members: Number of networks that share the remaining time: this one and the following ones.
    """

    at: float
    fixed: float = 0.0
    images: int = 0
    members: int = 1

    @staticmethod
    def in_minutes(minutes: float) -> "Deadline":
        """A deadline in so many minutes, all of them for fitting."""
        return Deadline(time.monotonic() + 60 * minutes)

    def among(self, members: int) -> "Deadline":
        """The same deadline for the next of `members` networks."""
        return replace(self, members=members)


class Pace:
    """Predicts, after every look at the clock, how many steps are left.

    Args:
        deadline: Deadline of the run.
        batch_size: Images per step.
        images: Number of images that the network classifies during the fitting, besides those of the deadline.
    """

    def __init__(self, deadline: Deadline, batch_size: int, images: int) -> None:
        self._deadline, self._batch_size, self._images = deadline, batch_size, images
        self._began = time.monotonic()
        self._answer = 0.0  # seconds per image
        self.begin_part()

    def begin_part(self, done: int = 0, share: float = 1.0, parts_after: int = 0) -> None:
        """Begin a part of the training in which a step takes a different time.

        Args:
            done: Steps of the parts before it.
            share: Its share of the remaining time.
            parts_after: Number of parts that follow, each with about as many steps.
        """
        self._later, self._parts_after = (1 - share) * self.left, parts_after
        self._part_began = self._last = done
        self._first: tuple[float, int] | None = None
        self.over = self.left <= self._later

    def note_answers(self, images: int, seconds: float) -> None:
        """Note how long the network took to classify so many images."""
        self._answer = seconds / max(1, images)

    @property
    def left(self) -> float:
        """Seconds that are left for fitting."""
        after = self._deadline.fixed + (self._deadline.images + self._images) * self._answer
        return (self._deadline.at - after - self._began) / self._deadline.members - (time.monotonic() - self._began)

    def steps_left(self, done: int) -> float | None:
        """Number of remaining steps after `done` steps; None if it is not known yet."""
        look, self._last = done - self._last, done
        now, left = time.monotonic(), self.left - self._later
        if self._first is None:  # the first look includes tracing, so it shows nothing
            self._first, self.over = (now, done), left <= 0
            return None
        seconds = (now - self._first[0]) / (done - self._first[1])
        self._answer = self._answer or FORWARD * seconds / self._batch_size
        self.over = left < look * seconds / 2
        here = max(0.0, left / seconds)
        return here + self._parts_after * (done - self._part_began + here)
