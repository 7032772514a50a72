"""What one picture may cost: memory in bytes, whatever a small file claims; and PNG's metadata, which cost nothing."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import convladder as cl
from convladder.data import decoding
from convladder.data.audit import audit
from convladder.data.decoding import decode_image, name_defect
from hostile import encoded, picture, png, png_chunk
from measuring import memory_taken

SIDE = 2500
DEFLATED = {"compression": "tiff_adobe_deflate"}
PREPARE = "from convladder.data.decoding import decode_image; decode_image(sys.argv[2], (32, 32, 3))"
DECODE = "decode_image(sys.argv[1], (96, 96, 3), 'crop')"


@pytest.mark.long
@pytest.mark.parametrize(
    ("mode", "kind", "options", "bytes_a_pixel"),
    [
        ("F", "TIFF", DEFLATED, 8),
        ("F of one row", "TIFF", DEFLATED, 8),
        ("I", "TIFF", DEFLATED, 8),
        ("I;16", "TIFF", DEFLATED, 6),
        ("CMYK", "TIFF", DEFLATED, 8),
        ("RGBA", "PNG", {}, 8),
        ("LA", "PNG", {}, 8),
        ("P", "PNG", {"transparency": 0}, 5),
        ("RGB", "WEBP", {"lossless": True}, 16),
    ],
)
def test_decoding_takes_at_most_so_many_bytes_a_pixel(
    tmp_path: Path, mode: str, kind: str, options: dict[str, object], bytes_a_pixel: int
) -> None:
    path = tmp_path / "large"
    size = (SIDE**2, 1) if mode.endswith("row") else (SIDE, SIDE)
    path.write_bytes(encoded(Image.new(mode.partition(" ")[0], size), kind, **options))
    picture(0).save(tmp_path / "small.png")
    assert memory_taken(PREPARE, DECODE, path, tmp_path / "small.png") < SIDE**2 * bytes_a_pixel + 15e6


def in_tiles(tile: int, content: bytes) -> bytes:
    """A TIFF of 64×64 pixels whose one tile says that it is larger."""
    tags = {256: 64, 257: 64, 258: 8, 259: 8, 262: 1, 277: 1, 322: tile, 323: tile, 325: len(content)}
    tags[324] = 8 + 2 + 12 * (len(tags) + 1) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + content


def tall(exif: bytes = b"", size: tuple[int, int] = (1, 9_000_000)) -> bytes:
    """A PNG whose rows, brought to a model's width before they are shrunk, are more than memory holds."""
    content = png(*size, bytes((size[0] + 1) * size[1]))
    return content[:33] + (png_chunk(b"eXIf", exif) if exif else b"") + content[33:]


TURNED = b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + bytes(4)


@pytest.mark.parametrize("content", [in_tiles(40_000, b""), tall(), tall(TURNED, (9_000_000, 1))])
def test_what_would_take_too_much_is_refused_before_it_does(content: bytes) -> None:
    with pytest.raises(cl.ConvladderError, match=r"bytes to decode; the limit is 800,000,000") as raised:
        decode_image(content, (96, 96, 1))
    assert name_defect(raised.value) == "too large"


def test_what_is_converted_in_strips_is_what_is_converted_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (50, 40, 4), dtype=np.uint8)
    pictures = [
        encoded(Image.fromarray(rng.normal(size=(50, 40)).astype(np.float32)), "TIFF"),
        encoded(Image.fromarray(noise[..., 0].astype(np.uint16) * 200), "PNG"),
        encoded(Image.fromarray(noise), "PNG"),
        encoded(Image.fromarray(noise).convert("CMYK"), "TIFF"),
        encoded(Image.fromarray(noise[..., 0]).convert("P"), "PNG", transparency=bytes(range(256))),
        encoded(Image.fromarray(noise[..., :3]), "PNG", transparency=(1, 2, 3), exif=TURNED),
    ]
    whole = [decode_image(content, (40, 50, channels)) for content in pictures for channels in (1, 3)]
    for pixels in (130, 17):  # three rows, and two at the end; parts of a row
        monkeypatch.setattr(decoding, "PIXELS_A_STRIP", pixels)
        strips = [decode_image(content, (40, 50, channels)) for content in pictures for channels in (1, 3)]
        for first, second in zip(whole, strips, strict=True):
            np.testing.assert_array_equal(first, second)


PLAIN = encoded(picture(7), "PNG")
LONG = zlib.compress(b"a" * 2_500_000)
CHUNKS = {
    "long text": png_chunk(b"zTXt", b"Comment\0\0" + LONG),
    "long text of an orientation": png_chunk(b"zTXt", b"Raw profile type exif\0\0" + LONG),
    "long international text": png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + LONG),
    "long profile": png_chunk(b"iCCP", b"profile\0\0" + LONG),
    "bad checksum of a text": png_chunk(b"tEXt", b"Comment\0hello")[:-4] + b"good",
    "bad checksum of an orientation": png_chunk(b"eXIf", TURNED)[:-4] + b"good",
    "no zlib stream": png_chunk(b"zTXt", b"Raw profile type exif\0\0hello"),
    "cut density": png_chunk(b"pHYs", b"\0\0\1"),
    "cut gamma": png_chunk(b"gAMA", b"\0"),
    "cut chromaticities": png_chunk(b"cHRM", b"\0\0\1"),
    "cut animation": png_chunk(b"acTL", b"\0\0"),
    "cut frame": png_chunk(b"acTL", b"\0\0\0\2\0\0\0\0") + png_chunk(b"fcTL", b"\0\0"),
    "unknown": png_chunk(b"abCd", b"hello"),
}


@pytest.mark.parametrize("name", CHUNKS)
def test_metadata_cost_a_png_nothing(name: str, tmp_path: Path) -> None:
    expected = decode_image(PLAIN, (32, 32, 3))
    for at in (33, PLAIN.index(b"IEND") - 4):  # behind the header, and behind the pixels
        content = PLAIN[:at] + CHUNKS[name] + PLAIN[at:]
        np.testing.assert_array_equal(decode_image(content, (32, 32, 3)), expected)
        (tmp_path / "picture.png").write_bytes(content)
        np.testing.assert_array_equal(decode_image(tmp_path / "picture.png", (32, 32, 3)), expected)


def test_metadata_of_any_length_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "long.png"
    with path.open("wb") as file:
        file.write(PLAIN[:33] + struct.pack(">I", 300_000_000) + b"tEXt")
        file.seek(300_000_004, 1)
        file.write(PLAIN[33:])
    picture(0).save(tmp_path / "small.png")
    assert memory_taken(PREPARE, DECODE, path, tmp_path / "small.png") < 15e6
    np.testing.assert_array_equal(decode_image(path, (32, 32, 3)), decode_image(PLAIN, (32, 32, 3)))


def test_damage_to_what_makes_pixels_is_damage() -> None:
    colours = encoded(picture(7).quantize(16), "PNG")
    damaged = {
        "header": PLAIN[:29] + b"good" + PLAIN[33:],
        "palette": colours[:33] + png_chunk(b"PLTE", b"12345")[:-4] + b"good" + colours[33:],
        "pixels": PLAIN[:-20] + b"good" + PLAIN[-16:],
        "end": PLAIN[: len(PLAIN) // 2],
    }
    for content in damaged.values():
        with pytest.raises(cl.ConvladderError, match=r"is not a picture|Could not read"):
            decode_image(content, (32, 32, 3))


def test_a_png_s_orientation_is_found_wherever_it_stands_among_other_metadata() -> None:
    adobe, magick = PngImagePlugin.PngInfo(), PngImagePlugin.PngInfo()
    adobe.add_itxt("XML:com.adobe.xmp", '<rdf:Description tiff:Orientation="6"/>')
    magick.add_text("Raw profile type exif", f"\nexif\n{len(TURNED)}\n{TURNED.hex()}\n", zip=True)
    expected = np.rot90(decode_image(PLAIN, (32, 32, 3)), -1)
    for options in ({"exif": TURNED}, {"pnginfo": adobe}, {"pnginfo": magick}):
        content = encoded(picture(7), "PNG", dpi=(72, 72), icc_profile=b"profile", **options)
        np.testing.assert_array_equal(decode_image(content, (32, 32, 3)), expected)


@pytest.mark.parametrize(("bits", "shift"), [(8, 0), (12, 4), (16, 8)])
def test_sixteen_bits_that_use_fewer_are_not_dark(tmp_path: Path, bits: int, shift: int) -> None:
    values = np.random.default_rng(1).integers(0, 1 << bits, (32, 32)).astype(np.uint16)
    values[0, 0] = (1 << bits) - 1
    for number, kind in enumerate(("TIFF", "PNG")):
        content = encoded(Image.fromarray(values), kind)
        np.testing.assert_array_equal(decode_image(content, (32, 32, 1))[..., 0], values >> shift)
        for label in "ab":
            (tmp_path / label).mkdir(exist_ok=True)
            (tmp_path / label / f"{number}.{kind.lower()}").write_bytes(content)
    found = {finding.check: len(finding.groups) for finding in audit(tmp_path).findings}
    assert found.get("fewer than 16 bits", 0) == (0 if bits == 16 else 4)


def test_what_is_no_number_is_the_lowest_and_infinities_are_the_ends() -> None:
    values = np.linspace(-5, 5, 32 * 32, dtype=np.float32).reshape(32, 32)
    expected = decode_image(encoded(Image.fromarray(values), "TIFF"), (32, 32, 1)).copy()
    values[0, :3], values[-1, -1] = [-np.inf, np.nan, -np.inf], np.inf
    values[0, 3] = -5
    expected[0, :4] = 0
    np.testing.assert_allclose(decode_image(encoded(Image.fromarray(values), "TIFF"), (32, 32, 1)), expected, atol=1)
    assert not decode_image(encoded(Image.fromarray(np.full((9, 9), np.nan, np.float32)), "TIFF"), (9, 9, 1)).any()
