"""Prepared sets whose images stay on disk; the images are made here."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxprune import config, data, pipeline, streaming
from jaxprune.data.splitting import copies_of
from jaxprune.errors import UserError
from jaxprune.pipeline.build import resolve
from jaxprune.pipeline.store import NoProgress
from jaxprune.pipeline.theory_inputs import chosen_examples

pytest.importorskip("grain")


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> str:
    """160 images of 8 pixels a side, as UTKFace; two of them are copies."""
    files, destination = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("sets")
    rng = np.random.default_rng(0)
    for i in range(160):
        pixels = np.uint8(np.clip(rng.normal(100 + 30 * (i % 2), 40, (8, 8, 3)), 0, 255))
        Image.fromarray(pixels).save(files / f"{i % 90}_{i % 2}_{i % 3}_2017{i:06}.jpg", quality=95)
    (files / "7_1_1_2018000000.jpg").write_bytes((files / "7_1_1_2017000007.jpg").read_bytes())
    data.prepare_utkface(files, destination)
    return str(destination)


RESHAPED = {
    "as it is": {},
    "resized": {"image_size": 5},
    "thinned": {"imbalance": 3.0},
    "shares": {"shares": (3, 1, 1)},
    "upsampled": {"upsample_group": "Black", "upsample_times": 3},
    "balanced": {"balance": True},
}


def load(sets: str, **options) -> data.Dataset:
    return data.load("utkface", directory=sets, group="race", label="gender", **options)


@pytest.fixture(scope="module", autouse=True)
def three_races(monkeypatch_module):
    """The made set has three of the five races, and a group without examples is an error."""
    monkeypatch_module.setattr("jaxprune.data.prepare.utkface.RACES", ("White", "Black", "Asian"))


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.mark.parametrize("options", RESHAPED.values(), ids=RESHAPED)
def test_a_streamed_set_is_the_set_in_memory(sets, options):
    memory, streamed = load(sets, **options), load(sets, stream=True, **options)
    assert streamed.streamed
    assert not memory.streamed
    assert streamed.normalise == memory.normalise
    for split in data.SPLITS:
        mine, theirs = streamed.split(split), memory.split(split)
        assert isinstance(mine.x, data.RecordImages)
        assert (mine.x.shape, mine.x.dtype, len(mine.x)) == (theirs.x.shape, theirs.x.dtype, len(theirs.x))
        np.testing.assert_array_equal(mine.x[np.arange(len(mine.y))], theirs.x)
        np.testing.assert_array_equal(mine.x[3], theirs.x[3])
        for name in ("y", "group", "weight"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))


def test_images_are_read_in_the_order_asked_for_across_splits(sets):
    x = load(sets, stream=True).train.x
    whole = x[np.arange(len(x))]
    index = np.random.default_rng(0).integers(0, len(x), 40)  # with repeats
    np.testing.assert_array_equal(x[index], whole[index])
    np.testing.assert_array_equal(x.select(index)[np.arange(5)], whole[index[:5]])
    everything = x.records.images(np.arange(len(x.records)))
    np.testing.assert_array_equal(x.records.images(np.array([len(everything) - 1, 0])), everything[[-1, 0]])


@pytest.mark.parametrize("mask", [False, True])
def test_selected_rows_stay_on_disk(sets, mask):
    memory, streamed = load(sets).train, load(sets, stream=True).train
    rows = np.arange(len(memory.y)) % 3 == 1 if mask else np.array([7, 0, 7, 3])
    mine, theirs = data.select(streamed, rows), data.select(memory, rows)
    assert isinstance(mine.x, data.RecordImages)
    np.testing.assert_array_equal(theirs.x, memory.x[rows])
    np.testing.assert_array_equal(mine.x[np.arange(len(mine.y))], theirs.x)
    for name in ("y", "group", "weight"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(memory, name)[rows])


def test_copies_are_found_alike_in_memory_and_on_disk(sets):
    twice = np.array([0, 5, 0, 9, 5, 1])
    memory, streamed = (data.select(load(sets, stream=stream).train, twice) for stream in (False, True))
    own = np.unique(memory.x.reshape(6, -1), axis=0, return_inverse=True)[1].reshape(-1)
    expected = [np.flatnonzero(own == each)[0] for each in own]
    assert copies_of(memory.x).tolist() == copies_of(streamed.x).tolist() == expected
    assert copies_of(memory.x.astype(np.float32)).tolist() == list(range(6)), "equal images of floats are no copies"


def test_the_fingerprint_follows_the_pixels_and_the_choice(sets):
    one, again = load(sets, stream=True), load(sets, stream=True)
    assert one.fingerprint() == again.fingerprint()
    others = [load(sets, stream=True, **options).fingerprint() for options in RESHAPED.values()]
    assert len(set(others)) == len(RESHAPED)


# --- in a run ------------------------------------------------------------------------------------------------------


def settings(sets: str, stream: bool, **changes):
    overrides = {
        "data.name": "utkface", "data.directory": sets, "data.group": "race", "data.label": "gender",
        "data.stream": stream, "theory.examples": 9, "model.name": "mlp", "model.hidden": (3,), "seeds": 2,
        "train.epochs": 3, "train.batch_size": 16, "train.flip": True, "prune.sparsities": (0.5,), "retrain.epochs": 0,
        "retrain.methods": ("none",), "theory.max_iterations": 3, "costs.speed": False,
    }  # fmt: skip
    return config.load(None, overrides | changes)


class Killed(NoProgress):
    """Interrupts the training when it tells of a part of it."""

    def __init__(self, after: int):
        self.left = after

    def advance(self, note: str = "") -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.fixture
def short_blocks(monkeypatch):
    """Blocks of two steps."""
    for function in (streaming.fit, streaming.blocks):
        monkeypatch.setattr(function, "__kwdefaults__", function.__kwdefaults__ | {"block_bytes": 2 * 2 * 16 * 192})
    monkeypatch.setattr(streaming.steps_in_block, "__defaults__", (1, 2 * 2 * 16 * 192))


@pytest.mark.usefixtures("short_blocks")
def test_a_killed_run_goes_on_at_its_step_and_ends_as_one_in_memory(sets, tmp_path):
    said = []

    class Telling(NoProgress):
        def say(self, message: str) -> None:
            said.append(message)

    with pytest.raises(KeyboardInterrupt):
        pipeline.run(
            settings(sets, True), tmp_path / "streamed", until="train", progress=Killed(3), checkpoint_seconds=0
        )
    left = sorted(path.name for path in (tmp_path / "streamed" / "stages").glob("dense-*/checkpoints/step-*"))
    assert len(left) == 1
    done = int(left[0].removeprefix("step-"))
    steps = -(-len(load(sets).train.y) // 16)
    assert done % steps, "it was killed between epochs, and this test shows little"
    streamed = pipeline.run(settings(sets, True), tmp_path / "streamed", until="train", progress=Telling())
    assert f"continuing after step {done} of {3 * steps}" in said
    memory = pipeline.run(settings(sets, False), tmp_path / "memory", until="train")
    for mine, theirs in zip(_arrays(streamed.made["dense"]), _arrays(memory.made["dense"]), strict=True):
        assert mine[0] == theirs[0]
        np.testing.assert_array_equal(mine[1], theirs[1])


def _arrays(folder: Path) -> list[tuple[str, np.ndarray]]:
    import orbax.checkpoint as ocp

    network = ocp.StandardCheckpointer().restore((folder / "network" / "arrays").absolute())
    with np.load(folder / "logs.npz") as logs:
        return sorted({**{k: np.asarray(v) for k, v in network.items()}, **dict(logs)}.items())


@pytest.mark.slow
@pytest.mark.usefixtures("short_blocks")
def test_a_whole_run_finds_what_one_in_memory_finds(sets, tmp_path):
    found = {}
    for stream in (True, False):
        result = pipeline.run(settings(sets, stream), tmp_path / str(stream))
        found[stream] = result.results
        assert "9 examples of each group at most" in (tmp_path / str(stream) / "report.html").read_text()
    for key, audit in found[False].audits.items():
        other = found[True].audits[key].metrics
        np.testing.assert_allclose(other.loss, audit.metrics.loss, rtol=1e-5)
        np.testing.assert_array_equal(other.accuracy, audit.metrics.accuracy)
    np.testing.assert_array_equal(found[True].theory.eigenvalue, found[False].theory.eigenvalue)


# --- theory on a choice of examples --------------------------------------------------------------------------------


def test_the_theory_takes_so_many_of_each_group_and_leaves_the_labels_in_their_shares():
    from jaxprune.data.splitting import at_most

    rng = np.random.default_rng(0)
    group, y = rng.choice(3, 1000, p=[0.8, 0.19, 0.01]), rng.integers(0, 4, 1000)
    for examples in (1, 20, 100, 5000):
        index = at_most(group, y, examples)
        np.testing.assert_array_equal(np.bincount(group[index]), np.minimum(np.bincount(group), examples))
        assert (np.diff(index) > 0).all()
        np.testing.assert_array_equal(index, at_most(group, y, examples))
        for a in range(3):
            members, chosen = y[group == a], y[index][group[index] == a]
            share = len(chosen) / len(members)
            assert (np.abs(np.bincount(chosen, minlength=4) - share * np.bincount(members, minlength=4)) <= 1).all()


def test_the_experiment_holds_the_choice_alone(sets):
    small = {"model.hidden": (4,), "seeds": 1, "data.name": "digits"}
    chosen = chosen_examples(resolve(config.load(None, small | {"theory.examples": 7})))
    assert np.bincount(np.asarray(chosen.group)).tolist() == [7] * 10
    whole = chosen_examples(resolve(config.load(None, small)))
    assert len(whole.y) == len(data.load("digits").train.y)
    streamed = resolve(settings(sets, True))
    assert np.bincount(np.asarray(chosen_examples(streamed).group)).tolist() == [9] * 3


def test_streaming_a_set_that_is_not_prepared_is_an_error(tmp_path):
    with pytest.raises(UserError, match="is not prepared in"):
        data.load("utkface", directory=str(tmp_path), stream=True)
