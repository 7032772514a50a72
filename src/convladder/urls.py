"""URLs of places: whatever fsspec knows, such as s3://bucket/folder. No message shows a password."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from convladder.errors import ConvladderError


def is_url(name: str) -> bool:
    """Whether this is a URL, not a path."""
    return "://" in name


def without_password(url: str) -> str:
    """A URL without what stands before the @ of its host."""
    return re.sub(r"//[^/@]*@", "//", url)


def open_url(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path on it.

    Raises:
        ConvladderError: There is no such scheme, its package is not installed, or it cannot be connected to.
    """
    import fsspec

    shown = without_password(url)
    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise ConvladderError(f"{shown} needs another package ({reason(error)}). Install it everywhere.") from error
    except Exception as error:  # each file system has its own
        raise ConvladderError(
            f"Could not open {shown} ({reason(error)}). Expected a URL that fsspec knows, such as s3://bucket/folder."
        ) from error
    return system, path.rstrip("/")


def check_bucket(url: str) -> None:
    """Refuse a bucket that is not there: the first file would make it, also where its name was mistyped.

    Raises:
        ConvladderError: It is not there, or cannot be reached; exit status 1.
    """
    system, path = open_url(url)
    bucket = path.partition("/")[0]  # empty for a path from a root
    with reaching(url):
        if bucket and not system.exists(bucket):
            raise FileNotFoundError(f"there is no {bucket}")


@contextlib.contextmanager
def reaching(url: str, rest: str = "") -> Iterator[None]:
    """Turn what a file system raises in this context into a ConvladderError, exit status 1, that ends with `rest`."""
    try:
        yield
    except ConvladderError:
        raise
    except Exception as error:  # each file system has its own
        raise ConvladderError(
            f"Could not reach {without_password(url)} ({reason(error)}). Expected a place that this machine, and every "
            f"node of a cluster, can read and write, with its keys in the environment.{rest}",
            exit_status=1,
        ) from error


def reason(error: Exception) -> str:
    """What an error says, in one line without its full stop."""
    said = " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split()).rstrip(".")
    return without_password(said)
