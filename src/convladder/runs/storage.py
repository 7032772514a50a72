"""Run folders at a URL such as s3://bucket/runs, of any kind that fsspec knows. Commands work on a copy of them."""

import hashlib
import os
from pathlib import Path, PurePosixPath
from typing import Any

from convladder.data.cache import cache_folder
from convladder.errors import ConvladderError
from convladder.files import TEMPORARY, create_folder, locked, scratch_folder
from convladder.runs.run import Run, finished_runs
from convladder.urls import check_bucket, open_url, reaching, without_password

RUN = "run.json"


class Storage:
    """The runs at a URL, and their copy in a folder of the user's cache.

    Attributes:
        given: The URL.
        url: The same without its password, to be shown.
        folder: The folder of the copy.

    A run has the same run.json in both, byte for byte. At the URL its folder is named after its rung, its seed and
    what run.json holds, so that machines which send runs at the same time do not meet.

    Raises:
        ConvladderError: The user has no cache folder.
    """

    def __init__(self, url: str) -> None:
        self.given, self.url = url, without_password(url)
        cache = cache_folder()
        if cache is None:
            raise ConvladderError(
                f"There is no folder for a copy of {self.url}: no home folder that can be written. Set XDG_CACHE_HOME."
            )
        self.folder = cache / "runs" / hashlib.sha256(url.encode()).hexdigest()[:16]
        self._contents: dict[str, bytes] = {}  # of the run.json of each folder at the URL

    def fetch(self) -> None:
        """Copy the runs that are not here yet, and are whole.

        Raises:
            ConvladderError: The URL cannot be reached, or holds what is no run; exit status 1.
        """
        check_bucket(self.given)
        create_folder(self.folder)
        with reaching(self.url), locked(self.folder.with_suffix(".lock")):
            here = set(self._finished())
            system, _ = open_url(self.given)
            missing = [place for place, content in self._list().items() if content not in here]
            for place in missing:
                with scratch_folder(self.folder) as scratch:
                    whole, target = download(system, place, scratch / "run"), self.folder / PurePosixPath(place).name
                    if target.exists():  # what was sent under this name before
                        target.rename(scratch / "former")
                    whole.rename(target)

    def send(self) -> list[str]:
        """Send the finished runs that are not there yet; give back the names of their folders at the URL.

        Raises:
            ConvladderError: The URL cannot be reached; exit status 1.
        """
        sent = []
        with reaching(self.url, f" The runs are in {self.folder}, and the next command with this URL sends them."):
            system, root = open_url(self.given)
            there = set(self._list().values())
            for content, run in self._finished().items():
                if content not in there:
                    digest = hashlib.sha256(content).hexdigest()
                    name = f"{run.info['rung']}-{run.info['seed']}-{digest[:12]}"
                    upload(run.path, system, f"{root}/{name}")
                    sent.append(name)
        return sent

    def _finished(self) -> dict[bytes, Run]:
        return {(run.path / RUN).read_bytes(): run for run in finished_runs(self.folder)}

    def _list(self) -> dict[str, bytes]:
        system, root = open_url(self.given)
        system.invalidate_cache()
        found = [path.rpartition("/")[0] for path in system.glob(f"{root}/*/{RUN}")]
        read = system.cat_file
        self._contents = {place: self._contents.get(place) or read(f"{place}/{RUN}") for place in found}
        return self._contents


def upload(folder: Path, system: Any, place: str) -> None:
    """Send a run folder. run.json comes last, because a folder without it is not a run."""
    files = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(TEMPORARY)]  # which another process may write
        files += [Path(parent, name) for name in names if not name.startswith(TEMPORARY)]
    for path in sorted(files, key=lambda path: path.name == RUN):
        name = f"{place}/{path.relative_to(folder).as_posix()}"
        system.makedirs(name.rpartition("/")[0], exist_ok=True)
        system.put_file(str(path), name)


def download(system: Any, place: str, folder: Path) -> Path:
    """Fetch a run folder that `upload` sent, and give it back.

    Raises:
        ConvladderError: It is no run, or the name of a file in it leads out of the folder.
    """
    _check_name(place, PurePosixPath(place).name)
    for remote in system.find(place):
        name = remote.strip("/").removeprefix(place.strip("/")).lstrip("/")
        _check_name(remote, name)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        system.get_file(remote, str(path))
    _ = Run(folder).info
    return folder


def _check_name(remote: str, name: str) -> None:
    """Raise a ConvladderError if a name below a folder leads out of it."""
    if ".." in PurePosixPath(name).parts or "\\" in name:
        raise ConvladderError(f"{remote} is no run or file of one: its name leads elsewhere. Remove it.")
