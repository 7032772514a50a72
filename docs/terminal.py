"""Write terminal.svg, an animated terminal: what two commands print, at the moments when they print it.

python docs/terminal.py    # a minute; draws what happens on this machine
"""

import base64
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from html import escape
from pathlib import Path

from convladder.data.loading import locate

PICTURES = ("hat-29.jpg", "shoes-30.jpg")  # of the test images, which training does not see
COMMANDS = ("train --data clothes", f"predict runs/transfer-1 {' '.join(PICTURES)}")
COLUMNS, LINE, LEFT = 92, 21, 20
LONGEST_WAIT, HOLD = 1.5, 7.0  # seconds of the picture
STYLE = """
svg { background: #16181d; border-radius: 8px; }
text { font: 14px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #d6dae1; white-space: pre; }
.command { fill: #7ee2a8; font-weight: bold; }
.result { fill: #ffd479; }
"""


def record(folder: Path) -> list[tuple[float, str]]:
    """Run the commands in a folder, and return each line with the seconds when it came; waits are cut."""
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    lines: list[tuple[float, str]] = []
    shown, last = 0.0, time.monotonic()

    def note(line: str) -> None:
        nonlocal shown, last
        now = time.monotonic()
        shown, last = shown + min(now - last, LONGEST_WAIT), now
        lines.extend((shown, part) for part in textwrap.wrap(line, COLUMNS, subsequent_indent="  ") or [""])

    for command in COMMANDS:
        note(f"$ convladder {command}")
        with subprocess.Popen(
            [sys.executable, "-m", "convladder", *command.split()],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            for line in process.stdout or ():
                note(line.rstrip("\n").expandtabs())
        if process.returncode:
            raise SystemExit(f"convladder {command} failed: {lines[-1][1]}")
    return lines


def draw(lines: list[tuple[float, str]], pictures: list[bytes]) -> str:
    """The terminal as SVG. Without motion, where a reader asks for none, it shows all lines at once."""
    seconds = lines[-1][0] + HOLD
    frames, drawn = [], []
    for number, (moment, line) in enumerate(lines):
        share = 100 * moment / seconds
        hidden, shown = f"0%, {share:.2f}% {{ opacity: 0 }}", f"{share + 0.01:.2f}%, 100% {{ opacity: 1 }}"
        frames.append(f"@keyframes l{number} {{ {hidden} {shown} }}")
        frames.append(f".l{number} {{ animation: l{number} {seconds:.1f}s infinite }}")
        kind = "command" if line.startswith("$") else "result" if line.startswith(("runs/", *PICTURES)) else ""
        drawn.append(
            f'<text class="l{number} {kind}" x="{LEFT}" y="{LINE * (number + 2)}" xml:space="preserve">'
            f"{escape(line)}</text>"
        )
    height, width = LINE * (len(lines) + 4), 2 * LEFT + round(8.43 * COLUMNS)
    for number, picture in enumerate(pictures):
        place = f'x="{width - 84 * (len(pictures) - number) - LEFT}" y="{height - 96}" width="76" height="76"'
        content = base64.b64encode(picture).decode()
        drawn.append(f'<image class="l{len(lines) - 1}" {place} href="data:image/jpeg;base64,{content}"/>')
    style = STYLE + "@media (prefers-reduced-motion: no-preference) {\n" + "\n".join(frames) + "\n}\n"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f"\n<style>{style}</style>\n" + "\n".join(drawn) + "\n</svg>\n"
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        for picture in PICTURES:
            shutil.copy(next(locate("clothes").glob(f"test/*/{picture}")), name)
        pixels = [(Path(name) / picture).read_bytes() for picture in PICTURES]
        (Path(__file__).parent / "terminal.svg").write_text(draw(record(Path(name)), pixels), encoding="utf-8")
