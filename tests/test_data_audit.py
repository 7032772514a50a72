"""The audit: each defect is found where it was put, nothing where there is none, near copies as imagehash sees them."""

import json
import re
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import pytest
from PIL import Image

import convladder as cl
import hostile
from convladder.data.audit import ADVICE, Audit, audit
from convladder.data.checks import group_equal
from convladder.data.similarity import group_similar, perceptual_hashes
from convladder.reporting.audit import render_audit


@pytest.fixture(scope="module")
def hostile_audit(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    return audit(hostile.build(tmp_path_factory.mktemp("audit") / "data"))


def found(result: Audit) -> dict[str, list[set[str]]]:
    return {
        finding.check: [{Path(name).name for name in group} for group in finding.groups] for finding in result.findings
    }


def clean(folder: Path) -> Path:
    for number, name in enumerate(("a", "b")):
        (folder / name).mkdir(parents=True)
        for count in range(15):
            hostile.picture(100 * number + count).save(folder / name / f"{count}.png")
    return folder


def test_every_file_is_accounted_for(hostile_audit: Audit) -> None:
    expected = hostile.expected()
    counted = hostile_audit.pictures, hostile_audit.left_out, sum(hostile_audit.ignored.values())
    assert counted == (expected[hostile.USED], expected[hostile.LEFT_OUT], expected[hostile.IGNORED])
    assert hostile_audit.files == sum(expected.values())
    assert sum(hostile_audit.classes.values()) == hostile_audit.pictures


def test_each_defect_is_found_where_it_was_put(hostile_audit: Audit) -> None:
    checks = found(hostile_audit)
    assert checks["empty"] == [{"empty.jpg"}]
    assert {name for group in checks["no picture"] for name in group} >= {"text.jpg", "page.png", "phone.heic"}
    assert {name for group in checks["truncated"] for name in group} >= {"cut.jpg", "cut.png", "cut.gif", "cut.bmp"}
    assert checks["too large"] == [{"bomb.png"}]
    assert checks["a link to nothing"] == [{"dangling.jpg"}]
    assert checks["misnamed"] == [{"png by content.jpg"}]
    assert {"tiny.png"} in checks["tiny"]
    assert checks["odd proportions"] == [{"long.png"}]
    assert {"smaller copy.jpg"} not in checks["odd size"]  # 128 is four times 32, not more
    assert {"tiny.png"} in checks["odd size"]
    assert {"black.png"} in checks["one colour"]
    assert {"0.png", "copy.png"} in checks["copies across classes"]
    assert {"1.png", "smaller copy.jpg"} in checks["near copies across classes"]
    assert checks["class without pictures"] == [{"empty class"}]
    assert checks["class name not ASCII"] == [{"odd ünïcode"}]
    assert all(check in ADVICE for check in checks)


def test_nothing_is_found_where_nothing_is_wrong(tmp_path: Path) -> None:
    assert audit(clean(tmp_path / "data")).findings == []


def test_copies_across_splits_are_leakage(tmp_path: Path) -> None:
    for split in ("train", "test"):
        clean(tmp_path / split)
    for path in (tmp_path / "test").rglob("*.png"):
        path.unlink()
    hostile.picture(3).save(tmp_path / "test" / "a" / "same.png")
    hostile.picture(4, (60, 60)).save(tmp_path / "test" / "a" / "larger.jpg", quality=70)
    hostile.picture(900).save(tmp_path / "test" / "b" / "own.png")
    checks = found(audit(tmp_path))
    assert checks["copies across splits"] == [{"3.png", "same.png"}]
    assert checks["near copies across splits"] == [{"4.png", "larger.jpg"}]
    account = cl.load_dataset(tmp_path, cache=False).account
    assert account is not None
    assert any("more than one split" in line and "same.png" in line for line in account.remarks)


def test_classes_that_are_small_unequal_or_alike_are_told(tmp_path: Path) -> None:
    clean(tmp_path)
    (tmp_path / "A").mkdir()
    hostile.picture(700).save(tmp_path / "A" / "one.png")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "x.png").write_text("no picture")
    checks = found(audit(tmp_path))
    assert checks["few pictures"] == [{"A (1)"}]
    assert checks["imbalance"] == [{"a (15)", "A (1)"}] or checks["imbalance"] == [{"b (15)", "A (1)"}]
    assert checks["class names alike"] == [{"A", "a"}]
    assert checks["class without pictures"] == [{"broken"}]


def test_hashes_are_those_of_imagehash() -> None:
    pictures = [hostile.picture(seed).convert("L") for seed in range(40)]
    ours = perceptual_hashes(np.stack([np.asarray(picture) for picture in pictures]))
    for picture, mine in zip(pictures, ours, strict=True):
        assert int(str(imagehash.phash(picture)), 16) == mine


def test_groups_are_those_of_comparing_every_pair() -> None:
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**63, 300, dtype=np.uint64)
    for row in range(200, 300):  # neighbours of the others, 0 to 9 bits away
        flipped = random.choice(64, row % 10, replace=False).astype(np.uint64)
        hashes[row] = hashes[row - 200] ^ np.bitwise_or.reduce(np.uint64(1) << flipped, initial=np.uint64(0))
    same = np.zeros((300, 16, 16, 3), np.uint8)
    same[7] = 200  # far apart in the second look
    skip = np.zeros(300, np.bool_)
    skip[9] = True
    groups = [set(group.tolist()) for group in group_similar(hashes, same, skip)]
    expected = [{row, row + 200} for row in range(100) if bin(int(hashes[row] ^ hashes[row + 200])).count("1") <= 6]
    assert sorted(groups, key=min) == [pair for pair in expected if not pair & {7, 9}]


def test_many_equal_hashes_are_one_group() -> None:
    hashes = np.full(5000, 12345, np.uint64)
    (group,) = group_similar(hashes, np.zeros((5000, 2, 2, 3), np.uint8), np.zeros(5000, np.bool_))
    assert len(group) == 5000
    (equal,) = group_equal(hashes, np.arange(5000) % 2 == 0)
    assert equal.tolist() == list(range(1, 5000, 2))


def test_the_page_holds_its_pictures_and_escapes_names(tmp_path: Path) -> None:
    folder = clean(tmp_path / "<script>alert(1)<|script>")
    Image.new("RGB", (32, 32)).save(folder / "a" / "<b onclick=x>.png")
    page = render_audit(audit(folder))
    assert "<script" not in page
    assert "<b onclick" not in page
    assert page.count("data:image/jpeg;base64,") == 1
    assert re.findall(r"(?:src|href)=\"(?!data:)", page) == []
    assert "one colour: 1" in page


def test_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from convladder import cli

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["convladder", "audit", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), capfd.readouterr().out

    folder = clean(tmp_path / "data")
    status, table = call(folder, "--strict")
    assert status == 0
    assert "30 files: 30 pictures, 0 left out, 0 ignored. No problems were found." in table
    (folder / "a" / "empty.png").write_bytes(b"")
    assert call(folder)[0] == 0
    status, text = call(folder, "--strict", "--json", "--html", tmp_path / "page.html")
    assert status == 3
    content: dict[str, Any] = json.loads(text)
    assert (content["files"], content["pictures"], content["left_out"]) == (31, 30, 1)
    assert [(finding["check"], finding["count"]) for finding in content["findings"]] == [("empty", 1)]
    assert "empty: 1" in (tmp_path / "page.html").read_text()
    assert call(tmp_path / "nowhere")[0] == 2


def test_a_file_is_misnamed_where_its_ending_is_that_of_another_format(tmp_path: Path) -> None:
    usual = {
        "JPEG": (".jpg", ".JPEG", ".jpe", ".jfif"),
        "PNG": (".png", ".apng"),
        "BMP": (".bmp", ".dib"),
        "GIF": (".gif",),
        "WEBP": (".webp",),
        "TIFF": (".tif", ".TIFF"),
    }
    (tmp_path / "a").mkdir()
    wrong = set()
    for number, (kind, endings) in enumerate(usual.items()):
        other = list(usual.values())[number - 1][0]
        wrong.add(f"{kind} as another{other}")
        for name in (*(f"{kind}{ending}" for ending in endings), f"{kind} as another{other}", f"{kind}.v2"):
            (tmp_path / "a" / name).write_bytes(hostile.encoded(hostile.picture(number), kind))
    assert {name for group in found(audit(tmp_path))["misnamed"] for name in group} == wrong
