"""One decode path: each kind of picture becomes what is stated, against NumPy."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import convladder as cl
import hostile
from convladder.data import decoding
from convladder.data.audit import inspect_file
from convladder.data.decoding import decode_image, name_defect, read_pixels
from convladder.data.png import without_metadata

RAMP = np.arange(28 * 28, dtype=np.uint16).reshape(28, 28).astype(np.uint8)
COLOURS = np.stack([RAMP, RAMP.T, np.full_like(RAMP, 200)], axis=2)


def save(picture: Image.Image, path: Path, **options: object) -> Path:
    picture.save(path, **options)  # type: ignore[arg-type]
    return path


def test_sixteen_bits_keep_the_high_byte(tmp_path: Path) -> None:
    deep = RAMP.astype(np.uint16) * 256 + 77
    for name in ("deep.png", "deep.tif"):
        path = save(Image.fromarray(deep), tmp_path / name)
        np.testing.assert_array_equal(decode_image(path, (28, 28, 1))[..., 0], RAMP)
        np.testing.assert_array_equal(decode_image(path, (28, 28, 3)), np.repeat(RAMP[..., None], 3, axis=2))


def test_sixteen_bits_a_colour_keep_the_high_byte(tmp_path: Path) -> None:
    """Pillow cannot write such a PNG, so it is written here by the format's description."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in (COLOURS.astype(np.uint16) * 256 + 77))

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 28, 28, 16, 2, 0, 0, 0)
    path = tmp_path / "deep.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    np.testing.assert_array_equal(decode_image(path, (28, 28, 3)), COLOURS)


def deep_tiff(colours: np.ndarray, order: str, deflated: bool) -> bytes:
    """A TIFF of 16 bits a colour, written by the format's description, since Pillow cannot; order is < or >."""
    height, width, channels = colours.shape
    pixels = colours.astype(f"{order}u2").tobytes()
    pixels = zlib.compress(pixels) if deflated else pixels
    tags = [
        (256, width),
        (257, height),
        (258, 0),
        (259, 8 if deflated else 1),
        (262, 2),
        (273, 0),
        (277, channels),
        (278, height),
    ]
    tags += [(279, len(pixels))]
    start = 8 + 2 + 12 * len(tags) + 4
    where = {258: start, 273: start + 2 * channels}
    head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8) + struct.pack(f"{order}H", len(tags))
    for tag, value in tags:
        count = channels if tag == 258 else 1
        head += struct.pack(f"{order}HHII", tag, 3 if tag == 258 else 4, count, where.get(tag, value))
    return head + bytes(4) + struct.pack(f"{order}{channels}H", *[16] * channels) + pixels


def deep_png(colours: np.ndarray) -> bytes:
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colours)
    height, width, channels = colours.shape
    return hostile.png(width, height, rows, 16, {1: 0, 3: 2, 4: 6}[channels])


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["gray", "colours.png", "alpha.png", "little.tif", "big.tif", "deflated.tif"])
def test_sixteen_bits_of_a_camera_that_uses_fewer_are_not_dark(tmp_path: Path, bits: int, kind: str) -> None:
    deep = COLOURS.astype(np.uint16) << (bits - 8)
    if bits > 8:
        deep += 1  # what is below the highest 8 bits does not count
    if kind == "gray":
        content, expected = deep_png(deep[..., :1]), COLOURS[..., :1].repeat(3, axis=2)
    elif kind == "alpha.png":
        content, expected = deep_png(np.dstack([deep, np.full_like(deep[..., 0], 65535)])), COLOURS
    else:
        content = (
            deep_png(deep)
            if kind == "colours.png"
            else deep_tiff(deep, ">" if kind == "big.tif" else "<", kind == "deflated.tif")
        )
        expected = COLOURS
    path = tmp_path / "deep"
    path.write_bytes(content)
    np.testing.assert_array_equal(decode_image(path, (28, 28, 3)), expected)
    inspected = inspect_file(str(path))
    assert not isinstance(inspected, str)
    assert inspected.few_bits == (bits < 16)


@pytest.mark.parametrize("kind", ["float32", "int32"])
def test_values_without_a_stated_range_are_scaled_to_it(tmp_path: Path, kind: str) -> None:
    values = (RAMP.astype(np.float64) * 40 - 1000).astype(kind)
    path = save(Image.fromarray(values), tmp_path / "values.tif")
    np.testing.assert_array_equal(decode_image(path, (28, 28, 1))[..., 0], RAMP)  # 0 and 255 are in it
    flat = save(Image.fromarray(np.full((28, 28), 7, kind)), tmp_path / "flat.tif")
    assert not decode_image(flat, (28, 28, 1)).any()


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    path = save(Image.fromarray(RAMP > 99), tmp_path / "bits.png")
    np.testing.assert_array_equal(decode_image(path, (28, 28, 1))[..., 0], np.where(RAMP > 99, 255, 0))


def test_alpha_lies_on_white(tmp_path: Path) -> None:
    alpha = np.broadcast_to(np.linspace(0, 255, 28).astype(np.uint8), (28, 28))
    path = save(Image.fromarray(np.dstack([COLOURS, alpha])), tmp_path / "alpha.png")
    share = alpha[..., None] / 255
    expected = COLOURS * share + 255 * (1 - share)
    np.testing.assert_allclose(decode_image(path, (28, 28, 3)), expected, atol=1)
    gray = save(Image.fromarray(RAMP).convert("LA"), tmp_path / "gray.png")
    np.testing.assert_array_equal(decode_image(gray, (28, 28, 1))[..., 0], RAMP)


def test_a_transparent_colour_and_palette_lie_on_white(tmp_path: Path) -> None:
    key = save(Image.fromarray(RAMP), tmp_path / "key.png", transparency=0)
    np.testing.assert_array_equal(decode_image(key, (28, 28, 1))[..., 0], np.where(RAMP == 0, 255, RAMP))
    palette = Image.fromarray((RAMP > 99).astype(np.uint8), mode="L").convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    plain = decode_image(save(palette, tmp_path / "plain.png"), (28, 28, 3))
    np.testing.assert_array_equal(plain[RAMP <= 99][0], [10, 20, 30])
    see_through = decode_image(save(palette, tmp_path / "through.gif", transparency=0), (28, 28, 3))
    np.testing.assert_array_equal(see_through[RAMP <= 99][0], [255, 255, 255])
    np.testing.assert_array_equal(see_through[RAMP > 99][0], [40, 50, 60])


def test_ink_becomes_light(tmp_path: Path) -> None:
    ink = np.dstack([255 - COLOURS, np.zeros_like(RAMP)])
    path = save(Image.fromarray(ink, mode="CMYK"), tmp_path / "ink.tif")
    np.testing.assert_allclose(decode_image(path, (28, 28, 3)), COLOURS, atol=1)


@pytest.mark.parametrize("name", ["moving.gif", "moving.webp", "pages.tif", "moving.png"])
def test_the_first_of_several_pictures_is_taken(tmp_path: Path, name: str) -> None:
    first, second = Image.fromarray(RAMP), Image.fromarray(255 - RAMP)
    options = {"lossless": True} if name.endswith("webp") else {}
    path = save(first, tmp_path / name, save_all=True, append_images=[second], **options)
    np.testing.assert_allclose(decode_image(path, (28, 28, 1))[..., 0], RAMP, atol=1)


def test_gray_weighs_the_colours_as_eyes_do(tmp_path: Path) -> None:
    path = save(Image.fromarray(COLOURS), tmp_path / "colours.png")
    np.testing.assert_allclose(decode_image(path, (28, 28, 1))[..., 0], COLOURS @ [0.299, 0.587, 0.114], atol=1)


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    path = save(Image.fromarray(RAMP), tmp_path / "digit.png").rename(tmp_path / "digit.jpg")
    np.testing.assert_array_equal(decode_image(path, (28, 28, 1))[..., 0], RAMP)


# How a picture must be changed so that the orientation of that number turns it back; from the EXIF standard.
TURNED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda upright: upright.T,
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(upright.T, 2),
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("kind", ["png", "tif", "webp"])
def test_all_eight_orientations_are_turned_upright(tmp_path: Path, orientation: int, kind: str) -> None:
    upright = RAMP[:20]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(TURNED[orientation](upright)))
    options = {"lossless": True} if kind == "webp" else {}
    path = save(stored, tmp_path / f"turned.{kind}", exif=exif, **options)
    np.testing.assert_allclose(decode_image(path, (20, 28, 1))[..., 0], upright, atol=1)


def test_damaged_metadata_does_not_cost_the_picture(tmp_path: Path) -> None:
    path = save(Image.fromarray(RAMP), tmp_path / "odd.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    np.testing.assert_array_equal(decode_image(path, (28, 28, 1))[..., 0], RAMP)


def test_a_png_is_read_again_without_its_metadata() -> None:
    stored, text = io.BytesIO(), PngInfo()
    text.add_text("Comment", "x" * 1000)
    Image.fromarray(RAMP).save(stored, "PNG", pnginfo=text)
    stored.seek(0)
    file = without_metadata(stored)
    first = file.read()
    assert b"Comment" not in first
    assert file.seek(-12, io.SEEK_END) == len(first) - 12
    assert file.read() == first[-12:]
    assert file.seek(0) == 0
    assert file.read() == first


def wide() -> Image.Image:
    """60 wide, 20 high: a red, a green and a blue square."""
    squares = np.zeros((20, 60, 3), np.uint8)
    for number in range(3):
        squares[:, 20 * number : 20 * (number + 1), number] = 255
    return Image.fromarray(squares)


def test_the_three_fits(tmp_path: Path) -> None:
    path = save(wide(), tmp_path / "wide.png")
    cropped = decode_image(path, (20, 20, 3), "crop")
    np.testing.assert_array_equal(cropped, np.broadcast_to([0, 255, 0], (20, 20, 3)))
    stretched = decode_image(path, (30, 30, 3), "stretch")
    np.testing.assert_array_equal(stretched[:, [2, 15, 27]], np.broadcast_to(np.eye(3) * 255, (30, 3, 3)))
    padded = decode_image(path, (60, 60, 3), "pad")
    np.testing.assert_array_equal(padded[20:40], np.asarray(wide()))
    assert not padded[:20].any()
    assert not padded[40:].any()
    with pytest.raises(cl.ConvladderError, match="Did you mean crop"):
        decode_image(path, (20, 20, 3), "crops")


def test_what_shrinks_is_averaged_and_not_sampled(tmp_path: Path) -> None:
    stripes = np.zeros((256, 256), np.uint8)
    stripes[:, ::2] = 255
    path = save(Image.fromarray(stripes), tmp_path / "stripes.png")
    assert np.abs(decode_image(path, (16, 16, 1)).astype(int) - 127).max() < 12


def test_a_large_jpeg_is_shrunk_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = np.meshgrid(np.linspace(0, 255, 1600), np.linspace(0, 255, 1200))
    path = save(Image.fromarray(np.stack([x, y, x], axis=2).astype(np.uint8)), tmp_path / "large.jpg", quality=95)
    seen = []

    def resize(picture: Image.Image, *_: object) -> Image.Image:
        seen.append(picture.size)
        return picture.resize((64, 64))

    monkeypatch.setattr(decoding, "_resize", resize)
    decode_image(path, (64, 64, 3))
    assert seen == [(200, 150)]
    monkeypatch.undo()
    pixels = decode_image(path, (64, 64, 3)).astype(int)
    centres = (np.arange(64) + 0.5) * 255 / 64
    np.testing.assert_allclose(pixels[..., 0], np.broadcast_to(centres, (64, 64)), atol=4)
    np.testing.assert_allclose(pixels[..., 1], np.broadcast_to(centres[:, None], (64, 64)), atol=4)


def bomb() -> bytes:
    """A PNG of a few hundred bytes that claims 20,000×20,000 pixels."""
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


def cut(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file, kind)
    return file.getvalue()[: len(file.getvalue()) // 2]


@pytest.mark.parametrize(
    ("content", "defect"),
    [
        (b"", "no picture"),
        (b"<html>not found</html>", "no picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no picture"),
        (bomb(), "too large"),
        *((cut(kind), "truncated") for kind in ("JPEG", "PNG", "BMP", "GIF")),
        (cut("WEBP"), None),
        (cut("TIFF"), None),
    ],
)
def test_a_defect_has_a_name_and_the_message_one_line(tmp_path: Path, content: bytes, defect: str | None) -> None:
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    with pytest.raises(cl.ConvladderError, match=r"bad\.jpg") as raised:
        decode_image(path, (28, 28, 3))
    assert "\n" not in str(raised.value)
    assert name_defect(raised.value) == defect or defect is None


def test_formats_that_are_not_on_the_list_are_refused(tmp_path: Path) -> None:
    for kind in ("PPM", "TGA", "ICO", "PCX"):
        path = save(Image.fromarray(COLOURS), tmp_path / "other.png", format=kind)
        with pytest.raises(cl.ConvladderError, match="is not a picture"):
            decode_image(path, (28, 28, 3))


def test_every_size_can_be_cropped_to_every_other() -> None:
    """239 / 224 · 224 is more than 239: a box that leads out of the picture by rounding made it unreadable."""
    for width in range(223, 260):
        for height in (width - 7, width, width + 13):
            picture = Image.new("RGB", (width, height))
            for side in (8, 28, 96, 160, 224):
                assert read_pixels(picture, (side, side, 3), "crop").shape == (side, side, 3)
