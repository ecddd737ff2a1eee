"""Images that a source holds on two sides of its own splits, in memory and on disk; everything is made here."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxprune import data
from jaxprune.cli import main
from jaxprune.errors import UserError

CODES = {"train": 0, "test": 1, "validation": 2}


def pool(count: int, seed: int = 0, size: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


@pytest.fixture
def crossed() -> tuple[np.ndarray, np.ndarray]:
    """180 images with their splits, drawn from 120: copies within the splits and across all of them."""
    rng = np.random.default_rng(1)
    return pool(120)[rng.integers(0, 120, 180)], rng.choice([0, 0, 0, 1, 2], 180)


def expected(images: np.ndarray, split: np.ndarray) -> dict[str, np.ndarray]:
    """What is to be left of each split, in order, by sets of bytes."""
    sides = {name: images[split == code] for name, code in CODES.items()}
    test = {image.tobytes() for image in sides["test"]}
    held_out = test | {image.tobytes() for image in sides["validation"]}
    forbidden = {"train": held_out, "validation": test, "test": set()}
    return {name: np.stack([i for i in sides[name] if i.tobytes() not in forbidden[name]]) for name in CODES}


def saved(path, images, split, **more) -> str:
    words = np.array(["train", "test", "validation"])[split]
    np.savez(path, x=images, y=np.arange(len(images)) % 2, split=words, **more)
    return str(path)


def test_copies_of_test_images_are_left_out_of_an_npz_file(crossed, tmp_path) -> None:
    images, split = crossed
    loaded = data.load(saved(tmp_path / "mine.npz", images, split))
    wanted = expected(images, split)
    for name in CODES:
        np.testing.assert_array_equal(loaded.split(name).x, wanted[name])
    left_out = {name: (split == code).sum() - len(wanted[name]) for name, code in CODES.items()}
    assert left_out["test"] == 0
    assert min(left_out["train"], left_out["validation"]) > 1, "or this test shows little"
    for name, warning in zip(("train", "validation"), loaded.warnings(0), strict=True):
        total = (split == CODES[name]).sum()
        assert warning.startswith(f"{left_out[name]} of {total} images of the source's {name} split are left out")


def test_the_validation_split_is_cut_from_what_is_left(crossed, tmp_path) -> None:
    images, split = crossed[0], np.where(crossed[1] == 2, 0, crossed[1])
    loaded = data.load(saved(tmp_path / "mine.npz", images, split))
    seen = {name: {image.tobytes() for image in loaded.split(name).x} for name in CODES}
    assert not seen["train"] & seen["test"]
    assert not seen["validation"] & (seen["test"] | seen["train"])
    kept = {image.tobytes() for image in images[split == 0]} - seen["test"]
    assert seen["train"] | seen["validation"] == kept
    mean = loaded.train.x.mean((0, 1, 2))
    np.testing.assert_allclose(loaded.normalise.shift, mean, rtol=1e-6)


def test_where_there_are_no_copies_nothing_is_said_or_left_out(tmp_path) -> None:
    loaded = data.load(saved(tmp_path / "mine.npz", pool(90), np.arange(90) % 3))
    assert [len(loaded.split(name).y) for name in CODES] == [30, 30, 30]
    assert loaded.notes == ()
    assert loaded.warnings(0) == []


@pytest.mark.parametrize("name", data.SOURCES)
def test_bundled_sets_hold_no_copies_across_their_splits(name) -> None:
    assert data.load(name).notes == ()


@pytest.mark.parametrize("kind", ["rows", "floats"])
def test_other_examples_than_images_of_bytes_are_left_alone(kind, tmp_path) -> None:
    x = np.tile(np.arange(8.0).reshape(4, 2), (15, 1)) if kind == "rows" else np.zeros((60, 4, 4, 1), np.float32)
    loaded = data.load(saved(tmp_path / "mine.npz", x, np.arange(60) // 20))
    assert [len(loaded.split(name).y) for name in CODES] == [20, 20, 20]
    assert loaded.notes == ()


def test_one_copy_is_told_in_the_singular_and_shown(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    images, split = pool(400), np.arange(400) // 200
    images[0] = images[399]
    saved(tmp_path / "mine.npz", images, split)
    assert main(["datasets", "show", "mine.npz"]) == 0
    assert (
        "warning: 1 of 200 images of the source's train split is left out: equal ones are in its test or validation"
        in capsys.readouterr().out
    )


def test_a_train_split_of_copies_alone_is_refused(tmp_path) -> None:
    images = np.concatenate([pool(20), pool(20)])
    with pytest.raises(UserError, match="every image of the train split is a copy of one in another split; correct"):
        data.load(saved(tmp_path / "mine.npz", images, np.arange(40) // 20))


# ---------------------------------------------------------------- as tensorflow-datasets prepares them


@pytest.fixture
def prepared(crossed, tmp_path) -> str:
    """The images as a set that tensorflow-datasets might have prepared: it says nothing of copies."""
    import tensorflow_datasets as tfds

    images, split = crossed

    def encoded(image: np.ndarray) -> bytes:
        out = io.BytesIO()
        Image.fromarray(image).save(out, format="PNG")
        return out.getvalue()

    class Foreign(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """Made images."""

        name = "foreign"
        VERSION = tfds.core.Version("3.0.2")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "id": tfds.features.Text(),
                "label": tfds.features.ClassLabel(names=["no", "yes"]),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
            )

        def _split_generators(self, dl_manager):
            return {name: self._generate_examples(code) for name, code in CODES.items()}

        def _generate_examples(self, code):
            for i in np.flatnonzero(split == code):
                yield int(i), {"image": encoded(images[i]), "id": f"example {i}", "label": int(i % 2)}

    tfds.disable_progress_bar()
    Foreign(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    return str(tmp_path)


def test_copies_are_left_out_of_a_prepared_set_in_memory_and_on_disk_alike(crossed, prepared) -> None:
    images, split = crossed
    wanted = expected(images, split)
    memory = data.load("foreign", directory=prepared)
    streamed = data.load("foreign", directory=prepared, stream=True)
    for name in CODES:
        found = memory.split(name)
        assert sorted(i.tobytes() for i in found.x) == sorted(i.tobytes() for i in wanted[name])
        on_disk = streamed.split(name)
        np.testing.assert_array_equal(on_disk.x[np.arange(len(on_disk.y))], found.x)
        np.testing.assert_array_equal(on_disk.y, found.y)
    assert len(memory.notes) == 2
    assert streamed.notes == memory.notes


def test_a_prepared_set_is_cut_alike_in_memory_and_on_disk(crossed, prepared, monkeypatch) -> None:
    """Also where copies are to stay together: here the whole set is one train split."""
    monkeypatch.setattr("jaxprune.data.sources.tfds.SPLIT_CODES", {"train": 0})
    memory = data.load("foreign", directory=prepared)
    streamed = data.load("foreign", directory=prepared, stream=True)
    seen = [{image.tobytes() for image in memory.split(name).x} for name in CODES]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    for name in CODES:
        found, on_disk = memory.split(name), streamed.split(name)
        np.testing.assert_array_equal(on_disk.x[np.arange(len(on_disk.y))], found.x)
