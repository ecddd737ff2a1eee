"""`jaxprune datasets`: the list of sets, their counts, and the sheet of examples."""

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxprune import data
from jaxprune.cli import main
from jaxprune.data import sources
from jaxprune.data.sources.catalogue import FROM_TENSORFLOW, PLACEHOLDERS
from jaxprune.errors import UserError
from jaxprune.reporting import contact_sheet
from jaxprune.reporting.count_tables import cell_counts, count_examples


def people(groups: int, labels: int, *, same: bool = False, x: np.ndarray | None = None, each: int = 2) -> data.Dataset:
    """A data set with `each` examples of every cell in train, and one in the other splits, unless x says otherwise."""

    def split(times: int):
        cells = np.repeat(np.arange(groups * labels), times)
        group, y = cells // labels, cells % labels
        inputs = np.zeros((len(cells), 3), np.float32) if x is None else x[group, y]
        return inputs, group if same else y, group

    group_names = tuple(f"g{g}" for g in range(groups))
    label_names = group_names if same else tuple(f"c{c}" for c in range(labels))
    return data.from_arrays(
        split(each), split(1), split(1), name="made", label_names=label_names, group_names=group_names,
        label_by="place" if same else "kind", group_by="place",
    )  # fmt: skip


# ---------------------------------------------------------------- the list


def test_every_set_is_listed_with_licence_size_groups_and_how_to_get_it(tmp_path, capsys) -> None:
    assert main(["datasets", "--data.directory", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "jaxprune datasets prepare NAME --npz FILE.npz" in lines
    rows = {line.split()[0]: line for line in lines if line.strip()}
    for name in ("cifar10", "cifar100", "svhn_cropped", "mnist", "fashion_mnist", "celeb_a", "utkface", "fairface",
                 "adult", "digits", "synthetic", "FILE.csv", "FILE.npz", "folder"):  # fmt: skip
        entry = data.CATALOGUE[name]
        for part in (entry.licence, entry.groups, entry.how, f"{entry.examples:,}" if entry.examples else "-"):
            assert part in rows[name], name
    assert set(data.SOURCES) <= set(data.CATALOGUE)
    table = lines[: lines.index("")]
    assert max(map(len, lines[:-1])) <= 100, "but for the folder, which is as long as it is"
    assert len(table) == len(data.CATALOGUE) + 1, "one line for each"
    assert "prepared" not in "".join(table)


def test_the_known_sizes_are_those_of_the_sets() -> None:
    for name in ("adult", "digits", "synthetic"):
        loaded = data.load(name)
        assert sum(len(loaded.split(split).y) for split in data.SPLITS) == data.CATALOGUE[name].examples
    folder = Path(data.__file__).parent / "bundled"
    for name in ("adult", "digits"):
        assert (folder / f"{name}.npz").stat().st_size / 1e6 == pytest.approx(data.CATALOGUE[name].megabytes, rel=0.1)


def test_the_known_downloads_are_those_that_tensorflow_datasets_states() -> None:
    tfds = pytest.importorskip("tensorflow_datasets")
    top = Path(tfds.__file__).parent
    for name in ("cifar10", "cifar100", "svhn_cropped", "mnist", "fashion_mnist", "celeb_a"):
        tables = [top / "url_checksums" / f"{name}.txt", top / "datasets" / name / "checksums.tsv"]
        lines = [line for table in tables if table.is_file() for line in table.read_text().splitlines()]
        assert lines, name
        total = sum(int(line.split("\t")[1]) for line in lines) / 1e6
        assert data.CATALOGUE[name].megabytes == pytest.approx(total, rel=0.05), name


def test_a_set_that_is_damaged_is_listed_as_such(tmp_path, capsys) -> None:
    folder = tmp_path / "mine" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{")
    (folder / "mine-train.array_record-00000-of-00001").write_bytes(b"")
    assert data.prepared_sets(str(tmp_path))["mine"].how == "damaged: prepare it anew"
    assert main(["datasets", "--data.directory", str(tmp_path)]) == 0
    assert "damaged" in capsys.readouterr().out


def test_attributes_of_a_prepared_set_are_named_by_their_paths() -> None:
    label, number = {"classLabel": {"numClasses": "2"}}, {"pythonClassName": "tensorflow_datasets.x.Scalar"}
    features = {
        "attributes": {"featuresDict": {"features": {"Male": label, "Young": label}}},
        "image": {"pythonClassName": "x.Image"},
        "age": number,
        "copy_of": number,
    }
    assert sources._feature_paths(features) == ["attributes/Male", "attributes/Young", "age"]
    assert sources.fit_list(["a" * 20, "b" * 20]) == "a" * 20 + ", ..."
    assert sources.fit_list(["a", "b"]) == "a, b"


@pytest.mark.parametrize("name", [name for name, entry in data.CATALOGUE.items() if "NAME" in entry.command])
def test_a_known_set_that_is_not_prepared_says_how(tmp_path, name) -> None:
    with pytest.raises(UserError) as caught:
        data.load(name, directory=str(tmp_path))
    message = str(caught.value)
    if name in PLACEHOLDERS:
        assert "unknown data set" in message
        return
    assert f"{name} is not prepared in {tmp_path}" in message
    if data.CATALOGUE[name].command == FROM_TENSORFLOW:
        assert f"t.builder('{name}', file_format='array_record').download_and_prepare()" in message
        assert "where TensorFlow is installed" in message
    else:
        assert f"jaxprune datasets prepare {name} --directory FOLDER" in message
        assert "TensorFlow" not in message
    assert "or copy a prepared folder there" in message


@pytest.mark.parametrize("name", ["kmnist", "imagenet2012", "emnist/letters"])
def test_a_set_of_tensorflow_datasets_that_is_not_known_can_be_prepared(tmp_path, name, capsys) -> None:
    assert main(["run", "--data.name", name, "--data.directory", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert f"unknown data set '{name}'; " in message
    assert f"none of that name is prepared in {tmp_path}" in message
    assert f"t.builder('{name}', file_format='array_record').download_and_prepare()" in message
    if name == "kmnist":
        assert "did you mean 'mnist'" in message


@pytest.mark.parametrize("name", ["people.xls", "my faces", ""])
def test_what_is_no_name_of_a_set_is_not_to_be_prepared(tmp_path, name) -> None:
    with pytest.raises(UserError, match="unknown data set") as caught:
        data.load(name, directory=str(tmp_path))
    assert "tensorflow" not in str(caught.value)
    assert f"none of that name is prepared in {tmp_path}" in str(caught.value)


def test_feature_paths_are_listed_where_one_is_unknown() -> None:
    for setting in ("label", "group"):
        with pytest.raises(UserError, match=rf"data\.{setting}: unknown .* 'rase'; did you mean 'race'") as caught:
            data.load("adult", **{setting: "rase"})
        for path in ("race", "sex"):
            assert path in str(caught.value).partition("known: ")[2]


def test_a_group_too_small_to_be_split_is_named(tmp_path) -> None:
    town = np.zeros(100, int)
    town[0] = 1
    np.savez(tmp_path / "t.npz", x=np.zeros((100, 2)), y=np.arange(100) % 2, town=town, town_names=["big", "hamlet"])
    with pytest.raises(UserError, match=r"data\.group: 'town' leaves group 'hamlet' without examples in the \w+ split"):
        data.load(str(tmp_path / "t.npz"))


# ---------------------------------------------------------------- counts


def test_cells_are_counted_as_one_would_by_hand() -> None:
    rng = np.random.default_rng(0)
    arrays = [(np.zeros((n, 2)), rng.integers(0, 3, n), rng.integers(0, 4, n)) for n in (90, 40, 50)]
    loaded = data.from_arrays(*arrays, label_names="abc", group_names="wxyz")
    for split, (_, y, group) in zip(data.SPLITS, arrays, strict=True):
        expected = [[int(np.sum((y == c) & (group == g))) for c in range(3)] for g in range(4)]
        np.testing.assert_array_equal(cell_counts(loaded, split), expected)


def test_the_table_of_cells_adds_up() -> None:
    (table,) = count_examples(people(3, 2))
    assert list(table.headings) == ["", "c0", "c1", "all"]
    assert table.blocks[0] == [
        ("train", "6", "6", "12"),
        *(("  " + name, "2", "2", "4") for name in ("g0", "g1", "g2")),
    ]
    assert [block[0][0] for block in table.blocks] == list(data.SPLITS)


def test_the_longer_side_goes_down() -> None:
    (wide,) = count_examples(people(3, 30))
    assert list(wide.headings) == ["", "g0", "g1", "g2", "all"]
    assert len(wide.blocks[0]) == 31
    both = count_examples(people(11, 12))
    assert [list(table.headings) for table in both] == [["", "train", "validation", "test", "all"]] * 2
    assert both[0].blocks[0][0] == ("g0", "24", "12", "12", "48")
    assert both[1].blocks[0][0] == ("c0", "22", "11", "11", "44")
    assert both[1].blocks[1] == [("all", "264", "132", "132", "528")]
    (same,) = count_examples(people(5, 1, same=True))
    assert same.blocks[0][4] == ("g4", "2", "1", "1", "4")


# ---------------------------------------------------------------- the sheet


def page(dataset: data.Dataset) -> np.ndarray:
    image = Image.open(io.BytesIO(contact_sheet.draw_contact_sheet(dataset)))
    assert image.info["Software"] == "jaxprune contact sheet"
    return np.asarray(image)


def corner(pixels: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int] | None:
    """The first row and column of a colour."""
    rows, columns = np.nonzero((pixels == colour).all(-1))
    return (int(rows.min()), int(columns.min())) if len(rows) else None


def flat(groups: int, labels: int, size: int = 8) -> np.ndarray:
    """[groups, labels, size, size, 3] images of one colour each, which tells group and label."""
    colours = [[(130 + 10 * g, 130 + 10 * c, 255) for c in range(labels)] for g in range(groups)]
    return np.broadcast_to(np.array(colours, np.uint8)[:, :, None, None], (groups, labels, size, size, 3))


def test_rows_are_groups_and_blocks_are_labels() -> None:
    pixels = page(people(4, 3, x=flat(4, 3)))
    found = {
        (g, c): corner(pixels, (130 + 10 * g, 130 + 10 * c, 255)) for g, c in itertools.product(range(4), range(3))
    }
    for g in range(4):
        assert len({found[g, c][0] for c in range(3)}) == 1
    for c in range(3):
        assert len({found[g, c][1] for g in range(4)}) == 1
    assert found[0, 0][0] < found[1, 0][0] < found[2, 0][0] < found[3, 0][0]
    assert found[0, 0][1] < found[0, 1][1] < found[0, 2][1]
    # Four examples (2 of train, 1 of each other split), each enlarged ninefold to 72 pixels a side.
    assert ((pixels == (140, 150, 255)).all(-1)).sum() == 4 * 72 * 72


def test_few_examples_are_spread_over_the_set_and_always_the_same() -> None:
    members = np.arange(0, 1000, 7)
    assert contact_sheet._spread(members, 3).tolist() == [0, 497, 994]
    assert contact_sheet._spread(members[:2], 5).tolist() == [0, 7]
    assert contact_sheet._spread(members[:0], 5).tolist() == []
    one = data.load("digits")
    assert contact_sheet.draw_contact_sheet(one) == contact_sheet.draw_contact_sheet(data.load("digits"))


@pytest.mark.parametrize(("size", "shown"), [(8, 72), (28, 56), (64, 64), (96, 96), (200, 96)])
def test_small_images_are_enlarged_by_a_whole_factor_and_large_ones_reduced(size, shown) -> None:
    pixels = page(people(1, 2, x=flat(1, 2, size), each=1))
    assert ((pixels == (130, 140, 255)).all(-1)).sum() == 3 * shown * shown


def test_a_cell_without_examples_is_left_empty() -> None:
    x = flat(2, 2)
    loaded = people(2, 2, x=x)
    parts = [[a[loaded.split(s).y + loaded.split(s).group != 2] for a in loaded.split(s)[:3]] for s in data.SPLITS]
    names = {"label_names": ("c0", "c1"), "group_names": ("g0", "g1")}
    pixels = page(data.from_arrays(*parts, **names))
    assert corner(pixels, (140, 140, 255)) is None
    assert None not in [corner(pixels, colour) for colour in ((130, 130, 255), (130, 140, 255), (140, 130, 255))]


def test_many_labels_stand_below_their_images() -> None:
    mixed = contact_sheet._plan(people(2, 13))
    assert (mixed.headings, mixed.captions, len(mixed.cells[0])) == ((), True, 1)
    same = contact_sheet._plan(people(13, 1, same=True))
    assert (same.headings, same.captions) == ((), False)
    assert page(people(2, 13, x=np.zeros((2, 13, 8, 8, 1), np.uint8))).shape[1] > 12 * 72
    many = people(80, 1, same=True, x=np.zeros((80, 1, 4, 4, 1), np.float32))
    assert len(contact_sheet._plan(many).cells) == 60
    assert page(many).shape[0] < 60 * 100 + 200


def test_other_numbers_than_bytes_are_stretched() -> None:
    dark = np.array([0, 4, 16], np.uint8).reshape(3, 1, 1, 1)
    assert contact_sheet._as_bytes(dark)[:, 0, 0].tolist() == [[0] * 3, [64] * 3, [255] * 3]
    signed = np.array([[-1.0, 0.0], [0.0, 5.0], [1.0, 10.0]], np.float32).reshape(3, 1, 1, 2)
    assert contact_sheet._as_bytes(signed)[:, 0, 0].tolist() == [[0] * 3, [128] * 3, [255] * 3], (
        "two channels: the first"
    )
    colours = np.array([[-1.0, 0.0, 7.0], [1.0, 5.0, 7.0]], np.float32).reshape(2, 1, 1, 3)
    assert contact_sheet._as_bytes(colours)[:, 0, 0].tolist() == [[0, 0, 0], [255, 255, 0]]
    bright = np.full((1, 2, 2, 4), 200, np.uint8)
    np.testing.assert_array_equal(contact_sheet._as_bytes(bright), bright[..., :3])


def test_the_sheet_from_the_command_line(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (["datasets", "show", "digits"], ["datasets", "digits"]):
        assert main(arguments) == 0
        assert "--sheet FILE.png draws a sheet of example images" in capsys.readouterr().out
        assert list(tmp_path.iterdir()) == [], "pictures of people only where they are asked for"
    assert main(["datasets", "show", "--sheet", "other.png", "digits"]) == 0
    assert "examples of every group: other.png" in capsys.readouterr().out
    with Image.open("other.png") as image:
        assert image.width > 800
        assert image.height > 800
    assert [path.name for path in tmp_path.iterdir()] == ["other.png"]
    for arguments, message in (
        (["digits", "--sheet", "a.jpg"], "the sheet is a PNG"),
        (["digits", "--sheet", "no/a.png"], "folder no does not exist"),
        (["adult", "--sheet", "a.png"], "adult is rows of numbers, without images"),
    ):
        assert main(["datasets", "show", *arguments]) == 2
        printed = capsys.readouterr().err
        assert message in printed
        assert len(printed.splitlines()) == 1
    Image.new("RGB", (4, 4)).save("digits.png")
    assert main(["datasets", "show", "digits", "--sheet", "digits.png"]) == 0, "asked for by name"
    assert Path("other.png").read_bytes() == Path("digits.png").read_bytes()


def test_tables_have_no_sheet(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["datasets", "show", "adult"]) == 0
    printed = capsys.readouterr().out
    assert "sheet" not in printed
    assert "26,049" in printed
    assert list(tmp_path.iterdir()) == []


def test_the_sheet_of_an_npz_file_of_images(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 9, 9, 3), np.uint8)
    np.savez("mine.npz", x=images, y=np.arange(60) % 2, town=np.arange(60) % 3)
    assert main(["datasets", "show", "mine.npz", "--sheet", "mine.png"]) == 0
    assert "mine.png" in capsys.readouterr().out
    assert Path("mine.png").is_file()
