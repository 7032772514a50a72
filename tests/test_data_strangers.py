"""Folders and tables as strangers publish them: each is read rightly, or refused in words; none is misread in silence.

The layouts and headers are those that the descriptions of public data sets show, with a picture or two in each folder.
"""

from collections import Counter
from pathlib import Path

import pytest

import convladder as cl
from convladder.data.csv_tables import list_csv
from convladder.data.folders import list_folder
from convladder.data.splits import recognize_split

CASES = Path(__file__).parents[2] / "shared" / "cases"
AB = ("a", "b")
NOT_READ = ("heic", "heif", "avif", "jxl", "jp2", "svg", "ico", "psd", "eps", "ppm", "pgm", "tga", "dng")


def put(root: Path, *names: str) -> Path:
    """An empty file at each place; what stands in its name decides, since none is decoded here."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def each(*folders: str) -> list[str]:
    """A picture in a folder of each of two classes, in each of the folders."""
    return [f"{folder}/{name}/{folder.replace('/', '-')}-{name}.jpg" for folder in folders for name in AB]


# What lies in the folder; then how many pictures each split and class should have, or words of the refusal.
LAYOUTS: dict[str, tuple[list[str], dict[tuple[str, str], int] | str]] = {
    "flower photos": (["daisy/1.jpg", "tulips/2.jpg", "LICENSE.txt"], {("", "daisy"): 1, ("", "tulips"): 1}),
    "brain tumours": (each("Training", "Testing"), "train test"),
    "training_set, test_set": (each("training_set/training_set", "test_set/test_set"), "train test"),
    "Intel scenes": ([*each("seg_train/seg_train", "seg_test/seg_test"), "seg_pred/seg_pred/1.jpg"], "train test"),
    "chest X-rays": (
        [*each("chest_xray/train", "chest_xray/val", "chest_xray/test"), "__MACOSX/._x"],
        "train validation test",
    ),
    "cats and dogs filtered": ([*each("train", "validation"), "vectorize.py"], "train validation"),
    "train, dev": (each("train", "dev"), "train validation"),
    "train, eval": (each("train", "eval"), "train test"),
    "train, dev, eval": (each("train", "dev", "eval"), "train validation test"),
    "train, eval, test": (each("train", "eval", "test"), "train validation test"),
    "train2017, val2017": (each("train2017", "val2017"), "train validation"),
    "TRAIN, TEST": (each("TRAIN", "TEST"), "train test"),
    "TrainImages, TestImages": (each("TrainImages", "TestImages"), "train test"),
    "trainset, valset, testset": (each("trainset", "valset", "testset"), "train validation test"),
    "01_train, 02_test": (each("01_train", "02_test"), "train test"),
    "a class first": ([f"{name}/{part}/{name}{part}.jpg" for name in AB for part in ("train", "test")], "train test"),
    "real and fake faces": (each("real_vs_fake/real-vs-fake/train", "real_vs_fake/real-vs-fake/test"), "train test"),
    "Food-101": (
        ["images/a/1.jpg", "images/b/2.jpg", "meta/classes.txt", "meta/train.json"],
        {("", "a"): 1, ("", "b"): 1},
    ),
    "Stanford dogs": (["Images/a/1.jpg", "Images/b/2.jpg", "Annotation/a/1.xml"], {("", "a"): 1, ("", "b"): 1}),
    "textures": (["dtd/images/a/1.jpg", "dtd/images/b/2.jpg", "dtd/labels/x.txt"], {("", "a"): 1, ("", "b"): 1}),
    "a competition's test": ([*each("train"), "test/1.jpg", "test/2.jpg", "sample_submission.csv"], "train"),
    "ImageNet's validation": ([*each("train"), "val/1.jpg"], "train"),
    "vehicles": (["train/1.jpg", "car/2.jpg", "bus/3.jpg"], {("", "train"): 1, ("", "car"): 1, ("", "bus"): 1}),
    "valid, invalid": (["valid/1.jpg", "invalid/2.jpg"], {("", "valid"): 1, ("", "invalid"): 1}),
    "ten monkeys": ([*each("training/training", "validation/validation"), "monkey_labels.txt"], "train validation"),
    "numbers": ([f"{n}/{n}.png" for n in range(3)], {("", str(n)): 1 for n in range(3)}),
    "folders in classes": (["a/2019/1.jpg", "a/2.jpg", "b/2019/3.jpg"], {("", "a"): 2, ("", "b"): 1}),
    # Refused, and why.
    "train beside one odd folder": ([*each("train"), "extra/1.jpg"], "extra is not the name of a split"),
    "train beside odd classes": (each("train", "augmented"), "augmented is not the name of a split"),
    "train flat beside test": (["train/1.jpg", *each("test")], "the training pictures are not in class folders"),
    "train flat beside an odd one": (
        ["train/1.jpg", "unsorted/1.jpg"],
        "the training pictures are not in class folders",
    ),
    "dogs vs cats": (
        ["train/cat.0.jpg", "train/dog.0.jpg", "test1/1.jpg"],
        "the training pictures are not in class folders",
    ),
    "CIFAR of a competition": (["train/1.png", "test/1.png", "trainLabels.csv"], r"--data .*trainLabels\.csv"),
    "fruits": ([*each("Training", "Test"), "test-multiple_fruits/1.jpg"], "more than one may be for testing"),
    "FER2013": (each("Training", "PublicTest", "PrivateTest"), "more than one may be for testing"),
    "train and training": (each("train", "training"), "more than one may be for training"),
    "val and test alone": (each("val", "test"), "none of them is for training"),
    "GTSRB": (
        ["Train/0/1.png", "Train/1/2.png", "Test/1.png", "Meta/0.png", "Test.csv"],
        "Meta is not the name of a split",
    ),
    "tiny ImageNet": (["train/n01/images/1.jpg", "train/n02/images/2.jpg", "val/images/3.jpg"], "train"),
    "colours and gray": (each("color", "grayscale", "segmented"), "several hold a"),
    "folds": (each("fold1", "fold2"), "parts of one data set"),
    "HAM10000": (
        ["HAM10000_images_part_1/1.jpg", "HAM10000_images_part_2/2.jpg", "HAM10000_metadata.csv"],
        "parts of one",
    ),
    "NIH chest X-rays": (["images_001/images/1.png", "images_002/images/2.png"], "parts of one data set"),
    "Oxford pets": (["images/1.jpg", "annotations/trimaps/1.png"], "pictures and annotations"),
    "VOC": (["JPEGImages/1.jpg", "SegmentationClass/1.png", "Annotations/1.xml"], "pictures and annotations"),
    "pictures and masks": (
        ["COVID/images/1.png", "COVID/masks/1.png", "Normal/images/2.png", "Normal/masks/2.png"],
        "either",
    ),
    "malaria twice": (["a/1.png", "b/2.png", *each("cell_images")], "cell_images holds another ."),
    "split in classes and not": (["a/train/1.jpg", "a/test/2.jpg", "b/3.jpg"], "in a class have names of splits"),
    "a class to test alone": (["a/train/1.jpg", "a/test/2.jpg", "b/test/3.jpg"], "b has no training folder"),
    "other names in test": (["train/cat/1.jpg", "train/dog/2.jpg", "test/Cat/3.jpg"], "has no class Cat"),
    "splits twice": (each("test") + [f"train/{n}/{s}/1.jpg" for n in AB for s in ("train", "val")], "split once more"),
    "no classes": (["1.jpg", "2.jpg", "labels.csv"], "no class folders with pictures"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_strangers_layout_is_read_rightly_or_refused_in_words(tmp_path: Path, layout: str) -> None:
    names, expected = LAYOUTS[layout]
    folder = put(tmp_path / "data", *names)
    if isinstance(expected, str) and not set(expected.split()) <= {"train", "validation", "test"}:
        with pytest.raises(cl.ConvladderError, match=expected) as refused:
            list_folder(folder)
        assert "Expected" in str(refused.value)
        assert "\n" not in str(refused.value)
        return
    if isinstance(expected, str):
        expected = {(split, name): 1 for split in expected.split() for name in AB}
        if layout == "tiny ImageNet":
            expected = {("train", "n01"): 1, ("train", "n02"): 1}
    listing = list_folder(folder)
    assert Counter(zip(listing.splits, listing.labels, strict=True)) == expected
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(listing.paths) + len(listing.left_out) + sum(listing.ignored.values()) == len(files)


# The header, a row for each of the columns but the path's, and what is the path, label and split; or the refusal.
HEADERS: dict[str, tuple[str, str, str]] = {
    "path,label": ("{path},{ab}", "", ""),
    "filename,label": ("{path},{ab}", "", ""),
    "image_id,label": ("{path},{ab}", "", ""),
    "Image,Id": ("{path},{ab}", "", "None is known as the label"),
    "id,breed": ("{path},{ab}", "", "None is known as the label"),
    "file_name,category_id": ("{path},{ab}", "", ""),
    "image_path,patient,target": ("{path},P{n},{ab}", "", ""),
    "filename,width,height,breed": ("{path},32,33,{ab}", "", "None is known as the label"),
    "path,label,split": ("{path},{ab},{part}", "split", ""),
    "class id,filepaths,labels,data set": ("{ab},{path},{ab},{part}", "split", ""),
    "Width,Height,Roi.X1,Roi.Y1,ClassId,Path": ("32,32,1,1,{ab},{path}", "", ""),
    "emotion,Usage,image": ("{n},{part},{path}", "", "None is known as the label"),
    "class,Usage,image": ("{ab},{part},{path}", "split", ""),
    "image,purpose,category": ("{path},{part},{ab}", "split", ""),
    "lesion_id,image_id,dx,dx_type,age,sex": ("L{n},{path},{ab},histo,45,male", "", "None is known as the label"),
    "id_code,diagnosis": ("{path},{ab}", "", "None is known as the label"),
    "image_id,healthy,multiple_diseases,rust,scab": ("{path},1,0,0,0", "", "None is known as the label"),
    "filename,species,class,breed": ("{path},S{n},{ab},B{n}", "", ""),
    "filename,class,label": ("{path},{ab},L{n}", "", "class and label may be the label"),
    "image,label,is_train": ("{path},{ab},1", "", "Expected train, validation and test"),
    "image,label,fold": ("{path},{ab},{n}", "", "Expected train, validation and test"),
    "Image Index,Finding Labels,Patient ID": ("{path},{ab},{n}", "", "None is known as the label"),
    "filename,width,height,class,xmin,ymin,xmax,ymax": ("{path},9,9,{ab},1,1,2,2", "", ""),
    "imagen,clase": ("{path},{ab}", "", "None is known as the label"),
    "img_path,label,subset": ("{path},{ab},{part}", "split", ""),
    ",image_name,tags,label_name": ("{n},{path},t{n},{ab}", "", ""),
    "path,class_id,class_name": ("{path},{bit},{ab}", "", ""),
    "label,caption,file": ("{caption},{ab},{path}", "", "40 values for 40 pictures"),
}
PARTS = ("train", "train", "train", "valid", "testing")


def table(folder: Path, header: str, row: str, count: int = 40) -> Path:
    """A table of pictures that are there, of two classes, in three splits."""
    names = [f"pictures/{number:02}.png" for number in range(count)]
    put(folder, *names)
    lines = [
        row.format(path=name, ab="ab"[n % 2], bit=n % 2, n=n % 4, part=PARTS[n // 2 % 5], caption=f"caption {n}")
        for n, name in enumerate(names)
    ]
    path = folder / "table.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


@pytest.mark.parametrize("header", HEADERS)
def test_a_strangers_header_is_read_rightly_or_refused_in_words(tmp_path: Path, header: str) -> None:
    row, split, refusal = HEADERS[header]
    path = table(tmp_path, header, row)
    if refusal:
        with pytest.raises(cl.ConvladderError, match=refusal) as refused:
            list_csv(path)
        assert "--label-column" in str(refused.value) or "--split-column" in str(refused.value)
        return
    listing = list_csv(path)
    assert [Path(name).name for name in listing.paths] == [f"{number:02}.png" for number in range(40)]
    assert listing.labels == ["a", "b"] * 20
    expected = [{"valid": "validation", "testing": "test"}.get(PARTS[n // 2 % 5], "train") for n in range(40)]
    assert listing.splits == (expected if split else [""] * 40)


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("filename,width,height,breed", {"label": "breed"}),
        ("filename,width,height,breed", {"label": "BREED ", "path": "1"}),
        ("filename,width,height,breed", {"label": "4"}),
        ("a,b,c,d", {"label": "d"}),
    ],
)
def test_a_named_column_of_a_csv_is_taken(tmp_path: Path, header: str, columns: dict[str, str]) -> None:
    path = table(tmp_path, header, "{path},32,33,{ab}")
    listing = list_csv(path, columns)
    assert listing.labels == ["a", "b"] * 20
    assert all(Path(found).is_file() for found in listing.paths)


def test_a_column_that_a_csv_lacks_is_refused_with_those_it_has(tmp_path: Path) -> None:
    path = table(tmp_path, "filename,width,breed", "{path},32,{ab}")
    for name in ("race", "4", "0", "-1", ""):
        with pytest.raises(cl.ConvladderError, match="filename, width, breed"):
            list_csv(path, {"label": name})


def test_a_column_of_splits_is_passed_over_where_none_is_asked_for(tmp_path: Path) -> None:
    path = table(tmp_path, "path,label,fold", "{path},{ab},{n}")
    assert set(list_csv(path, {"split": "none"}).splits) == {""}
    path = table(tmp_path, "path,label,split,again", "{path},{ab},{part},{part}")
    assert Counter(list_csv(path, {"split": "again"}).splits) == {"train": 24, "validation": 8, "test": 8}


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_separators_of_a_csv_are_told_by_the_rows(tmp_path: Path, separator: str) -> None:
    path = table(tmp_path, f"path{separator}label", f"{{path}}{separator}{{ab}}, so they say")
    assert set(list_csv(path).labels) == {"a, so they say", "b, so they say"}
    put(tmp_path, "x, y.png", "z.png")
    path.write_text(f"x, y.png{separator}big, red\nz.png{separator}small, blue\n")
    assert list_csv(path).labels == ["big, red", "small, blue"]


def test_a_csv_without_a_known_separator_says_which_there_are(tmp_path: Path) -> None:
    path = table(tmp_path, "path label", "{path} {ab}")
    with pytest.raises(cl.ConvladderError, match=r"has one column, 'path label'.*commas, semicolons, tabs, bars"):
        list_csv(path)


def test_a_tsv_and_paths_with_backslashes_are_read(tmp_path: Path) -> None:
    path = table(tmp_path, "path\tlabel", "{path}\t{ab}").rename(tmp_path / "table.tsv")
    path.write_text(path.read_text().replace("/", "\\"))
    assert len(list_csv(path).paths) == 40
    with pytest.raises(cl.ConvladderError, match="None of the 40 files"):  # empty, yet looked for as pictures
        cl.load_dataset(path, cache=False)


def test_a_csv_of_objects_in_pictures_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path, "filename,class", "{path},{ab}")
    path.write_text(path.read_text() + "".join(f"pictures/{n:02}.png,{'ba'[n % 2]}\n" for n in range(9)))
    with pytest.raises(cl.ConvladderError, match=r"9 of the 40 files .* several labels in class"):
        list_csv(path)


def test_a_row_that_repeats_another_counts_once(tmp_path: Path) -> None:
    path = table(tmp_path, "filename,class", "{path},{ab}")
    path.write_text(path.read_text() + "pictures/00.png,a\n" * 3)
    listing = list_csv(path)
    assert len(listing.paths) == 40
    assert listing.ignored == {"row that repeats another": 3}


def test_a_csv_whose_test_has_other_classes_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path, "path,label,split", "{path},{part} {ab},{part}")
    with pytest.raises(cl.ConvladderError, match="no training row for testing a, testing b, valid a"):
        list_csv(path)


@pytest.mark.skipif(not CASES.exists(), reason="the tables are not beside this clone")
def test_the_tables_that_went_wrong_are_read(tmp_path: Path) -> None:
    split = cl.load_dataset(CASES / "csv" / "split.csv", cache=False)
    assert (len(split.train), len(split.test), len(split.validation)) == (8, 4, 4)
    for name in ("target", "semicolons", "backslashes"):
        data = cl.load_dataset(CASES / "csv" / f"{name}.csv", cache=False)
        assert data.class_names == ("blue", "red")
    with pytest.raises(cl.ConvladderError, match=r"filename, width, height, breed\. .* --label-column"):
        cl.load_dataset(CASES / "csv" / "breed.csv")
    data = cl.load_dataset(CASES / "csv" / "breed.csv", cache=False, columns={"label": "breed"})
    assert data.class_names == ("blue", "red")
    assert cl.load_dataset(**(data.source or {})).fingerprint == data.fingerprint


def test_columns_are_for_tables_alone(tmp_path: Path) -> None:
    with pytest.raises(cl.ConvladderError, match="has no columns to name"):
        cl.load_dataset("mnist", columns={"label": "breed"})
    with pytest.raises(cl.ConvladderError, match="Did you mean label"):
        cl.load_dataset(CASES / "csv" / "breed.csv", columns={"lable": "breed"})


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("Training", "train"),
        ("test_set", "test"),
        ("testset", "test"),
        ("TestImages", "test"),
        ("cars-train", "train"),
        ("val.2", "validation"),
        ("Dev Set", "validation"),
        ("eval", "evaluation"),
        ("trainer", ""),
        ("testimony", ""),
        ("latest", ""),
        ("train_val", ""),
        ("värld", ""),
    ],
)
def test_names_of_splits(name: str, split: str) -> None:
    found = recognize_split(name)
    assert (found.split if found else "") == split


@pytest.mark.parametrize("ending", NOT_READ)
def test_pictures_of_formats_that_are_not_read_are_reported_and_not_skipped(tmp_path: Path, ending: str) -> None:
    listing = list_folder(put(tmp_path, *each("data"), f"data/a/1.{ending}", f"data/b/2.{ending.upper()}"))
    assert not listing.ignored
    assert len(listing.paths) == 4


def test_columns_without_a_header_have_numbers(tmp_path: Path) -> None:
    names = put(tmp_path, "1.png", "2.png") / "table.csv"
    names.write_text("1.png,a,b\n2.png,b,a\n")
    with pytest.raises(cl.ConvladderError, match=r"has the columns 1, 2, 3\. 'breed' is not one"):
        list_csv(names, {"label": "breed"})
    assert list_csv(names, {"label": "3"}).labels == ["b", "a"]
