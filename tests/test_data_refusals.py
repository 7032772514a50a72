"""Odd data: what is refused says why in one line, and what is odd but sound is read."""

import itertools
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convladder as cl
import hostile
from convladder.data.audit import audit
from convladder.data.cache import cache_folder, decode_files
from convladder.data.dataset import Account
from convladder.data.decoding import decode_image
from convladder.data.journal import Journal
from convladder.data.loading import at_size

NUMBERS = itertools.count()


@pytest.fixture(autouse=True)
def _same_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever tests ran before."""
    monkeypatch.setattr(sys.modules[__name__], "NUMBERS", itertools.count())


def classes(folder: Path, count: int, *names: str) -> Path:
    """So many different pictures in folders of these classes."""
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for picture in range(count):
            hostile.picture(next(NUMBERS)).save(folder / name / f"{picture}.png")
    return folder


def table(folder: Path, header: str, *rows: str) -> Path:
    """A table of the pictures in a folder, each row with the number of its picture."""
    path = folder / "data.csv"
    path.write_text("\n".join([header, *(row.format(number) for number, row in enumerate(rows))]) + "\n")
    return path


def test_two_pictures_leave_nothing_to_test_on(tmp_path: Path) -> None:
    with pytest.raises(cl.ConvladderError, match=r"has no pictures for test\. Expected at least two in a class"):
        cl.load_dataset(classes(tmp_path, 1, "a", "b"), cache=False)


@pytest.mark.parametrize("share", [-0.1, 0.51, float("nan")])
def test_a_share_that_cannot_be_held_out_is_refused(share: float) -> None:
    with pytest.raises(cl.ConvladderError, match=r"A validation share of .* Expected 0 to 0\.5"):
        cl.load_dataset("mnist", validation=share)


def test_a_share_with_fewer_images_than_classes_is_refused(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    labels = np.arange(20) % 10
    np.savez(tmp_path / "few.npz", x_train=images[:20], y_train=labels, x_test=images[20:], y_test=labels)
    with pytest.raises(cl.ConvladderError, match=r"cannot be split by class: .* number of classes = 10"):
        cl.load_dataset(tmp_path / "few.npz")
    assert len(cl.load_dataset(tmp_path / "few.npz", validation=0).train) == 20


def test_data_that_change_while_they_are_worked_on_are_refused(tmp_path: Path) -> None:
    data = cl.load_dataset(classes(tmp_path, 12, "a", "b"), cache=False)
    assert at_size(data, 32) is data
    assert at_size(data, 16).input_shape == (16, 16, 3)
    hostile.picture(7777).save(tmp_path / "a" / "0.png")
    with pytest.raises(cl.ConvladderError, match="has changed while it was worked on"):
        at_size(data, 16)


def test_a_row_without_a_split_is_left_out_and_an_empty_one_ignored(tmp_path: Path) -> None:
    classes(tmp_path, 24, "p")
    rows = [f"p/{{}}.png,{'ab'[n % 2]},{'test' if n % 3 == 0 else 'train'}" for n in range(22)]
    path = table(tmp_path, "path,label,split", *rows, "p/{}.png,a,", ",,")
    account = cl.load_dataset(path, cache=False).account
    assert account is not None
    assert account.left_out == (("p/22.png,a,", "a row without split"),)
    assert account.ignored == {"empty row": 1}


def test_two_columns_of_splits_that_disagree_are_asked_about(tmp_path: Path) -> None:
    classes(tmp_path, 12, "p")
    rows = [f"p/{{}}.png,{'ab'[n % 2]},{('train', 'test')[n % 2]},{('train', 'test')[n // 6]}" for n in range(12)]
    path = table(tmp_path, "path,label,first,second", *rows)
    with pytest.raises(cl.ConvladderError, match=r"first and second may be the splits.*--split-column.*none ignores"):
        cl.load_dataset(path, cache=False)
    data = cl.load_dataset(path, columns={"split": "second"}, cache=False)
    assert (len(data.train) + len(data.validation), len(data.test)) == (6, 6)


def test_a_pipe_is_never_opened(tmp_path: Path) -> None:
    folder = classes(tmp_path, 4, "a", "b")
    for name in ("pipe.png", "pipe.data"):
        os.mkfifo(folder / "a" / name)
    account = cl.load_dataset(folder, cache=False).account
    assert account is not None
    assert account.ignored == {"no regular file": 1, "no picture by name and content": 1}


def test_the_audit_refuses_arrays_and_takes_a_single_picture(tmp_path: Path) -> None:
    with pytest.raises(cl.ConvladderError, match="mnist holds arrays, not files"):
        audit("mnist")
    classes(tmp_path, 1, "a")
    (tmp_path / "b").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "b" / "black.png")
    found = {finding.check: finding.groups for finding in audit(tmp_path).findings}
    assert found["one colour"] == [[str(tmp_path / "b" / "black.png")]]
    assert not any("copies" in check for check in found)


def test_kept_copies_in_training_and_test_are_told(tmp_path: Path) -> None:
    for split in ("train", "test"):
        classes(tmp_path / split, 12, "a", "b")
    (tmp_path / "test" / "a" / "0.png").write_bytes((tmp_path / "train" / "a" / "0.png").read_bytes())
    account = cl.load_dataset(tmp_path, keep_leaks=True, cache=False).account
    assert account is not None
    (told,) = (line for line in account.remarks if line.startswith("Pictures in more than one split: 1 ("))
    assert "Scores are too good" in told


def test_pictures_that_do_not_fit_on_the_disk_are_refused_before_any_is_decoded(tmp_path: Path) -> None:
    paths = [str(classes(tmp_path, 1, "a") / "a" / "0.png")] * 10_000
    with pytest.raises(cl.ConvladderError, match=r"\(3,000,000 MB are needed\).*TMPDIR") as refused:
        decode_files(paths, "", lambda: (10_000, 10_000, 3), "crop", cache=False)
    assert refused.value.exit_status == 1


def test_a_picture_that_is_gone_when_it_is_decoded_is_left_out(tmp_path: Path) -> None:
    folder = classes(tmp_path, 2, "a") / "a"
    (folder / "1.png").unlink()
    decoded = decode_files([str(folder / f"{n}.png") for n in range(2)], "", lambda: (32, 32, 3), "crop", cache=False)
    assert decoded.left_out == [(1, "unreadable")]
    np.testing.assert_array_equal(decoded.images[0], np.asarray(Image.open(folder / "0.png")))


def test_a_damaged_orientation_costs_no_picture() -> None:
    sound = hostile.encoded(hostile.picture(3), "WEBP", lossless=True)
    damaged = hostile.encoded(hostile.picture(3), "WEBP", lossless=True, exif=b"?")
    assert sound != damaged
    np.testing.assert_array_equal(decode_image(damaged, (32, 32, 3)), decode_image(sound, (32, 32, 3)))


@pytest.mark.parametrize("tail", [b"\x00\x01\n", b'{"half"', b"not JSON\n[3, 4]\n"])
def test_a_journal_is_read_up_to_where_it_is_damaged(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "journal"
    journal = Journal(path, "work")
    journal.add([1, 2])
    journal.close()
    path.write_bytes(path.read_bytes() + tail)
    again = Journal(path, "work")
    assert again.entries == [[1, 2]]
    again.add([5, 6])
    again.close()
    assert path.read_bytes() == b'"work"\n[1, 2]\n[5, 6]\n'
    other = Journal(path, "other work")
    assert other.entries == []
    other.close()


def test_an_account_says_what_became_of_every_file() -> None:
    left_out = (*((f"{number}.png", "truncated") for number in range(5)), ("a\nb.png", "empty"))
    ignored = {"no regular file": 1, "hidden": 2000}
    account = Account(3010, ignored, left_out, ("A remark.",))
    assert account.pictures == 1003
    assert account.lines() == [
        "3,010 files: 1,003 pictures, 6 left out, 2,001 ignored (2,000 hidden, 1 no regular file).",
        r"Left out, empty: a\nb.png.",
        "Left out, truncated: 0.png, 1.png, 2.png and 2 more.",
        "A remark.",
    ]
    assert Account(3).lines() == ["3 files: 3 pictures."]


def test_pictures_of_formats_that_are_not_read_are_left_out_and_not_passed_over(tmp_path: Path) -> None:
    classes(tmp_path, 4, "a", "b")
    endings = ["heic", "heif", "avif", "jxl", "jp2", "svg", "ico", "psd", "eps", "ppm", "pgm", "tga", "dng"]
    for ending in endings:
        (tmp_path / "a" / f"x.{ending}").write_text("none of the formats that are read")
    account = cl.load_dataset(tmp_path, cache=False).account
    assert account is not None
    assert {(Path(path).suffix[1:], reason) for path, reason in account.left_out} == {
        (ending, "no picture") for ending in endings
    }
    assert not account.ignored


def test_the_cache_is_in_the_home_folder_unless_another_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for other in (None, "", "relative"):
        if other is None:
            monkeypatch.delenv("XDG_CACHE_HOME")
        else:
            monkeypatch.setenv("XDG_CACHE_HOME", other)
        assert cache_folder() == tmp_path / ".cache" / "convladder"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "named"))
    assert cache_folder() == tmp_path / "named" / "convladder"


@pytest.mark.parametrize("content", [",\f\ndr)", ",\f\nlab*r", "\t \npath", " ,\npath,label\n", ";\x0b\na"])
def test_a_table_that_begins_with_blanks_and_has_no_rows_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "table.csv").write_text(content)
    with pytest.raises(cl.ConvladderError, match=r"table\.csv"):
        cl.load_dataset(tmp_path / "table.csv")
