"""The page on security: its table of versions is what the package requires."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
ROW = re.compile(r"^\| ([a-z0-9-]+) \| ([\d.]+) \| .+ \|$", re.MULTILINE)


def test_the_versions_that_the_page_names_are_required() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    lowest: dict[str, list[Version]] = {}
    for requirement in map(Requirement, (line for group in groups for line in group)):
        bounds = [Version(bound.version) for bound in requirement.specifier if bound.operator == ">="]
        lowest.setdefault(requirement.name, []).extend(bounds)
    rows = ROW.findall((ROOT / "docs" / "security.md").read_text())
    assert len(rows) >= 10
    for name, version in rows:
        assert lowest[name], f"{name} is not required"
        assert min(lowest[name]) >= Version(version), f"pyproject.toml allows {name} {min(lowest[name])}"


def test_the_page_can_be_found() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    assert "(security.md)" in index
    assert "\nsecurity\n" in index
    assert "docs/security.md" in (ROOT / "SECURITY.md").read_text()
