"""Data sets built from files and read back, without TensorFlow and without the network; the images are made here."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from locations import SHARED_DATA
from PIL import Image

from jaxprune import data
from jaxprune.cli import main
from jaxprune.data.prepare.build import BUILD_VERSION
from jaxprune.data.sources import tfds as prepared_sets
from jaxprune.data.sources.tfds import find_prepared
from jaxprune.errors import UserError

SHARED = SHARED_DATA / "utkface64.npz"


def picture(path: Path, seed: int, size: int = 8) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    Image.fromarray(pixels).save(path, quality=95)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """200 images, one of them copied 20 times, one that occurs with two labels, two with malformed names."""
    folder = tmp_path_factory.mktemp("files")
    for i in range(200):
        picture(folder / f"{i % 90}_{i % 2}_{i % 5}_2017{i:06}.jpg.chip.jpg", i)
    copied = (folder / "7_1_2_2017000007.jpg.chip.jpg").read_bytes()
    for i in range(20):
        (folder / f"7_1_2_2018{i:06}.jpg.chip.jpg").write_bytes(copied)
    (folder / "9_0_1_2018999999.jpg.chip.jpg").write_bytes((folder / "8_0_3_2017000008.jpg.chip.jpg").read_bytes())
    picture(folder / "39_1_20170116174525125.jpg.chip.jpg", 1000)
    picture(folder / "holiday.jpg", 1001)
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture(scope="module")
def prepared(files, tmp_path_factory) -> tuple[Path, data.FolderReport]:
    destination = tmp_path_factory.mktemp("sets")
    return destination, data.prepare_utkface(files, destination)


def test_the_report_tells_what_was_found(prepared) -> None:
    _, report = prepared
    assert report.used == 221
    assert sorted(report.malformed) == ["39_1_20170116174525125.jpg.chip.jpg", "holiday.jpg"]
    assert report.repeats == 21
    assert sorted(report.contradictory) == ["8_0_3_2017000008.jpg.chip.jpg", "9_0_1_2018999999.jpg.chip.jpg"]


def test_all_files_that_were_left_out_are_listed_with_the_reason(prepared, files, tmp_path, capsys) -> None:
    directory, report = prepared
    assert report.listed == directory / "utkface" / BUILD_VERSION / "left_out.txt"
    names = {line.partition(": ")[0]: line.partition(": ")[2] for line in report.listed.read_text().splitlines()}
    assert set(names) == {"39_1_20170116174525125.jpg.chip.jpg", "holiday.jpg"}
    assert set(names.values()) == {"its name is not age_gender_race_date"}
    more = tmp_path / "more"
    for path in [*files.glob("*.jpg"), *(files / f"strange {i}.jpg" for i in range(7))]:
        (more / "part").mkdir(parents=True, exist_ok=True)
        (more / "part" / path.name).write_bytes((path if path.exists() else files / "holiday.jpg").read_bytes())
    sets = ["--data.directory", str(tmp_path / "sets")]
    assert main(["datasets", "prepare", "utkface", "--directory", str(more), *sets]) == 0
    listed = tmp_path / "sets" / "utkface" / BUILD_VERSION / "left_out.txt"
    printed = capsys.readouterr().out
    assert "9 have names without labels and were left out" in printed
    assert f"all that were left out are listed in {listed}" in printed
    lines = listed.read_text().splitlines()
    assert len(lines) == 9
    assert "part/strange 6.jpg: its name is not age_gender_race_date" in lines
    assert not list((tmp_path / "sets").rglob(".left_out*")), "nothing is left aside"


def test_labels_and_pixels_are_those_of_the_files(prepared, files) -> None:
    directory, _ = prepared
    people = data.load("utkface", directory=str(directory), label="gender", group="race")
    assert people.group_names == ("White", "Black", "Asian", "Indian", "Others")
    assert people.label_names == ("Male", "Female")
    total = sum(people.group_sizes(split) for split in data.SPLITS)
    races = [int(path.name.split("_")[2]) for path in files.glob("*_*_*_201[78]??????.jpg.chip.jpg")]
    np.testing.assert_array_equal(total, np.bincount(races))
    # Pixels, up to the one shift and scale of the normalisation, equal those that Pillow decodes.
    raw = np.concatenate([people.split(split).x for split in data.SPLITS])
    decoded = np.stack([np.asarray(Image.open(p)) for p in sorted(files.glob("*_*_*_201[78]??????.jpg.chip.jpg"))])
    for channel in range(3):
        mine, theirs = np.sort(raw[..., channel].ravel()), np.sort(decoded[..., channel].ravel())
        assert np.corrcoef(mine, theirs)[0, 1] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize(("group", "most"), [("race", 2), ("gender", 3), ("age", 3)])
def test_splits_are_even_over_races_ages_and_genders(prepared, split, group, most) -> None:
    """Up to rounding, and to one image with 20 copies, which stay together and count as one."""
    faces = data.load("utkface", directory=str(prepared[0]), group=group, label="race", min_group_size=0)
    counts = {}
    for side in data.SPLITS:
        x, _, groups, _ = faces.split(side)
        _, first = np.unique(x.reshape(len(x), -1), axis=0, return_index=True)
        counts[side] = np.bincount(groups[first], minlength=faces.num_groups)
    whole = sum(counts.values())
    share = {"validation": 0.2 * 0.8, "test": 0.2}[split]
    assert (np.abs(counts[split] - share * whole) <= most).all(), (counts, whole)


def test_a_few_files_have_each_race_in_every_split(tmp_path) -> None:
    """Drawn by digest alone, 60 files left 1 to 4 of a race to the test split."""
    (tmp_path / "files").mkdir()
    for i in range(60):
        picture(tmp_path / "files" / f"{20 + i}_{i // 5 % 2}_{i % 5}_2017{i:06}.jpg", i)
    data.prepare_utkface(tmp_path / "files", tmp_path / "sets")
    people = data.load("utkface", directory=str(tmp_path / "sets"), group="race", label="gender")
    np.testing.assert_array_equal(people.group_sizes("test"), [2] * 5)


def test_a_set_of_an_older_version_is_not_mixed_with_this_one(prepared, files, tmp_path) -> None:
    directory, _ = prepared
    shutil.copytree(directory, tmp_path / "sets")
    (tmp_path / "sets" / "utkface" / BUILD_VERSION).rename(tmp_path / "sets" / "utkface" / "1.0.0")
    with pytest.raises(UserError, match=rf"with other splits than version {BUILD_VERSION} has, in .*1\.0\.0"):
        data.prepare_utkface(files, tmp_path / "sets")


def test_copies_are_never_on_two_sides(prepared) -> None:
    directory, _ = prepared
    people = data.load("utkface", directory=str(directory), group="race")
    seen = [{image.tobytes() for image in people.split(split).x} for split in data.SPLITS]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]
    copies = max(np.unique(people.split(s).x.reshape(len(people.split(s).y), -1), axis=0, return_counts=True)[1].max()
                 for s in data.SPLITS)  # fmt: skip
    assert copies == 21, "all copies are there, together"


def test_the_order_in_which_features_are_read_moves_nothing(prepared, monkeypatch) -> None:
    """tensorflow-datasets reads them from a map whose order differs from process to process."""
    read, orders = prepared_sets._flatten, []

    def shuffled(seed):
        def flatten(features):
            found = list(read(features))
            order = np.random.default_rng(seed).permutation(len(found))
            orders.append(tuple(found[i][0] for i in order))
            return iter([found[i] for i in order])

        return flatten

    found = []
    for seed in range(6):
        monkeypatch.setattr(prepared_sets, "_flatten", shuffled(seed))
        table = prepared_sets.read_prepared(find_prepared("utkface", str(prepared[0])))
        strata = tuple(tuple(codes.tolist()) for codes in table.stratify)
        loaded = data.load("utkface", directory=str(prepared[0]), label="gender", group="race")
        found.append((loaded.fingerprint(), tuple(table.attributes), strata))
    assert len(set(orders)) > 2
    assert len(set(found)) == 1


def test_ages_are_binned_as_in_the_paper_or_as_asked(prepared) -> None:
    directory, _ = prepared
    nine = data.load("utkface", directory=str(directory), group="age", label="race")
    assert nine.group_names == ("<10", "10-20", "20-30", "30-40", "40-50", "50-60", "60-70", "70-80", "80+")
    two = data.load("utkface", directory=str(directory), group="age*gender", label="race", bins=(40.0,))
    assert two.group_names == ("<40, Male", "<40, Female", "40+, Male", "40+, Female")
    young = sum(two.group_sizes(split)[:2].sum() for split in data.SPLITS)
    assert young == sum(nine.group_sizes(split)[:4].sum() for split in data.SPLITS)


@pytest.mark.parametrize("bins", [(40.0, 20.0), (20.0, 40.0, 30.0), (20.0, 20.0)])
def test_bins_that_do_not_rise_are_refused(prepared, bins) -> None:
    """Falling ones would give every group the other's name."""
    with pytest.raises(UserError, match=r"data\.bins: .* do not rise"):
        data.load("utkface", directory=str(prepared[0]), group="age", label="race", bins=bins)


def test_the_newest_version_is_that_of_the_largest_number(tmp_path) -> None:
    for version in ("9.0.0", "10.0.0", "10.0.0.incompleteABC"):
        (tmp_path / "people" / version).mkdir(parents=True)
        (tmp_path / "people" / version / "dataset_info.json").touch()
    (tmp_path / "people" / "10.0.0.incompleteABC").rename(tmp_path / "people" / "incomplete.11.0.0")
    assert find_prepared("people", str(tmp_path)) == tmp_path / "people" / "10.0.0"


def test_sets_are_looked_for_as_versions_and_configurations_alone(tmp_path) -> None:
    for place in ("people/1.0.0", "people/small/2.0.0", "other/small/1.0.0"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "dataset_info.json").touch()
    decoys = ("people/downloads/9.0.0", "people/small/deeper/9.0.0", "people/latest", "people/incomplete.9.0.0_2AB",
              "downloads/9.0.0", "downloads/extracted/ZIP.people/9.0.0", "downloads/people/9.0.0")  # fmt: skip
    for place in decoys:
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "dataset_info.json").touch()
        (tmp_path / place / "x-train.array_record-00000-of-00001").touch()
    walked = []
    reading = True

    def watch(event: str, arguments: tuple) -> None:
        if reading and event in ("os.scandir", "os.listdir"):
            walked.append(Path(arguments[0]))

    sys.addaudithook(watch)
    try:
        assert find_prepared("people", str(tmp_path)) == tmp_path / "people/small/2.0.0"
        assert find_prepared("other", str(tmp_path)) == tmp_path / "other/small/1.0.0"
        for name in ("downloads", "absent", ""):
            assert find_prepared(name, str(tmp_path)) is None
        listed = {name: entry.how for name, entry in data.prepared_sets(str(tmp_path)).items()}
        assert listed == dict.fromkeys(("people", "other"), "damaged: prepare it anew"), "their descriptions are empty"
    finally:
        reading = False
    assert tmp_path / "people" in walked, "it was watched"
    assert not [path for path in walked if "downloads" in path.parts or path.name == "deeper"]


def test_images_are_resized(prepared) -> None:
    directory, _ = prepared
    assert data.load("utkface", directory=str(directory), image_size=4).train.x.shape[1:] == (4, 4, 3)


def test_images_of_several_sizes_need_a_size(tmp_path) -> None:
    (tmp_path / "files").mkdir()
    for i in range(40):
        picture(tmp_path / "files" / f"{i}_{i % 2}_{i % 5}_2017{i:06}.jpg", i, size=8 if i % 2 else 6)
    data.prepare_utkface(tmp_path / "files", tmp_path / "sets")
    with pytest.raises(UserError, match=r"data\.image_size: the images of .* differ in size"):
        data.load("utkface", directory=str(tmp_path / "sets"))


def test_a_corrupt_image_is_named_and_no_partial_set_is_left(tmp_path, files) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for path in sorted(files.glob("*_2017*.jpg.chip.jpg"))[:30]:
        (folder / path.name).write_bytes(path.read_bytes())
    victim = folder / "1_0_1_2019000000.jpg.chip.jpg"
    victim.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="1_0_1_2019000000.jpg.chip.jpg cannot be read as an image".replace(".", r"\.")):
        data.prepare_utkface(folder, tmp_path / "sets")
    assert find_prepared("utkface", str(tmp_path / "sets")) is None
    victim.unlink()
    data.prepare_utkface(folder, tmp_path / "sets")
    assert find_prepared("utkface", str(tmp_path / "sets")) is not None


def test_empty_and_missing_folders_are_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        data.prepare_utkface(tmp_path / "nowhere", tmp_path / "sets")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no image named"):
        data.prepare_utkface(tmp_path / "empty", tmp_path / "sets")


@pytest.mark.parametrize("name", ["utkface", "cifar10"])
def test_a_set_that_is_not_prepared_says_how(tmp_path, name) -> None:
    with pytest.raises(UserError) as caught:
        data.load(name, directory=str(tmp_path))
    assert "is not prepared in" in str(caught.value)
    assert ("jaxprune datasets prepare utkface" if name == "utkface" else "download_and_prepare()") in str(caught.value)


def test_a_set_in_another_format_says_so(tmp_path) -> None:
    folder = tmp_path / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text(json.dumps({"name": "mnist"}))
    (folder / "mnist-train.tfrecord-00000-of-00001").write_bytes(b"")
    with pytest.raises(UserError, match="not stored as array_record"):
        data.load("mnist", directory=str(tmp_path))


def test_an_unknown_feature_path_lists_those_that_there_are(prepared) -> None:
    with pytest.raises(UserError, match="unknown group attribute 'rase'; did you mean 'race'"):
        data.load("utkface", directory=str(prepared[0]), group="rase")


def test_from_the_command_line(files, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)  # where the sheet goes
    sets = ["--data.directory", str(tmp_path / "sets")]
    assert main(["datasets", "prepare", "utkface", "--directory", str(files), *sets]) == 0
    printed = capsys.readouterr().out
    for part in ("221 images", "21 are copies", "2 occur with different labels", "2 have names without labels"):
        assert part in printed
    assert main(["datasets", "prepare", "utkface", "--directory", str(files), *sets]) == 2
    assert "is prepared already" in capsys.readouterr().err
    assert main(["datasets", "show", "utkface", *sets, "--data.group", "gender", "--sheet", "utkface.png"]) == 0
    assert "Female" in capsys.readouterr().out
    assert (tmp_path / "utkface.png").is_file()
    run = ["run", "--data.name", "utkface", *sets, "--model.hidden", "4", "--seeds", "1", "--train.epochs", "1"]
    run += ["--prune.sparsities", "0.5", "--retrain.epochs", "0", "--out", str(tmp_path / "out"), "--quiet"]
    assert main(run) == 0
    assert (tmp_path / "out" / "report.html").is_file()


def test_tensorflow_is_not_needed(prepared) -> None:
    assert "tensorflow" not in sys.modules


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="needs the faces, which are not redistributed")
def test_the_published_counts(tmp_path) -> None:
    archive = np.load(SHARED)
    jpeg, offsets, names = archive["jpeg"], archive["offsets"], archive["file_name"]
    (tmp_path / "files").mkdir()
    for i, name in enumerate(names):
        (tmp_path / "files" / name.decode()).write_bytes(jpeg[offsets[i] : offsets[i + 1]].tobytes())
    report = data.prepare_utkface(tmp_path / "files", tmp_path / "sets")
    assert (report.used, report.repeats, len(report.contradictory), report.malformed) == (23_704, 390, 531, [])
    whole = np.array([10_078, 4_525, 3_434, 3_975, 1_692])
    for group, counts in {
        "race": [10_078, 4_525, 3_434, 3_975, 1_692],
        "gender": [12_390, 11_314],
        "age": [3_061, 1_531, 7_344, 4_536, 2_245, 2_299, 1_316, 699, 673],
    }.items():
        people = data.load("utkface", directory=str(tmp_path / "sets"), group=group, label="race", image_size=8)
        np.testing.assert_array_equal(sum(people.group_sizes(split) for split in data.SPLITS), counts)
        total, test = np.array(counts), people.group_sizes("test")
        np.testing.assert_allclose(test / test.sum(), total / total.sum(), atol=0.004, err_msg=group)
    people = data.load("utkface", directory=str(tmp_path / "sets"), group="race", label="age", image_size=8)
    for split in data.SPLITS:
        sizes = people.group_sizes(split)
        np.testing.assert_allclose(sizes / sizes.sum(), whole / whole.sum(), atol=0.002, err_msg=split)
