"""Places that every node of a cluster sees: a folder on a disk that they share, or at a URL that fsspec knows."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convladder.errors import ConvladderError
from convladder.files import create_folder, unwritable, whole_file
from convladder.urls import check_bucket, is_url, open_url, reaching

# Here a file is there when it is whole. Elsewhere it gets its name when it is.
PUT_WHOLE = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "memory")


def without_file_scheme(name: str) -> str:
    """The path of a file:// URL; anything else as it is."""
    return name.removeprefix("file://") if name.startswith("file:///") else name


class Place:
    """A folder that holds files, each whole or not there.

    Args:
        name: A path, or a URL.

    Raises:
        ConvladderError: Its URL cannot be opened.
    """

    def __init__(self, name: str) -> None:
        self.name = without_file_scheme(name)
        self._system: Any = None
        self._root = os.path.abspath(self.name)
        if is_url(self.name):
            self._system, self._root = open_url(name)

    def create(self) -> None:
        """Make the folder.

        Raises:
            ConvladderError: It cannot be made.
        """
        if self._system is None:
            create_folder(Path(self._root))
        else:
            check_bucket(self.name)
            with reaching(self.name):
                self._system.makedirs(self._root, exist_ok=True)

    def names(self) -> set[str]:
        """The names of its files and folders, without hidden ones; none if it does not exist.

        Raises:
            ConvladderError: It is a file, or cannot be read.
        """
        with reaching(self.name):
            if self.is_file():
                raise ConvladderError(f"The output {self.name} is a file. Expected a folder: it gets a file a part.")
            try:
                if self._system is None:
                    found = os.listdir(self._root)
                else:
                    self._system.invalidate_cache(self._root)
                    found = [entry.rstrip("/").rpartition("/")[2] for entry in self._system.ls(self._root, False)]
            except FileNotFoundError:
                found = []
        return {name for name in found if name and not name.startswith(".")}

    def is_file(self) -> bool:
        """Whether there is a file, a pipe or a device instead of a folder."""
        if self._system is None:
            return os.path.lexists(self._root) and not os.path.isdir(self._root)
        return bool(self._system.isfile(self._root))

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """The bytes of a file, or those from `start` to `stop`.

        Raises:
            ConvladderError: It cannot be read.
        """
        with reaching(f"{self.name}/{name}"):
            if self._system is not None:
                content: bytes = self._system.cat_file(f"{self._root}/{name}", start=start, end=stop)
                return content
            with open(os.path.join(self._root, name), "rb") as file:
                file.seek(start)
                return file.read() if stop is None else file.read(stop - start)

    def write(self, name: str, content: bytes | Path) -> None:
        """Write a file, from bytes or a copy of another file. It appears whole.

        Raises:
            ConvladderError: It cannot be written.
        """
        if self._system is None:
            path = Path(self._root, name)
            try:
                with whole_file(path) as temporary, temporary.open("wb") as file:
                    for block in [content] if isinstance(content, bytes) else _blocks(content):
                        file.write(block)
            except OSError as error:
                raise unwritable(path, error) from error
            return
        protocol = self._system.protocol
        whole = set(PUT_WHOLE) & set([protocol] if isinstance(protocol, str) else protocol)
        target = f"{self._root}/{name}"
        written = target if whole else f"{self._root}/.convladder-{name}"
        with reaching(f"{self.name}/{name}"):
            if isinstance(content, bytes):
                self._system.pipe_file(written, content)
            else:
                self._system.put_file(str(content), written)
            if not whole:
                self._system.mv(written, target)


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            yield block
