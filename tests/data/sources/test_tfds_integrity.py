"""Prepared sets that are half copied or damaged: one line that names the file and says how to get it again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxprune import data
from jaxprune.cli import main
from jaxprune.data.prepare.build import BUILD_VERSION
from jaxprune.data.sources.tfds_records import Records
from jaxprune.errors import UserError

TRAIN = "mine-train.array_record-00000-of-00001"
TEST = "mine-test.array_record-00000-of-00001"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A folder of prepared sets with one of 60 images, `mine`."""
    top = tmp_path_factory.mktemp("integrity")
    (top / "photos").mkdir()
    lines = ["file,tone"]
    for i in range(60):
        pixels = np.random.default_rng(i).integers(0, 256, (6, 6, 3), np.uint8)
        Image.fromarray(pixels).save(top / "photos" / f"{i:02}.png")
        lines.append(f"{i:02}.png,{'ab'[i % 2]}")
    (top / "t.csv").write_text("\n".join(lines) + "\n")
    data.prepare_folder("mine", top / "photos", top / "t.csv", top / "sets")
    return top / "sets"


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    """A copy of the set, to be damaged: the folder of its version."""
    shutil.copytree(whole, tmp_path / "sets")
    return tmp_path / "sets" / "mine" / BUILD_VERSION


def to(content: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(content(file.read_bytes()))


def altered(content: bytes) -> bytes:
    return content[:2000] + bytes(50) + content[2050:]


DAMAGE = {
    "missing train shard": (TRAIN, Path.unlink, "is missing"),
    "missing test shard": (TEST, Path.unlink, "is missing"),
    "truncated to half": (TRAIN, to(lambda b: b[: len(b) // 2]), "is not a complete array_record file"),
    "truncated a little": (TRAIN, to(lambda b: b[:-100]), "is not a complete array_record file"),
    "empty": (TRAIN, to(lambda b: b""), "is not a complete array_record file"),
    "random bytes": (
        TRAIN,
        to(lambda b: np.random.default_rng(0).bytes(len(b))),
        "is not a complete array_record file",
    ),
    "of another split": (TRAIN, lambda f: shutil.copy(f.with_name(TEST), f), "holds 12 examples, not the 48 of"),
    "altered": (TRAIN, to(altered), "is altered"),
    "no description": ("dataset_info.json", Path.unlink, "is missing"),
    "half a description": ("dataset_info.json", to(lambda b: b"{"), "cannot be read as JSON"),
    "another description": ("dataset_info.json", to(lambda b: b"{}"), "does not describe a data set"),
    "a list": ("dataset_info.json", to(lambda b: b"[]"), "does not describe a data set"),
    "no features": ("features.json", Path.unlink, "is missing"),
    "half the features": ("features.json", to(lambda b: b"{"), "cannot be read as JSON"),
    "other features": ("features.json", to(lambda b: b.replace(b".scalar.", b".scalars.")), "does not describe feat"),
    "no names": ("tone.labels.txt", Path.unlink, "is missing"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damage_is_one_line_with_the_file_and_the_way_to_prepare_it(copy, how, capsys) -> None:
    file, damage, reason = DAMAGE[how]
    damage(copy / file)
    assert main(["datasets", "show", "mine", "--data.directory", str(copy.parents[1])]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert f"data.name: damaged or half copied: {copy / file} {reason}" in printed
    assert f"copy the folder anew, or delete {copy} and prepare it anew with: " in printed
    assert "jaxprune datasets prepare mine --directory FOLDER --table TABLE.csv" in printed


@pytest.mark.parametrize("how", [how for how in DAMAGE if how not in ("altered", "other features")])
def test_damage_is_shown_in_the_list(copy, how) -> None:
    """But for what is seen only when every record is read."""
    file, damage, _ = DAMAGE[how]
    assert data.prepared_sets(str(copy.parents[1]))["mine"].how == "prepared"
    damage(copy / file)
    assert data.prepared_sets(str(copy.parents[1]))["mine"].how == "damaged: prepare it anew"


def test_a_run_on_a_damaged_set_is_one_line(copy, tmp_path, capsys) -> None:
    (copy / TRAIN).unlink()
    run = ["run", "--data.name", "mine", "--data.directory", str(copy.parents[1]), "--out", str(tmp_path / "out")]
    assert main(run) == 2
    assert "damaged or half copied" in capsys.readouterr().err


def test_the_descriptions_alone_are_a_half_copied_set(copy) -> None:
    for shard in copy.glob("*array_record*"):
        shard.unlink()
    with pytest.raises(UserError, match=rf"damaged or half copied: .*{TRAIN} is missing"):
        data.load("mine", directory=str(copy.parents[1]))


def test_a_set_that_says_array_record_and_lies_in_another_format_says_so(copy) -> None:
    for shard in copy.glob("*array_record*"):
        shard.rename(copy / shard.name.replace("array_record", "tfrecord"))
    with pytest.raises(UserError, match="is not stored as array_record; prepare it again"):
        data.load("mine", directory=str(copy.parents[1]))
    assert data.prepared_sets(str(copy.parents[1])) == {}


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("utkface", "prepare it anew with: jaxprune datasets prepare utkface --directory FOLDER"),
        ("cifar10", "run, where TensorFlow is installed: python -c \"import tensorflow_datasets as t; t.builder('cif"),
        ("kmnist", "run, where TensorFlow is installed: python -c \"import tensorflow_datasets as t; t.builder('kmn"),
        ("emnist", "t.builder('emnist/letters', file_format='array_record').download_and_prepare()"),
    ],
)
def test_each_kind_of_set_is_told_its_own_way(tmp_path, name, command) -> None:
    folder = tmp_path / name / "letters" / "1.0.0" if name == "emnist" else tmp_path / name / "1.0.0"
    folder.mkdir(parents=True)
    described = {"name": name, "version": "1.0.0", "fileFormat": "array_record", "splits": []}
    described |= {"configName": "letters"} if name == "emnist" else {}
    (folder / "dataset_info.json").write_text(json.dumps(described))
    with pytest.raises(UserError) as caught:
        data.load(name, directory=str(tmp_path))
    assert command in str(caught.value)
    assert f"{folder / 'features.json'} is missing" in str(caught.value)


def test_a_half_copied_newer_version_does_not_hide_a_whole_one(copy) -> None:
    newer = copy.with_name("3.0.0")
    newer.mkdir()
    shutil.copy(copy / TRAIN, newer)
    assert data.load("mine", directory=str(copy.parents[1])).num_classes == 2


def test_an_image_that_cannot_be_decoded_names_its_shard(copy, monkeypatch) -> None:
    read = Records._raw
    monkeypatch.setattr(
        Records, "_raw", lambda self, rows: [record.replace(b"PNG", b"GNP") for record in read(self, rows)]
    )
    with pytest.raises(UserError, match=rf"{TRAIN} holds an image that cannot be decoded"):
        data.load("mine", directory=str(copy.parents[1]))
