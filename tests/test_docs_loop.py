"""The moving picture on the README's first screen, and the script that makes it from the real page."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from browsing import skip_without

ROOT = Path(__file__).parents[1]


def check(file: Path) -> None:
    """Small enough for a first screen, as a file and on it; and it moves."""
    assert file.stat().st_size < 1_000_000
    with Image.open(file) as loop:
        assert loop.width == 720
        assert loop.height <= 480
        assert loop.n_frames > 20  # type: ignore[attr-defined]


def test_the_readme_s_loop_is_small_and_moves() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    text, name = re.findall(r"!\[(.*?)\]\((.*?)\)", readme)[0]
    assert len(text) > 50  # says what is seen to those who do not see it
    check(ROOT / name)
    assert len(re.findall(r"[\w’'./-]*\w", readme)) < 500


@pytest.mark.long
def test_the_loop_is_made_from_the_real_page(tmp_path: Path) -> None:
    skip_without("chromium")
    script = [sys.executable, str(ROOT / "docs" / "loop.py")]
    subprocess.run([*script, "--output", str(tmp_path / "loop.webp")], cwd=tmp_path, check=True)
    check(tmp_path / "loop.webp")
