"""The audit as a page: one HTML file with embedded thumbnails that needs no network."""

import base64
import io
from pathlib import Path

from PIL import Image

from convladder.data.audit import Audit
from convladder.data.decoding import decode_image
from convladder.errors import ConvladderError
from convladder.markup import shown

THUMBNAIL = 160  # pixels per side
GROUPS_SHOWN = 24  # of each finding; the page says how many more exist


def render_audit(audit: Audit, section: str = "") -> str:
    """The page as HTML. Names are escaped.

    Args:
        audit: The audit to show.
        section: HTML of another section of the page.
    """
    from jinja2 import Environment

    template = Path(__file__).with_name("audit.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=shown)
    page = environment.from_string(template)
    return page.render(
        audit=audit,
        section=section,
        shown=GROUPS_SHOWN,
        thumbnail=thumbnail_uri,
        below=lambda name: name.removeprefix(f"{audit.source}/"),
    )


def thumbnail_uri(name: str) -> str:
    """A small JPEG of a picture as a data URI; empty if the file is not a readable picture."""
    try:
        pixels = decode_image(Path(name), (THUMBNAIL, THUMBNAIL, 3), "pad")
    except ConvladderError:
        return ""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
