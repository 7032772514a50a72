"""Which files of a folder or CSV file are taken, of which class and split, and that none is lost."""

import gzip
import itertools
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convladder as cl
import hostile
from convladder.data.audit import audit, inspect_file
from convladder.data.checks import same_class_names
from convladder.data.csv_tables import list_csv
from convladder.data.decoding import decode_image
from convladder.data.folders import list_folder, list_pictures, sort_classes
from convladder.data.idx import encode_idx
from convladder.data.pictures import choose_splits

NUMBERS = itertools.count()


@pytest.fixture(autouse=True)
def _same_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever tests ran before."""
    monkeypatch.setattr(sys.modules[__name__], "NUMBERS", itertools.count())


def fill(folder: Path, *names: str) -> Path:
    """Pictures, all different, at these places."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        hostile.picture(next(NUMBERS)).save(folder / name)
    return folder


def classes(folder: Path, count: int, *names: str) -> Path:
    return fill(folder, *(f"{name}/{number}.png" for name in names for number in range(count)))


def test_every_file_of_a_hostile_folder_is_accounted_for(tmp_path: Path) -> None:
    data = cl.load_dataset(hostile.build(tmp_path / "data"), cache=False)
    account, expected = data.account, hostile.expected()
    assert account is not None
    assert len(hostile.CONTENTS) + len(hostile.MAKERS) >= 25
    assert account.files == sum(len(files) for _, _, files in os.walk(tmp_path / "data")) + 1  # the link to a folder
    found = {"used": account.pictures, "left out": len(account.left_out), "ignored": sum(account.ignored.values())}
    assert found == expected
    assert len(data.train) + len(data.validation) + len(data.test) == expected["used"]
    left_out = {Path(path).name: reason for path, reason in account.left_out}
    assert left_out.keys() == {
        name for name, (fate, _) in (hostile.CONTENTS | hostile.MAKERS).items() if fate == hostile.LEFT_OUT
    }
    assert left_out["empty.jpg"] == "empty"
    assert left_out["bomb.png"] == "too large"
    assert left_out["text.jpg"] == "no picture"
    assert left_out["cut.jpg"] == "truncated"
    assert left_out["dangling.jpg"] == "a link to nothing"
    assert data.class_names == ("cat", "dog", "odd ünïcode")
    assert data.input_shape[2] == 3
    for line in account.lines():
        assert line.isprintable()
        line.encode()
    remarks = " ".join(account.remarks)
    assert "black.png" in remarks
    assert "more than one class" in remarks


def test_a_folder_of_classes_is_split_by_class_and_seed(tmp_path: Path) -> None:
    classes(tmp_path, 40, "a", "b")
    classes(tmp_path, 20, "c")
    data = cl.load_dataset(tmp_path, cache=False)
    assert data.name == tmp_path.name
    assert Counter(data.test.labels.tolist()) == {0: 6, 1: 6, 2: 3}  # 15 %
    assert Counter(data.validation.labels.tolist()) == {0: 3, 1: 3, 2: 1}  # a twelfth of the rest
    assert len(data.train) == 100 - 15 - 7
    again, other = cl.load_dataset(tmp_path, cache=False), cl.load_dataset(tmp_path, seed=1, cache=False)
    assert again.fingerprint == data.fingerprint != other.fingerprint
    everything = [np.concatenate([part.images for part in (d.train, d.validation, d.test)]) for d in (data, other)]
    assert sorted(image.tobytes() for image in everything[0]) == sorted(image.tobytes() for image in everything[1])


def test_pixels_and_labels_are_those_of_the_files(tmp_path: Path) -> None:
    classes(tmp_path, 5, "a", "b")
    data = cl.load_dataset(tmp_path, cache=False)
    parts = (data.train, data.validation, data.test)
    found = {image.tobytes(): label for part in parts for image, label in zip(*part, strict=True)}
    for name in ("a", "b"):
        for path in (tmp_path / name).iterdir():
            assert found[np.asarray(Image.open(path)).tobytes()] == data.class_names.index(name)


@pytest.mark.parametrize("validation", ["val", "valid", "validation", "VAL"])
def test_given_splits_are_kept(tmp_path: Path, validation: str) -> None:
    for split, count in (("train", 6), (validation, 3), ("test", 4)):
        classes(tmp_path / split, count, "a", "b")
    data = cl.load_dataset(tmp_path, cache=False)
    assert (len(data.train), len(data.validation), len(data.test)) == (12, 6, 8)


def test_what_is_missing_is_held_out_of_the_training_pictures(tmp_path: Path) -> None:
    classes(tmp_path / "train", 24, "a", "b")
    classes(tmp_path / "test", 5, "a", "b")
    data = cl.load_dataset(tmp_path, cache=False)
    assert (len(data.train), len(data.validation), len(data.test)) == (44, 4, 10)
    classes(tmp_path / "val", 5, "a", "b")
    for path in (tmp_path / "test").rglob("*.png"):
        path.unlink()
    data = cl.load_dataset(tmp_path, cache=False)
    assert (len(data.train), len(data.validation), len(data.test)) == (40, 10, 8)


def test_a_class_of_trains_is_a_class(tmp_path: Path) -> None:
    classes(tmp_path, 4, "train", "plane", "car")
    assert cl.load_dataset(tmp_path, cache=False).class_names == ("car", "plane", "train")


def test_pictures_for_training_without_classes_are_no_class_of_trains(tmp_path: Path) -> None:
    classes(tmp_path, 4, "train", "test")
    with pytest.raises(cl.ConvladderError, match="the training pictures are not in class folders"):
        cl.load_dataset(tmp_path, cache=False)


def test_numbers_are_sorted_as_numbers() -> None:
    assert sort_classes({"10", "9", "0"}) == ["0", "9", "10"]
    assert sort_classes({"10", "9", "x"}) == ["10", "9", "x"]


def test_class_names_that_look_alike_are_told() -> None:
    assert same_class_names(["Cat", "cat", "dog", "cafe\u0301", "caf\u00e9", "hot dog", "hot_dog"]) == [
        ["Cat", "cat"],
        ["cafe\u0301", "caf\u00e9"],
        ["hot dog", "hot_dog"],
    ]


def test_small_classes_keep_one_picture_to_train_on() -> None:
    labels = np.array([0, 1, 1, 2, 2, 2])
    splits = choose_splits(labels, [""] * 6, 1 / 12, seed=0)
    assert [sorted(splits[labels == label].tolist()) for label in range(3)] == [[0], [0, 2], [0, 1, 2]]


@pytest.mark.parametrize(
    "rows",
    [
        "path,label\n{a},cat\n{b},dog\n",
        "{a},cat\n{b},dog\n",
        "\ufefflabel,id,filename\ncat,1,{a}\n\ndog,2,{b}\n",
        '"{a}","cat"\r\n"{b}","dog"\r\n',
    ],
)
def test_a_csv_of_path_and_label(tmp_path: Path, rows: str) -> None:
    fill(tmp_path, "sub/one, two.png", "b.png")
    quoted = "sub/one, two.png" if rows.startswith('"') else '"sub/one, two.png"'
    (tmp_path / "data.csv").write_text(rows.format(a=quoted, b=tmp_path / "b.png"))
    listing = list_csv(tmp_path / "data.csv")
    assert listing.labels == ["cat", "dog"]
    assert [Path(path) for path in listing.paths] == [tmp_path / "sub/one, two.png", tmp_path / "b.png"]


def test_bad_rows_of_a_csv_are_left_out_and_said(tmp_path: Path) -> None:
    fill(tmp_path, *(f"{number}.png" for number in range(8)))
    rows = "".join(f"{number}.png,{'ab'[number % 2]}\n" for number in range(8))
    (tmp_path / "data.csv").write_text("path,label\n" + rows + "missing.png,a\n3.png\n,b\n\n")
    account = cl.load_dataset(tmp_path / "data.csv", cache=False).account
    assert account is not None
    assert (account.files, account.pictures) == (12, 8)
    assert sorted(reason for _, reason in account.left_out) == ["a row without path or label"] * 2 + ["no such file"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"names no file that exists \(0 rows\)"),
        (b"\xff\xfe\x00", r"Could not read .*\('utf-8' codec can't decode"),
        (b"x.png,a\n", r"names no file that exists \(1 rows, first .*x\.png\)"),
    ],
)
def test_a_csv_without_pictures_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "data.csv").write_bytes(content)
    with pytest.raises(cl.ConvladderError, match=message):
        cl.load_dataset(tmp_path / "data.csv")


def test_folders_that_are_no_data_are_refused_with_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(cl.ConvladderError, match="no class folders with pictures"):
        cl.load_dataset(tmp_path)
    classes(tmp_path, 3, "only")
    with pytest.raises(cl.ConvladderError, match="has one class, only"):
        cl.load_dataset(tmp_path, cache=False)
    (tmp_path / "bad").mkdir()
    for path in (tmp_path / "only").iterdir():
        path.write_text("no picture")
    with pytest.raises(cl.ConvladderError, match="None of the 3 files"):
        cl.load_dataset(tmp_path, cache=False)


def test_settings_out_of_range_are_refused(tmp_path: Path, small_arrays: dict[str, np.ndarray]) -> None:
    classes(tmp_path, 3, "a", "b")
    for settings in ({"image_size": 4}, {"channels": 4}, {"resize": "croop"}, {"image_size": 5000}):
        with pytest.raises(cl.ConvladderError, match="Expected"):
            cl.load_dataset(tmp_path, **settings)
    np.savez(tmp_path / "data.npz", **small_arrays)  # type: ignore[arg-type]
    with pytest.raises(cl.ConvladderError, match="taken as they are"):
        cl.load_dataset(tmp_path / "data.npz", image_size=16)


def test_size_and_channels_come_from_the_pictures_unless_given(tmp_path: Path) -> None:
    for number in range(6):
        for name in ("a", "b"):
            path = fill(tmp_path / "gray", f"{name}/{number}.png") / f"{name}/{number}.png"
            hostile.picture(number, (30, 20)).convert("L").convert("RGB").save(path)
    assert cl.load_dataset(tmp_path / "gray", cache=False).input_shape == (20, 20, 1)
    assert cl.load_dataset(tmp_path / "gray", cache=False, channels=3, image_size=50).input_shape == (50, 50, 3)
    for number in range(6):
        for name in ("a", "b"):
            path = fill(tmp_path / "large", f"{name}/{number}.jpg") / f"{name}/{number}.jpg"
            hostile.picture(number, (300, 200)).save(path)
    assert cl.load_dataset(tmp_path / "large", cache=False).input_shape == (48, 48, 3)


@pytest.fixture
def small_arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "x_train": random.integers(0, 256, (48, 9, 8), dtype=np.uint8),
        "y_train": np.arange(48) % 3,
        "x_test": random.integers(0, 256, (6, 9, 8), dtype=np.uint8),
        "y_test": np.arange(6) % 3,
    }


IDX_NAMES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}


@pytest.mark.parametrize("style", ["plain", "gzip", "dots"])
def test_four_idx_files_are_a_data_set(tmp_path: Path, style: str, small_arrays: dict[str, np.ndarray]) -> None:
    for key, array in small_arrays.items():
        name, content = IDX_NAMES[key], encode_idx(array)
        if style == "gzip":
            name, content = f"{name}.gz", gzip.compress(content)
        elif style == "dots":
            name = name.replace("-idx", ".idx")
        (tmp_path / name).write_bytes(content)
    data = cl.load_dataset(tmp_path)
    np.testing.assert_array_equal(data.test.images[..., 0], small_arrays["x_test"])
    np.testing.assert_array_equal(data.test.labels, small_arrays["y_test"])
    assert len(data.train) + len(data.validation) == 48
    assert data.num_classes == 3


@pytest.mark.parametrize(
    "other",
    [
        "emnist-letters-train-images-idx3-ubyte.gz",  # of another set
        "test-images-idx3-ubyte",  # beside t10k-images
        "train-images.idx3-ubyte",
        "pictures/a/1.png",
    ],
)
def test_two_data_sets_in_one_folder_are_refused(
    tmp_path: Path, other: str, small_arrays: dict[str, np.ndarray]
) -> None:
    for key, array in small_arrays.items():
        (tmp_path / IDX_NAMES[key]).write_bytes(encode_idx(array))
        (tmp_path / f"{IDX_NAMES[key]}.gz").write_bytes(gzip.compress(encode_idx(array)))  # the same, and no other set
    assert len(cl.load_dataset(tmp_path).test) == 6
    (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / other).write_bytes(encode_idx(small_arrays["x_train"]))
    with pytest.raises(cl.ConvladderError, match=r"more than one data set|pictures beside"):
        cl.load_dataset(tmp_path)


def save_arrays(folder: Path, arrays: dict[str, np.ndarray], **changed: np.ndarray) -> Path:
    np.savez(folder / "data.npz", **(arrays | changed))  # type: ignore[arg-type]
    return folder / "data.npz"


@pytest.mark.parametrize("change", [lambda y: y + 1, lambda y: y * 1000, lambda y: 255 - y])
def test_classes_of_arrays_are_the_labels_that_occur(
    tmp_path: Path, change: Callable[[np.ndarray], np.ndarray], small_arrays: dict[str, np.ndarray]
) -> None:
    changed = {key: change(small_arrays[key]) for key in ("y_train", "y_test")}
    data = cl.load_dataset(save_arrays(tmp_path, small_arrays, **changed))
    assert data.class_names == tuple(map(str, sorted(set(changed["y_train"].tolist()))))
    np.testing.assert_array_equal(np.array(data.class_names, np.int64)[data.test.labels], changed["y_test"])
    assert data.lines() == []


def test_a_stray_label_of_arrays_is_one_class_more_and_said(
    tmp_path: Path, small_arrays: dict[str, np.ndarray]
) -> None:
    labels = small_arrays["y_train"].copy()
    labels[:2] = 255
    data = cl.load_dataset(save_arrays(tmp_path, small_arrays, y_train=labels))
    assert data.class_names == ("0", "1", "2", "255")
    said = " ".join(data.lines())
    assert "fewer than 10 training pictures: 255 2" in said
    assert "without test pictures: 255" in said
    labels[1] = 0
    with pytest.raises(cl.ConvladderError, match="cannot be split by class, because only one has the label 255"):
        cl.load_dataset(save_arrays(tmp_path, small_arrays, y_train=labels))


def test_labels_of_arrays_that_are_no_classes_are_refused(tmp_path: Path, small_arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(cl.ConvladderError, match=r"54 labels .* have 48 values, 0 to 47"):
        cl.load_dataset(save_arrays(tmp_path, small_arrays, y_train=np.arange(48)))
    same = {"y_train": np.full(48, 7), "y_test": np.full(6, 7)}
    with pytest.raises(cl.ConvladderError, match="All labels of data are 7"):
        cl.load_dataset(save_arrays(tmp_path, small_arrays, **same))


def test_copies_in_arrays_are_told_as_those_in_folders(tmp_path: Path, small_arrays: dict[str, np.ndarray]) -> None:
    images = small_arrays["x_train"].copy()
    images[4] = small_arrays["x_test"][1]
    images[5] = images[7]
    images[8] = 0
    said = cl.load_dataset(save_arrays(tmp_path, small_arrays, x_train=images)).lines()
    for line, rows in (("more than one split", "[4]"), ("more than one class", "[5]"), ("a single colour", "[8]")):
        (found,) = (text for text in said if line in text)
        assert f"x_train{rows}" in found
    assert "x_test[1]" in next(text for text in said if "more than one split" in text)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-1], "truncated"),
        (lambda content: content + b"\0", "too long"),
        (lambda content: b"\0\0\x0d\3" + content[4:], "Expected 00 00 08"),
        (lambda content: content[:6], "truncated"),
        (lambda _: b"", "Expected 00 00 08"),
        (lambda content: gzip.compress(content)[:-9], "Could not read"),
        (None, "no file for y_test"),
    ],
)
def test_damaged_idx_files_are_refused(
    tmp_path: Path, damage: object, message: str, small_arrays: dict[str, np.ndarray]
) -> None:
    for key, array in small_arrays.items():
        (tmp_path / IDX_NAMES[key]).write_bytes(encode_idx(array))
    last = tmp_path / IDX_NAMES["y_test"]
    if callable(damage):
        last.write_bytes(damage(last.read_bytes()))
    else:
        last.unlink()
    with pytest.raises(cl.ConvladderError, match=message):
        cl.load_dataset(tmp_path)


def test_links_that_go_in_circles_end(tmp_path: Path) -> None:
    classes(tmp_path, 2, "a", "b")
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "self").symlink_to("self")
    listing = list_folder(tmp_path)
    assert len(listing.paths) == 4
    assert listing.ignored == {"a link to a folder": 1, "outside the class folders": 1}


@pytest.mark.parametrize(
    "name",
    ["IMG_2024.05.12", "photo.jpg?width=200", "scan.0001", "old.jpg~", "burst.mpo", "3.14", "x.JPG.1", "picture.bak"],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"])
def test_the_content_tells_a_picture_and_not_the_last_dot(tmp_path: Path, name: str, kind: str) -> None:
    classes(tmp_path, 1, "a", "b")
    (tmp_path / "a" / name).write_bytes(hostile.encoded(hostile.picture(9), kind))
    listing = list_folder(tmp_path)
    assert sorted(Path(path).name for path in listing.paths) == sorted(["0.png", "0.png", name])
    inspected = inspect_file(str(tmp_path / "a" / name))
    assert not isinstance(inspected, str)
    assert inspected.format == kind


def test_a_picture_of_two_views_is_read_and_not_misnamed(tmp_path: Path) -> None:
    folder = classes(tmp_path, 12, "a", "b")
    views = [hostile.picture(seed, (64, 64)) for seed in (70, 71)]
    views[0].save(folder / "a" / "two.mpo", "MPO", save_all=True, append_images=views[1:])
    result = audit(folder)
    assert result.pictures == 25
    assert [finding.check for finding in result.findings] == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.v2", b"BMW, and other makes"),
        ("a.json", b"{}"),
        ("b.cache", b"GIF8"),
        ("model.h5", b"\x89HDF\r\n\x1a\n"),
    ],
)
def test_what_has_neither_name_nor_content_of_a_picture_is_counted(tmp_path: Path, name: str, content: bytes) -> None:
    folder = classes(tmp_path, 1, "a", "b")
    (folder / "a" / name).write_bytes(content)
    assert list_folder(folder).ignored == {"no picture by name and content": 1}


def test_a_folder_to_predict_tells_every_file(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", "a.png", "b.1.png", "in/c.png")
    (folder / "in" / "IMG_2024.05.12").write_bytes((folder / "a.png").read_bytes())
    (folder / "notes.txt").write_text("x")
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "gone.jpg").symlink_to("nowhere")
    (folder / "linked").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(folder / "pipe.jpg")
    listing = list_pictures(folder)
    assert [Path(path).name for path in listing.paths] == ["a.png", "b.1.png", "IMG_2024.05.12", "c.png"]
    assert [Path(path).name for path, _ in listing.left_out] == ["gone.jpg"]
    said = "1 a link to a folder, 1 hidden, 1 no picture by name and content, 1 no regular file"
    assert listing.count_ignored() == said
    with pytest.raises(cl.ConvladderError, match="holds no pictures, and 1 no picture by name and content"):
        list_pictures(fill_text(tmp_path / "texts"))


def fill_text(folder: Path) -> Path:
    folder.mkdir()
    (folder / "notes.txt").write_text("x")
    return folder


def test_a_locked_folder_to_predict_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "photos", "a.png", "locked/b.png", "locked.v2/c.png")
    (tmp_path / "photos" / "locked").chmod(0)
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)  # what root may not see either lies below, and is reached without the folders above
    user = os.geteuid()
    os.seteuid(user or 65534)
    try:
        listing = list_pictures(Path("photos"))
        with pytest.raises(cl.ConvladderError, match="Could not read"):
            decode_image(listing.left_out[0][0], (8, 8, 3))
    finally:
        os.seteuid(user)
        (tmp_path / "photos" / "locked").chmod(0o700)
    assert listing.paths == ["photos/a.png", "photos/locked.v2/c.png"]
    assert listing.left_out == [("photos/locked", "Permission denied")]
