"""The pinned versions in requirements/: exact, with hashes, from no address, and what pyproject.toml asks for."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
FILES = {"base": [], "train": ["train"], "dev": ["train", "dev", "docs"]}

Pins = dict[str, tuple[Version, frozenset[str]]]


def read_pins(name: str) -> Pins:
    """Version and hashes of each package for this platform and Python."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    pins: Pins = {}
    for line in re.sub(r"\\\n", "", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines():
        words, *hashes = re.split(r"\s+--hash=sha256:", line)
        requirement = Requirement(words)
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in hashes), line[:80]
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", line[:80]
        assert hashes, f"{words} has no hash"
        if requirement.marker is None or requirement.marker.evaluate():
            key = canonicalize_name(requirement.name)
            assert key not in pins, f"{key} stands twice in {name}.txt"
            pins[key] = Version(specifier.version), frozenset(hashes)
    return pins


def asked_for(extras: list[str]) -> list[Requirement]:
    """What the project asks for with these extras, those of extras too."""
    found: list[Requirement] = []
    for line in [*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]:
        requirement = Requirement(line)
        if requirement.name == PROJECT["name"]:
            found += asked_for(sorted(requirement.extras))
        elif requirement.marker is None or requirement.marker.evaluate():
            found.append(requirement)
    return found


@pytest.mark.parametrize("name", [*FILES, "build"])
def test_every_pin_is_exact_and_has_hashes_and_no_address(name: str) -> None:
    assert len(read_pins(name)) >= 5
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    assert not re.search(r"://|^\s*-(?!-hash)", text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", ["base", "train", "build"])
def test_the_files_pin_the_same(name: str) -> None:
    everything = read_pins("dev")
    shared = {key: pin for key, pin in read_pins(name).items() if key in everything}
    assert shared == {key: everything[key] for key in shared}
    if name != "build":
        assert shared == read_pins(name)


@pytest.mark.parametrize(("name", "extras"), FILES.items(), ids=list(FILES))
def test_all_that_the_project_asks_for_is_pinned_within_its_bounds(name: str, extras: list[str]) -> None:
    pins = read_pins(name)
    for requirement in asked_for(extras):
        key = canonicalize_name(requirement.name)
        assert key in pins, f"{key} is not in requirements/{name}.txt: run make pins"
        assert requirement.specifier.contains(pins[key][0]), f"{requirement}, and {pins[key][0]}: run make pins"


def test_every_dependency_has_a_lowest_version() -> None:
    for line in [*PROJECT["dependencies"], *(line for lines in EXTRAS.values() for line in lines)]:
        requirement = Requirement(line)
        assert requirement.name == PROJECT["name"] or any(one.operator == ">=" for one in requirement.specifier), line


def test_the_gpu_s_extra_asks_for_what_train_asks_for() -> None:
    def bounds(extra: str) -> dict[str, str]:
        found = {(one := Requirement(line)).name.removesuffix("-cpu"): str(one.specifier) for line in EXTRAS[extra]}
        return dict(sorted(found.items()))

    assert bounds("train") == bounds("train-gpu")


@pytest.mark.parametrize("target", [".venv/train", ".venv/dev"])
def test_make_installs_what_has_hashes_and_nothing_else(target: str) -> None:
    command = ["make", "--dry-run", "--always-make", target]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = [line for line in said.splitlines() if "pip install" in line]
    assert len(lines) == 2
    for line in lines:
        assert "--require-hashes" in line or "--no-deps --no-build-isolation" in line
