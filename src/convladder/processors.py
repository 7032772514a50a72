"""How many processors this process may use, by affinity (taskset, a batch system) and a container's quota (cgroups)."""

import contextlib
import ctypes
import math
import os
from collections.abc import Iterator
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # of mallopt(3)


def count_processors(root: Path = Path("/")) -> int:
    """Processors that this process may use, at least 1.

    Args:
        root: The folder that holds proc/ and sys/.
    """
    return max(1, min(math.ceil(number) for number in (_affinity(), *_quotas(root))))


def count_threads(root: Path = Path("/")) -> int | None:
    """Number of threads for a library; None if all processors may be used, because then the library knows best."""
    number = count_processors(root)
    return number if number < (os.cpu_count() or 1) else None


def limit_threads() -> None:
    """Limit TensorFlow's threads, before its import, because TensorFlow only considers affinity."""
    number = count_threads()
    if number:
        for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
            os.environ.setdefault(name, str(number))


_keeping = False


def keeps_freed_memory() -> bool:
    """Whether `keep_freed_memory` was called in this process."""
    return _keeping


def keep_freed_memory() -> None:
    """Make the C library keep freed memory for the rest of the process; works only with glibc.

    By default glibc returns blocks above 32 MB to the system at once, which must zero them page by page when they are
    needed again. That takes a sixth of a fine-tuning step. A single arena finds blocks again whichever thread freed
    them, and needs less memory.
    """
    global _keeping  # noqa: PLW0603 (as the C library's setting, which it describes)
    _keeping = True
    with contextlib.suppress(OSError, AttributeError):
        adjust = ctypes.CDLL(None).mallopt
        for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_ARENA_MAX, 1)):
            adjust(option, value)


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS has neither affinity nor cgroups


def _quotas(root: Path) -> Iterator[float]:
    """Yield the processors that each control group of this process allows."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2, alone or beside version 1
            mounts, name = ("sys/fs/cgroup", "sys/fs/cgroup/unified"), "cpu.max"
        elif "cpu" in controllers.split(","):
            mounts, name = (f"sys/fs/cgroup/{controllers}", "sys/fs/cgroup/cpu"), "cpu.cfs_quota_us"
        else:
            continue
        for mount in mounts:
            # In a container, the root of the mount is its own group, whatever path the file names.
            inner = Path(path.lstrip("/"))
            for group in dict.fromkeys((inner, *inner.parents, Path())):
                yield from _quota(root / mount / group / name)


def _quota(file: Path) -> Iterator[float]:
    """Read "QUOTA PERIOD" in version 2, two files in version 1; yields nothing if there is no limit."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: "max"
        words = file.read_text(encoding="utf-8").split()
        if file.name == "cpu.cfs_quota_us":
            words.append(file.with_name("cpu.cfs_period_us").read_text(encoding="utf-8"))
        quota, period = map(int, words)
        if quota > 0 and period > 0:
            yield quota / period
