"""A folder with everything that is wrong with folders of pictures, and what should become of each file.

`build` writes sound pictures of two classes and the defects of DEFECTS, each a file (or folder) of its own.
"""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

USED, LEFT_OUT, IGNORED = "used", "left out", "ignored"
SOUND_A_CLASS = 12


def picture(seed: int, size: tuple[int, int] = (32, 32)) -> Image.Image:
    """Smooth colours, other ones for each seed."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def cut(kind: str) -> bytes:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(noise), kind)
    return content[: len(content) // 2]


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, rows: bytes, depth: int = 8, colours: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture(101), "JPEG", exif=exif)


def flipped_bytes() -> bytes:
    content = bytearray(encoded(picture(102), "PNG"))
    content[60:80] = bytes(20)
    return bytes(content)


CONTENTS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "empty.jpg": (LEFT_OUT, lambda: b""),
    "text.jpg": (LEFT_OUT, lambda: b"not found\n"),
    "page.png": (LEFT_OUT, lambda: b"<!doctype html><title>404</title>"),
    "cut.jpg": (LEFT_OUT, lambda: cut("JPEG")),
    "cut.png": (LEFT_OUT, lambda: cut("PNG")),
    "cut.gif": (LEFT_OUT, lambda: cut("GIF")),
    "cut.bmp": (LEFT_OUT, lambda: cut("BMP")),
    "cut.webp": (LEFT_OUT, lambda: cut("WEBP")),
    "cut.tif": (LEFT_OUT, lambda: cut("TIFF")),
    "header alone.jpg": (LEFT_OUT, lambda: b"\xff\xd8\xff\xe0\x00\x10JFIF"),
    "flipped bytes.png": (LEFT_OUT, flipped_bytes),
    "bomb.png": (LEFT_OUT, lambda: png(20_000, 20_000, bytes(9))),
    "drawing.svg": (LEFT_OUT, lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    "phone.heic": (LEFT_OUT, lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
    "other format.png": (LEFT_OUT, lambda: encoded(picture(103), "TGA")),
    "zeros.gif": (LEFT_OUT, lambda: bytes(500)),
    "png by content.jpg": (USED, lambda: encoded(picture(104), "PNG")),
    "no ending": (USED, lambda: encoded(picture(105), "JPEG")),
    "UPPER CASE.JPG": (USED, lambda: encoded(picture(106), "JPEG")),
    "größe ☃.png": (USED, lambda: encoded(picture(107), "PNG")),
    "new\nline.png": (USED, lambda: encoded(picture(108), "PNG")),
    "[glob]*?.png": (USED, lambda: encoded(picture(109), "PNG")),
    "gray.png": (USED, lambda: encoded(picture(110).convert("L"), "PNG")),
    "alpha.png": (USED, lambda: encoded(picture(111).convert("RGBA"), "PNG")),
    "palette.gif": (USED, lambda: encoded(picture(112).convert("P"), "GIF")),
    "ink.jpg": (USED, lambda: encoded(picture(113).convert("CMYK"), "JPEG")),
    "bits.png": (USED, lambda: encoded(picture(114).convert("1"), "PNG")),
    "deep.png": (USED, lambda: encoded(Image.fromarray(np.arange(1024, dtype=np.uint16).reshape(32, 32) * 64), "PNG")),
    "deep colours.png": (USED, lambda: png(2, 2, (b"\0" + bytes(range(12))) * 2, 16, 2)),
    "float.tif": (USED, lambda: encoded(Image.fromarray(np.eye(32, dtype=np.float32)), "TIFF")),
    "moving.gif": (USED, lambda: encoded(picture(115), "GIF", save_all=True, append_images=[picture(116)])),
    "turned.jpg": (USED, turned),
    "odd metadata.png": (USED, lambda: encoded(picture(117), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")),
    "tiny.png": (USED, lambda: encoded(picture(118, (1, 1)), "PNG")),
    "long.png": (USED, lambda: encoded(picture(119, (400, 4)), "PNG")),
    "black.png": (USED, lambda: encoded(Image.new("RGB", (32, 32)), "PNG")),
    "copy.png": (USED, lambda: encoded(picture(0), "PNG")),
    "smaller copy.jpg": (USED, lambda: encoded(picture(1, (128, 128)), "JPEG")),
    ".hidden.jpg": (IGNORED, lambda: encoded(picture(120), "JPEG")),
    "._resource.jpg": (IGNORED, lambda: b"\0\5\x16\7"),
    "Thumbs.db": (IGNORED, lambda: b"\xd0\xcf\x11\xe0"),
    "notes.txt": (IGNORED, lambda: b"as discussed"),
    "labels.json": (IGNORED, lambda: b"{}"),
    "download.jpg.part": (IGNORED, lambda: b"\xff\xd8"),
}


def link(path: Path) -> None:
    path.symlink_to("nowhere.jpg")


def loop(path: Path) -> None:
    path.symlink_to(path.parent, target_is_directory=True)


def nested(path: Path) -> None:
    path.mkdir()
    picture(130).save(path / "below.png")


def hidden_folder(path: Path) -> None:
    path.mkdir()
    picture(131).save(path / "thumbnail.png")


def undecodable_name(path: Path) -> None:
    picture(132).save(path.with_name("name.png"))
    os.rename(path.with_name("name.png"), os.fsencode(path.parent) + b"/caf\xe9.png")


MAKERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "dangling.jpg": (LEFT_OUT, link),
    "loop": (IGNORED, loop),
    "pipe.jpg": (IGNORED, os.mkfifo),
    "folder": (USED, nested),
    ".cache": (IGNORED, hidden_folder),
    "latin-1 name": (USED, undecodable_name),
}


def expected() -> dict[str, int]:
    """How many files should be used, left out and ignored."""
    fates = [fate for fate, _ in (*CONTENTS.values(), *MAKERS.values())]
    fates += [USED] * 2 * SOUND_A_CLASS + [IGNORED]  # and the one beside the folders
    return {fate: fates.count(fate) for fate in (USED, LEFT_OUT, IGNORED)}


def build(folder: Path) -> Path:
    """Write it all: sound classes cat and dog, the defects in a class of their own and an empty class."""
    for number, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for count in range(SOUND_A_CLASS):
            picture(number * SOUND_A_CLASS + count).save(folder / name / f"{count}.png")
    (folder / "README").write_text("beside the folders")
    (folder / "empty class").mkdir()
    odd = folder / "odd ünïcode"
    odd.mkdir()
    for name, (_, content) in CONTENTS.items():
        (odd / name).write_bytes(content())
    for name, (_, make) in MAKERS.items():
        make(odd / name)
    return folder
