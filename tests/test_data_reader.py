"""Headers of pictures that lie, seen before Pillow reads them."""

import io
import struct

import pytest
from PIL import Image

from convladder.data.reader import MOST_NUMBERS, check_tags


def tiff(order: str, version: int, kind: int, count: int) -> bytes:
    """The head of a TIFF with one tag; version 43 is BigTIFF, with numbers of 8 bytes."""
    mark = b"II" if order == "<" else b"MM"
    if version == 43:
        return mark + struct.pack(f"{order}HHHQ", 43, 8, 0, 16) + struct.pack(f"{order}QHHQQ", 1, 273, kind, count, 0)
    return mark + struct.pack(f"{order}HI", 42, 8) + struct.pack(f"{order}HHHII", 1, 273, kind, count, 0)


@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("version", [42, 43])
def test_a_tag_of_too_many_numbers_is_refused_in_either_order_of_bytes(order: str, version: int) -> None:
    with pytest.raises(Image.DecompressionBombError, match="numbers"):
        check_tags(io.BytesIO(tiff(order, version, 4, MOST_NUMBERS + 1)))
    for kind, count in ((4, MOST_NUMBERS), (7, MOST_NUMBERS + 1)):  # bytes may be many
        file = io.BytesIO(tiff(order, version, kind, count))
        check_tags(file)
        assert file.tell() == 0
