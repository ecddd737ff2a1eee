"""Data sets built from folders of images with tables: the images and tables are made here, without the network."""

import csv
import hashlib
import io
import itertools
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxprune import config, data
from jaxprune.cli import main
from jaxprune.data.prepare import images
from jaxprune.data.prepare.build import BUILD_VERSION
from jaxprune.data.prepare.collection import Attribute
from jaxprune.data.prepare.table import to_attribute
from jaxprune.data.sources.table_files import read_columns
from jaxprune.data.sources.tfds import find_prepared
from jaxprune.errors import UserError
from jaxprune.pipeline.build import resolve

RACES = ("White", "Black", "Latino_Hispanic", "East Asian", "Southeast Asian", "Indian", "Middle Eastern")
AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")


def pixels(seed: int, size: int = 6, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, channels), np.uint8)


def write_table(path: Path, rows: Sequence[dict], delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def make_folder(folder: Path, count: int) -> list[dict]:
    """Images 000.png, ... in two folders; rows with text, whole numbers, other numbers and a remark on each."""
    rows = []
    for i in range(count):
        name = f"{'even' if i % 2 == 0 else 'odd'}/{i:03}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(i)).save(folder / name)
        rows.append(
            {
                "file": name,
                "tone": ("II-III", "IV", "V", "VI")[i % 4],
                "sex": ("m", "f")[i // 4 % 2],
                "age": 20 + i % 60,
                "dose": i % 40 / 10,
                "remark": f"seen on day {i}",
            }
        )
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """`photos` with 160 images, of which 10 are copies of others with the same labels, and one with others; `t.csv`."""
    top = tmp_path_factory.mktemp("own")
    rows = make_folder(top / "photos", 150)
    for i in range(10):
        name = f"copy{i}.png"
        (top / "photos" / name).write_bytes((top / "photos" / rows[3]["file"]).read_bytes())
        rows.append(rows[3] | {"file": name})
    rows[-1] = rows[-1] | {"sex": "f" if rows[3]["sex"] == "m" else "m"}
    write_table(top / "t.csv", rows)
    return top


@pytest.fixture(scope="module")
def own(folder, tmp_path_factory) -> tuple[Path, data.FolderReport]:
    """The folder of prepared sets that holds `photos`, and what was found."""
    sets = tmp_path_factory.mktemp("sets")
    return sets, data.prepare_folder("photos", folder / "photos", folder / "t.csv", sets)


def whole(dataset: data.Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, groups and inputs of all splits together."""
    return tuple(np.concatenate([getattr(dataset.split(s), part) for s in data.SPLITS]) for part in ("y", "group", "x"))


def test_the_report_of_a_folder_with_a_table(own) -> None:
    _, report = own
    assert report.used == 160
    assert report.repeats == 10
    assert sorted(report.contradictory) == sorted(["003.png", *(f"copy{i}.png" for i in range(10))])
    assert report.left_out == ["remark (150 categories)"]
    assert (report.malformed, report.crossing, report.converted, report.listed) == ([], [], 0, None)


def test_columns_become_labels_groups_and_numbers(own, folder) -> None:
    sets, _ = own
    with (folder / "t.csv").open() as f:
        rows = list(csv.DictReader(f))
    loaded = data.load("photos", directory=str(sets), label="sex", group="tone")
    assert loaded.label_names == ("f", "m")
    assert loaded.group_names == ("II-III", "IV", "V", "VI")
    y, group, _ = whole(loaded)
    mine = Counter((loaded.label_names[a], loaded.group_names[b]) for a, b in zip(y, group, strict=True))
    assert mine == Counter((row["sex"], row["tone"]) for row in rows)
    binned = data.load("photos", directory=str(sets), label="dose", group="sex", bins=(0.7, 2.0))
    assert binned.label_names == ("<0.7", "0.7-2", "2+")
    doses = np.array([float(row["dose"]) for row in rows])
    np.testing.assert_array_equal(np.bincount(whole(binned)[0]), np.bincount(np.digitize(doses, [0.7, 2.0])))
    assert data.load("photos", directory=str(sets), label="age", group="sex").num_classes == 9, "the paper's bins"


def test_each_image_keeps_its_own_labels(own, folder) -> None:
    """Pixels go with the row that names them: the mean brightness of each cell is that of its files."""
    sets, _ = own
    loaded = data.load("photos", directory=str(sets), label="sex", group="tone", image_size=6)
    y, group, x = whole(loaded)
    with (folder / "t.csv").open() as f:
        rows = list(csv.DictReader(f))
    truth: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        brightness = np.asarray(Image.open(folder / "photos" / row["file"])).mean()
        truth.setdefault((row["sex"], row["tone"]), []).append(brightness)
    mean = {}
    for c, g in itertools.product(range(2), range(4)):
        mean[loaded.label_names[c], loaded.group_names[g]] = x[(y == c) & (group == g)].mean()
    names = list(truth)
    expected, found = np.array([np.mean(truth[n]) for n in names]), np.array([mean[n] for n in names])
    # Inputs may be normalised, channel by channel, which hardly moves the relation of the means of all three.
    assert np.corrcoef(expected, found)[0, 1] > 0.999


def lowest_fifths(top: Path, rows: Sequence[dict], label: str) -> set[bytes]:
    """The files of the test split, as the manual says: the lowest fifth of the digests of every kind of the label."""
    kinds: dict[bytes, str] = {}
    for row in rows:
        content = (top / row["file"]).read_bytes()
        kinds[content] = min(row[label], kinds.get(content, row[label]))
    taken: list[bytes] = []
    for kind in set(kinds.values()):
        files = sorted((c for c in kinds if kinds[c] == kind), key=lambda c: hashlib.sha256(c).digest())
        fifth = int(Decimal(len(files)) / 5 + Decimal("0.5"))
        taken += files[: max(fifth, 1) if len(files) > 1 else 0]
    return set(taken)


def in_the_test_split(sets: Path, name: str) -> Counter:
    """The images of the test split of a set, by their pixels."""
    return Counter(image.tobytes() for image in data.load(name, directory=str(sets)).test.x)


def decoded(files: Iterable[bytes], times: Counter | None = None) -> Counter:
    pixels_of = [(np.asarray(Image.open(io.BytesIO(content))).tobytes(), content) for content in files]
    return Counter({image: times[content] if times else 1 for image, content in pixels_of})


def test_the_test_split_is_a_fifth_of_every_usual_label_and_copies_are_on_one_side(own, folder) -> None:
    sets, _ = own
    with (folder / "t.csv").open() as f:
        rows = list(csv.DictReader(f))
    loaded = data.load("photos", directory=str(sets), label="sex", group="tone")
    distinct = Counter(row["tone"] for row in rows[:150])  # the rest are copies
    for tone, count in distinct.items():
        of_tone = loaded.test.group == loaded.group_names.index(tone)
        kinds = [len({image.tobytes() for image in loaded.test.x[of_tone & (loaded.test.y == sex)]}) for sex in (0, 1)]
        assert sum(kinds) == round(count / 5)
        assert abs(kinds[0] - kinds[1]) <= 2, "of as many women as men"
    seen = [{image.tobytes() for image in loaded.split(split).x} for split in data.SPLITS]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]


def test_the_drawn_split_does_not_depend_on_the_order_of_the_rows(own, folder, tmp_path) -> None:
    sets, _ = own
    with (folder / "t.csv").open() as f:
        rows = list(csv.DictReader(f))
    shuffled = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    table = write_table(tmp_path / "t.csv", shuffled)
    data.prepare_folder("photos", folder / "photos", table, tmp_path)
    assert in_the_test_split(tmp_path, "photos") == in_the_test_split(sets, "photos")


def test_adding_images_moves_few_of_the_others(tmp_path) -> None:
    rows = make_folder(tmp_path / "photos", 130)
    drawn = []
    for count in (100, 130):
        name = f"first{count}"
        for row in rows[:count]:
            (tmp_path / name / row["file"]).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / row["file"]).write_bytes((tmp_path / "photos" / row["file"]).read_bytes())
        table = write_table(tmp_path / f"{name}.csv", rows[:count])
        data.prepare_folder(name, tmp_path / name, table, tmp_path / "sets")
        drawn.append(in_the_test_split(tmp_path / "sets", name))
    old = decoded((tmp_path / "photos" / row["file"]).read_bytes() for row in rows[:100])
    before, after = set(drawn[0]), set(drawn[1]) & set(old)
    assert (len(before), sum(drawn[1].values())) == (20, 26)  # of 25 of each kind, and of 33, 33, 32 and 32
    # With n digests more in a cell of m, the edge moves by about a standard deviation of m / 5 places in m + n.
    assert len(before ^ after) <= 8


def test_kinds_of_one_image_and_numbers_that_need_bins_are_split_as_one(tmp_path) -> None:
    rows = make_folder(tmp_path / "photos", 60)
    for i, row in enumerate(rows):
        row["kind"] = "common" if i < 20 else f"rare {i}"
    table = write_table(tmp_path / "t.csv", rows)
    photos = tmp_path / "photos"
    for name, column, pooled in (("rare", "kind", True), ("dose", "dose", False)):
        data.prepare_folder(name, photos, table, tmp_path, columns=(column,))
        cells = [{**row, "cell": str(i < 20 if pooled else 0)} for i, row in enumerate(rows)]
        wanted = decoded(lowest_fifths(photos, cells, "cell"))
        assert stored_in_the_test_split(tmp_path, name) == wanted
    assert sum(wanted.values()) == 12


def stored_in_the_test_split(sets: Path, name: str) -> Counter:
    """The images of the test split as they are stored, by their pixels."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(sets / name / BUILD_VERSION))
    return Counter(np.asarray(example["image"]).tobytes() for example in builder.as_data_source(split="test"))


def test_the_validation_split_is_even_over_the_groups_and_does_not_move_with_the_bins(own) -> None:
    sets, _ = own
    asked = {"directory": str(sets), "label": "sex", "group": "tone"}
    splits = [data.load("photos", **asked, bins=bins) for bins in ((30.0,), (1.0, 2.0))]
    np.testing.assert_array_equal(splits[0].validation.x, splits[1].validation.x)
    sizes = splits[0].group_sizes("validation")
    assert sizes.max() - sizes.min() <= 4


def test_bins_leave_numbers_alone_that_they_do_not_cut(tmp_path) -> None:
    rows = make_folder(tmp_path / "photos", 80)
    for i, row in enumerate(rows):
        row["smokes"], row["visits"] = i % 2, 1_000_001 + i % 3
    data.prepare_folder("photos", tmp_path / "photos", write_table(tmp_path / "t.csv", rows), tmp_path)
    loaded = data.load("photos", directory=str(tmp_path), label="age", group="smokes", bins=(40.0,))
    assert (loaded.label_names, loaded.group_names) == (("<40", "40+"), ("0", "1"))
    visits = data.load("photos", directory=str(tmp_path), label="sex", group="visits")
    assert visits.group_names == ("1000001", "1000002", "1000003")


def test_chosen_columns_come_in_their_order_and_may_be_remarks(folder, tmp_path) -> None:
    data.prepare_folder("two", folder / "photos", folder / "t.csv", tmp_path, columns=("remark", "sex"))
    loaded = data.load("two", directory=str(tmp_path), group="sex", label="sex")
    assert loaded.num_groups == 2
    with pytest.raises(UserError, match=r"unknown label 'tone'; known: remark, sex"):
        data.load("two", directory=str(tmp_path), label="tone")
    with pytest.raises(UserError, match=r"unknown group attribute 'tone'; known: remark, sex"):
        data.load("two", directory=str(tmp_path), group="sex*tone")
    info = (tmp_path / "two" / BUILD_VERSION / "remark.labels.txt").read_text().split("\n")
    assert info[:3] == ["seen on day 0", "seen on day 1", "seen on day 2"], "numbers in texts are sorted by size"


@pytest.mark.parametrize("words", [("train", "validation", "test"), ("Training", "val", "TEST")])
def test_a_split_column_is_kept_and_copies_across_it_are_left_out(tmp_path, words) -> None:
    rows = make_folder(tmp_path / "photos", 60)
    for i, row in enumerate(rows):
        row["split"] = words[min(i // 20, 2)]
    copied = (tmp_path / "photos" / rows[50]["file"]).read_bytes()  # of the test split
    (tmp_path / "photos" / rows[0]["file"]).write_bytes(copied)  # of the training split
    (tmp_path / "photos" / rows[30]["file"]).write_bytes(copied)  # of the validation split
    report = data.prepare_folder("photos", tmp_path / "photos", write_table(tmp_path / "t.csv", rows), tmp_path)
    assert report.used == 58
    assert sorted(report.crossing) == ["000.png", "030.png"]
    assert report.listed == tmp_path / "photos" / BUILD_VERSION / "left_out.txt"
    assert report.listed.read_text().splitlines() == [
        f"even/{name}.png: a copy of even/050.png in the test split" for name in ("000", "030")
    ]
    loaded = data.load("photos", directory=str(tmp_path), label="sex", group="tone")
    assert [len(loaded.split(split).y) for split in data.SPLITS] == [19, 19, 20]


def test_another_column_may_hold_the_split(tmp_path) -> None:
    rows = make_folder(tmp_path / "photos", 40)
    for i, row in enumerate(rows):
        row["part"] = "test" if i < 10 else "train"
    table = write_table(tmp_path / "t.csv", rows)
    data.prepare_folder("photos", tmp_path / "photos", table, tmp_path, split_column="part")
    assert len(data.load("photos", directory=str(tmp_path), label="sex", group="sex").test.y) == 10


def test_the_label_of_a_set_must_be_something(tmp_path) -> None:
    rows = [{"file": row["file"], "dose": i} for i, row in enumerate(make_folder(tmp_path / "photos", 40))]
    data.prepare_folder("photos", tmp_path / "photos", write_table(tmp_path / "t.csv", rows), tmp_path)
    with pytest.raises(UserError, match=r"nothing to predict: dose has 40 distinct numbers; give the edges of bins"):
        data.load("photos", directory=str(tmp_path))
    with pytest.raises(UserError, match=r"data\.label: dose has 40 distinct numbers; give the edges of bins"):
        data.load("photos", directory=str(tmp_path), label="dose")


# ---------------------------------------------------------------- images


def test_grey_images_stay_grey_and_mixed_ones_become_coloured(tmp_path) -> None:
    rows = make_folder(tmp_path / "grey", 40)
    for i, row in enumerate(rows):
        row["split"] = "test" if i < 10 else "train"
        Image.fromarray(pixels(i, channels=1)[..., 0]).save(tmp_path / "grey" / row["file"])
    table = write_table(tmp_path / "t.csv", rows)
    assert data.prepare_folder("grey", tmp_path / "grey", table, tmp_path).converted == 0
    assert data.load("grey", directory=str(tmp_path), label="sex", group="sex").train.x.shape[1:] == (6, 6, 1)
    for i, row in enumerate(rows[:30]):
        image = Image.fromarray(pixels(i))
        kind = ("RGB", "RGBA", "P")[i % 3]
        (image.quantize(256) if kind == "P" else image.convert(kind)).save(tmp_path / "grey" / row["file"])
    assert data.prepare_folder("mixed", tmp_path / "grey", table, tmp_path).converted == 30  # 20, and the 10 still grey
    assert data.load("mixed", directory=str(tmp_path), label="sex", group="sex").train.x.shape[1:] == (6, 6, 3)


def test_images_are_stored_upright(tmp_path) -> None:
    plain = Image.fromarray(pixels(0))
    plain.save(tmp_path / "a.png")
    exif = Image.Exif()
    exif[274] = 6  # held on its side
    plain.save(tmp_path / "b.png", exif=exif)
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    looks = images.examine(paths, lambda: None)
    assert [look.plain for look in looks] == [True, False]
    assert images.stored(paths[0], looks[0], False) == paths[0].read_bytes()
    turned = np.asarray(Image.open(io.BytesIO(images.stored(paths[1], looks[1], False))))
    np.testing.assert_array_equal(turned, np.rot90(pixels(0), -1))


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "sixteen bits":
        Image.fromarray(np.arange(36, dtype=np.uint16).reshape(6, 6)).save(path)
    else:
        path.write_bytes({"empty": b"", "text": b"not an image", "cut": content[: len(content) // 2]}[how])


@pytest.mark.parametrize(
    ("how", "suffix"),
    [*itertools.product(("empty", "text", "cut"), ("png", "jpg", "bmp", "webp")), ("sixteen bits", "png")],
)
def test_a_damaged_image_is_named_with_the_remedy(tmp_path, how, suffix) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels(0, size=40)).save(path)
    damage(path, how)
    with pytest.raises(
        UserError, match=rf"a\.{suffix} cannot be read as an image \(.+\); replace or remove it$"
    ) as caught:
        images.examine([path], lambda: None)
    assert "\n" not in str(caught.value)


def test_several_damaged_images_are_counted(tmp_path) -> None:
    for name in "abcde":
        (tmp_path / f"{name}.png").write_bytes(b"")
    with pytest.raises(
        UserError, match=r"a\.png cannot be .* nor can 4 more \(b\.png, c\.png, \.\.\.\); replace or remove"
    ):
        images.examine(sorted(tmp_path.iterdir()), lambda: None)


def test_hidden_files_and_other_files_are_no_images(tmp_path) -> None:
    for name in ("b.PNG", "a.jpeg", "._a.jpeg", "notes.txt", "sub/c.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in images.find_images(tmp_path)] == ["a.jpeg", "b.PNG", "c.webp"]


# ---------------------------------------------------------------- tables


def attribute(cells: list, chosen: bool = True) -> tuple[list, tuple[str, ...]]:
    found = to_attribute(cells, chosen=chosen)
    assert isinstance(found, Attribute), found
    return found.values.tolist(), found.names


def csv_column(tmp_path: Path, *cells: str) -> list:
    (tmp_path / "t.csv").write_text("file,c\n" + "".join(f"{i},{cell}\n" for i, cell in enumerate(cells)))
    return read_columns(tmp_path / "t.csv", "--table")["c"]


def test_the_kinds_of_columns(tmp_path) -> None:
    assert attribute(csv_column(tmp_path, "3", "-1", "+2")) == ([3, -1, 2], ())
    assert attribute(csv_column(tmp_path, "3", "0.5", "1e3")) == ([3.0, 0.5, 1000.0], ())
    assert attribute(csv_column(tmp_path, "b", "a", "b")) == ([1, 0, 1], ("a", "b"))
    assert attribute(csv_column(tmp_path, "3-9", "10-19", "0-2", "more than 70")) == (
        [1, 2, 0, 3],
        ("0-2", "3-9", "10-19", "more than 70"),
    )
    assert attribute(csv_column(tmp_path, "01", "02")) == ([0, 1], ("01", "02")), "codes, not numbers"
    assert attribute(csv_column(tmp_path, "b", "", "None", " n/a ", "NaN", "?")) == ([0, *[1] * 5], ("b", "missing"))
    assert attribute(csv_column(tmp_path, " a  b ", "a b")) == ([0, 0], ("a b",))
    assert attribute([True, False]) == ([1, 0], ("False", "True"))


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (("1", "", "3"), "1 of 3 rows have no number in it"),
        (("1", "NA", "nan"), "2 of 3 rows have no number in it"),
        (("", ""), "it is empty"),
        (("1", str(2**63)), "its numbers are too large"),
        (("1.5", "1e39"), "its numbers are too large"),  # infinite, as it would be stored
    ],
)
def test_columns_that_are_not_fit_say_why(tmp_path, cells, reason) -> None:
    assert to_attribute(csv_column(tmp_path, *cells), chosen=True) == reason


def test_remarks_are_taken_only_where_they_are_asked_for() -> None:
    remarks = [f"remark {i}" for i in range(101)]
    assert to_attribute(remarks, chosen=False) == "101 categories"
    assert attribute(remarks)[0] == list(range(101))
    assert to_attribute([[1], [2]], chosen=True) == "its cells are of type list"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_csv_of_several_makes(tmp_path, delimiter, mark) -> None:
    """With another delimiter, the mark that some spreadsheets set first, and pandas' nameless column of numbers."""
    lines = [["", "file", "note"], ["0", "a.png", f"x{delimiter}y"], [], ["1", "b.png", "z"]]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(lines)
    (tmp_path / "t.csv").write_text(mark + text.getvalue(), encoding="utf-8")
    assert read_columns(tmp_path / "t.csv", "--table") == {"file": ["a.png", "b.png"], "note": [f"x{delimiter}y", "z"]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "is empty"),
        ("t.csv", b"file,sex\n", "holds no rows"),
        ("t.csv", b"file,sex\na.png,m\nb.png\n", "line 3 has 1 cells, the first line 2"),
        ("t.csv", b"file,sex,sex\na.png,m,m\n", "two columns named 'sex'"),
        ("t.csv", "file,sex\na.png,\u00e9\n".encode("latin-1"), "not text in UTF-8"),
        ("t.xlsx", b"", "neither CSV nor Parquet"),
        ("t.parquet", b"not parquet", "cannot be read as Parquet"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path, name, content, message) -> None:
    (tmp_path / name).write_bytes(content)
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    with pytest.raises(UserError, match=message) as caught:
        read_columns(tmp_path / name, f"--table {tmp_path / name}")
    assert "\n" not in str(caught.value)


def test_parquet_says_what_csv_says(folder, tmp_path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    columns = read_columns(folder / "t.csv", "--table")
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    assert read_columns(tmp_path / "t.parquet", "--table") == columns
    odd = {
        "kind": pyarrow.array(["a", "b", None]).dictionary_encode(),
        "yes": [True, False, True],
        "n": [1.5, None, 2.0],
    }
    parquet.write_table(pyarrow.table(odd | {"__index_level_0__": [0, 1, 2]}), tmp_path / "odd.parquet")
    read = read_columns(tmp_path / "odd.parquet", "--table")
    assert list(read) == ["kind", "yes", "n"]
    assert attribute(read["kind"]) == ([0, 1, 2], ("a", "b", "missing"))
    assert attribute(read["yes"]) == ([1, 0, 1], ("False", "True"))
    assert to_attribute(read["n"], chosen=True) == "1 of 3 rows have no number in it"


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"needs pyarrow; run: python -m pip install 'jaxprune\[parquet\]'"):
        read_columns(tmp_path / "t.parquet", "--table")


# ---------------------------------------------------------------- faults, from the command line


def spoil(rows: list[dict], photos: Path, how: str) -> list[dict]:
    """The rows of a table with one fault in them, or in the folder."""
    match how:
        case "row without image":
            return [*rows, rows[0] | {"file": "999.png"}]
        case "image without row":
            return rows[1:]
        case "two rows for an image":
            return [*rows, rows[0]]
        case "corrupt image":
            (photos / rows[5]["file"]).write_bytes(b"\x89PNG nothing more")
        case "one image":
            for row in rows:
                (photos / row["file"]).write_bytes((photos / rows[0]["file"]).read_bytes())
        case "strange split":
            return [row | {"split": "train" if i else "late"} for i, row in enumerate(rows)]
        case "no test split":
            return [row | {"split": "train"} for row in rows]
        case "reserved name":
            return [{"file": row["file"], "race*sex": "a"} for row in rows]
        case "no image column":
            return [{"photo": row["file"], "sex": row["sex"]} for row in rows]
        case "no labels":
            return [{"file": row["file"]} for row in rows]
        case "unnamed image":
            return [row | {"file": ""} if i == 4 else row for i, row in enumerate(rows)]
    return rows


@pytest.mark.parametrize(
    ("how", "flags", "message"),
    [
        ("row without image", [], "1 row without an image"),
        ("image without row", [], "1 image in"),
        ("two rows for an image", [], "1 image with several rows: even/000.png"),
        ("corrupt image", [], "005.png cannot be read as an image"),
        ("one image", [], "1 distinct images are too few to cut a test and a validation split from"),
        ("strange split", [], "column 'split' says 'late' in row 1; it may say train, validation or test"),
        ("no test split", [], "column 'split' says test in no row"),
        ("reserved name", [], "rename it"),
        ("no image column", [], "say with --image-column which of photo, sex names the images"),
        ("no labels", [], "has no column of labels or attributes"),
        ("unnamed image", [], "row 5 names no image in column 'file'"),
        ("", ["--columns", "sex,tine"], "unknown column 'tine'; did you mean 'tone'"),
        ("", ["--columns", "file"], "'file' names the images or their splits"),
        ("", ["--image-column", "fil"], "unknown column 'fil'; did you mean 'file'?"),
        ("", ["--split-column", "spilt"], "unknown column 'spilt'"),
    ],
)
def test_faults_are_one_line_with_exit_code_2_and_leave_nothing(tmp_path, capsys, how, flags, message) -> None:
    rows = spoil(make_folder(tmp_path / "photos", 12), tmp_path / "photos", how)
    table = write_table(tmp_path / "t.csv", rows)
    command = ["datasets", "prepare", "mine", "--directory", str(tmp_path / "photos"), "--table", str(table)]
    assert main([*command, *flags, "--data.directory", str(tmp_path / "sets")]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert len(printed.splitlines()) == 1
    assert not list((tmp_path / "sets").rglob("*.json"))


def test_a_folder_that_cannot_be_written_is_named(tmp_path, folder) -> None:
    (tmp_path / "sets").write_text("a file")
    with pytest.raises(UserError, match=r"photos cannot be built in .*sets \(.+\); give another --data\.directory"):
        data.prepare_folder("photos", folder / "photos", folder / "t.csv", tmp_path / "sets")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare", "mine"], "--directory is missing"),
        (["prepare", "mine", "--directory", "nowhere", "--table", "t.csv"], "nowhere is not a folder"),
        (["prepare", "mine", "--directory", ".", "--table", "t.csv"], "t.csv: this file does not exist"),
        (["prepare", "mine", "--directory", "."], "mine is not built from published files; utkface and fairface are"),
        (["prepare", "cifar10", "--directory", "."], "(TensorFlow, once"),
        (["prepare", "utkface", "--directory", ".", "--table", "t.csv"], "utkface is the name of a known data set"),
        (
            ["prepare", "My-Set", "--directory", ".", "--table", "t.csv"],
            "use small letters, digits and _, such as my_set",
        ),
        (["prepare", "utkface", "--directory", ".", "--columns", "a"], "--columns is about a table"),
        (["prepare", "fairface", "--directory", "."], "has no fairface_label_train.csv"),
        (["show", "digits", "--table", "t.csv"], "--table does nothing for `jaxprune datasets show`"),
        (["prepare", "--sheet", "a.png", "mine"], "--sheet does nothing for `jaxprune datasets prepare`"),
        (["--sheet", "a.png"], "--sheet does nothing for `jaxprune datasets`"),
        (["show", "digits", "more"], "one name is taken"),
        (
            ["prepare", "utkface", "--directory", ".", "--data.bins", "3"],
            "--data.bins does nothing for",
        ),
        (["--data.group", "race"], "--data.group does nothing for `jaxprune datasets`"),
        (["show", "--data.name", "digits"], "--data.name does nothing for `jaxprune datasets show`"),
    ],
)
def test_mistakes_with_data_sets(tmp_path, monkeypatch, capsys, arguments, message) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["datasets", *arguments, "--data.directory", "sets"]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert len(printed.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- interruption


class Interrupting:
    """Progress that ends in an interruption while the set is written."""

    def start(self, description: str, total: int) -> None:
        self.writing = "writing" in description
        self.left = total // 2

    def advance(self, note: str = "") -> None:
        self.left -= 1
        if self.writing and not self.left:
            raise KeyboardInterrupt

    def finish(self) -> None:
        pass

    def say(self, message: str) -> None:
        pass


def test_an_interrupted_build_leaves_nothing(folder, tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        data.prepare_folder("photos", folder / "photos", folder / "t.csv", tmp_path, progress=Interrupting())
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert data.prepared_sets(str(tmp_path)) == {}


def test_a_killed_build_leaves_nothing_that_is_taken_for_a_set(folder, tmp_path) -> None:
    code = f"""
import os, pathlib, signal
from jaxprune import config, data
class Killing:
    def start(self, description, total): self.left = total // 2 if "writing" in description else 10**9
    def advance(self, note=""):
        self.left -= 1
        if not self.left: os.kill(os.getpid(), signal.SIGKILL)
    def finish(self): pass
    def say(self, message): pass
top = pathlib.Path({str(folder)!r})
data.prepare_folder("photos", top / "photos", top / "t.csv", pathlib.Path({str(tmp_path)!r}), progress=Killing())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (tmp_path / "photos").exists(), "it had begun"
    assert find_prepared("photos", str(tmp_path)) is None
    assert data.prepared_sets(str(tmp_path)) == {}
    with pytest.raises(UserError, match="unknown data set 'photos'"):
        data.load("photos", directory=str(tmp_path))
    report = data.prepare_folder("photos", folder / "photos", folder / "t.csv", tmp_path)
    assert report.used == 160
    assert data.load("photos", directory=str(tmp_path)).num_classes > 1


# ---------------------------------------------------------------- FairFace


@pytest.fixture(scope="module")
def fairface(tmp_path_factory) -> Path:
    """The layout of FairFace: 126 training images, one of them a copy of one of the 63 validation images."""
    top = tmp_path_factory.mktemp("fairface")
    for part, count in (("train", 126), ("val", 63)):
        (top / part).mkdir()
        rows = []
        for i in range(count):
            Image.fromarray(pixels(i + 1000 * (part == "val"), 8)).save(top / part / f"{i + 1}.jpg", quality=95)
            rows.append(
                {
                    "file": f"{part}/{i + 1}.jpg",
                    "age": AGES[i % 9],
                    "gender": ("Male", "Female")[i // 9 % 2],
                    "race": RACES[i % 7],
                    "service_test": str(i % 3 == 0),
                }
            )
        write_table(top / f"fairface_label_{part}.csv", rows)
    (top / "train" / "126.jpg").write_bytes((top / "val" / "1.jpg").read_bytes())
    return top


def test_fairface(fairface, tmp_path, capsys) -> None:
    sets = ["--data.directory", str(tmp_path)]
    assert main(["datasets", "prepare", "fairface", "--directory", str(fairface), *sets]) == 0
    printed = capsys.readouterr().out
    assert "188 images" in printed
    assert "1 of the training part were left out: they are copies of images in another split: 126.jpg" in printed
    faces = data.load("fairface", directory=str(tmp_path), label="gender", group="race")
    assert faces.group_names == RACES
    assert faces.label_names == ("Male", "Female")
    assert len(faces.test.y) == 63
    np.testing.assert_array_equal(faces.group_sizes("test"), [9] * 7)
    assert len(faces.train.y) + len(faces.validation.y) == 125
    ages = data.load("fairface", directory=str(tmp_path), label="age", group="gender")
    assert ages.label_names == AGES
    np.testing.assert_array_equal(np.bincount(ages.test.y), [7] * 9)
    assert "CC BY 4.0" in faces.provenance


@pytest.mark.parametrize(
    ("file", "before", "after", "message"),
    [
        ("fairface_label_val.csv", "race", "rase", "unknown column 'race'; did you mean 'rase'"),
        ("fairface_label_val.csv", "East Asian", "Asian", "race 'Asian' is not one of White, Black"),
        ("fairface_label_train.csv", "train/1.jpg", "train/one.jpg", "1 row without an image"),
    ],
)
def test_faults_in_fairface(fairface, tmp_path, file, before, after, message) -> None:
    (tmp_path / "files").mkdir()
    for path in fairface.iterdir():
        (tmp_path / "files" / path.name).symlink_to(path) if path.is_dir() else None
    for part in ("train", "val"):  # links to folders are not followed
        (tmp_path / "files" / part).unlink()
        (tmp_path / "files" / part).mkdir()
        for path in (fairface / part).iterdir():
            (tmp_path / "files" / part / path.name).symlink_to(path)
        name = f"fairface_label_{part}.csv"
        text = (fairface / name).read_text()
        (tmp_path / "files" / name).write_text(text.replace(before, after, 1) if name == file else text)
    with pytest.raises(UserError, match=message):
        data.prepare_fairface(tmp_path / "files", tmp_path / "sets")
    assert not (tmp_path / "sets").exists()


# ---------------------------------------------------------------- the whole way


def test_from_the_command_line(folder, tmp_path, capsys) -> None:
    sets = ["--data.directory", str(tmp_path / "sets")]
    command = ["datasets", "prepare", "photos", "--directory", str(folder / "photos"), "--table", str(folder / "t.csv")]
    assert main([*command, "--columns", "tone, sex,age", *sets]) == 0
    printed = capsys.readouterr().out
    for part in ("160 images", "10 are copies", "11 occur with different labels"):
        assert part in printed
    assert main([*command, *sets]) == 2
    assert "is prepared already" in capsys.readouterr().err
    assert main(["datasets", *sets]) == 0
    assert any("photos" in line and "160" in line for line in capsys.readouterr().out.splitlines())
    wanted = {"data.name": "photos", "data.directory": sets[1], "data.group": "sex*age", "data.bins": (50.0,)}
    found = resolve(config.load(None, wanted | {"data.label": "tone", "data.image_size": 4, "model.hidden": (4,)}))
    assert found.dataset.group_names == ("f, <50", "f, 50+", "m, <50", "m, 50+")
    assert found.dataset.train.x.shape[1:] == (4, 4, 3)
    assert found.settings.data.label == "tone"


def test_the_usual_label_is_the_first_column_that_needs_no_bins(tmp_path) -> None:
    rows = make_folder(tmp_path / "photos", 60)
    for i, row in enumerate(rows):
        row["split"] = ("test", "train", "validation")[i % 3]
    table = write_table(tmp_path / "t.csv", rows)
    data.prepare_folder("photos", tmp_path / "photos", table, tmp_path, columns=("dose", "tone", "sex"))
    loaded = data.load("photos", directory=str(tmp_path))
    assert (loaded.label_by, loaded.group_by) == ("tone", "tone")
    for setting in ("label", "group"):
        with pytest.raises(UserError, match=rf"data\.{setting}: dose has 40 distinct numbers; give the edges of bins"):
            data.load("photos", directory=str(tmp_path), **{setting: "dose"})
        with pytest.raises(UserError, match=r"did you mean 'dose'.*\? known: dose, sex, tone"):
            data.load("photos", directory=str(tmp_path), **{setting: "doze"})
