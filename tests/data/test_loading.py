"""The data sets, their splits, and the errors about data that is not fit for use."""

import dataclasses
import functools
from importlib import resources
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxprune import data
from jaxprune.data.resampling import long_tail
from jaxprune.data.sources.npz import read_npz
from jaxprune.data.splitting import cells_of, stratified
from jaxprune.errors import UserError
from jaxprune.examples import chunked
from jaxprune.types import Batch

several = settings(max_examples=60, deadline=None)

load = functools.cache(data.load)  # the sets are frozen, so that the tests may share them


def user_error(function, *args, **kwargs) -> str:
    """The text of the `UserError` that a call raises, which is one line."""
    with pytest.raises(UserError) as error:
        function(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- what holds for every data set ---------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def own_file(tmp_path_factory):
    """Rows of three inputs, the first being the number of the row, with two attributes of unlike size."""
    n = 200
    rng = np.random.default_rng(5)
    path = tmp_path_factory.mktemp("own") / "people.npz"
    np.savez(
        path,
        x=np.column_stack([np.arange(n), rng.normal(3, 5, n), rng.integers(0, 2, n)]),
        y=rng.integers(0, 2, n),
        y_names=["no", "yes"],
        region=np.arange(n) % 5 // 2,
        region_names=["north", "south", "west"],
        sex=np.arange(n) // 7 % 2,
        provenance="made for a test",
    )
    return str(path)


@pytest.fixture(params=[*data.SOURCES, "an npz file"])
def name(request, own_file):
    return own_file if request.param == "an npz file" else request.param


def test_every_source_keeps_the_contract(name):
    dataset = load(name)
    classes, groups = dataset.num_classes, dataset.num_groups
    assert classes == len(dataset.label_names) == len(set(dataset.label_names)) >= 2
    assert groups == len(dataset.group_names) == len(set(dataset.group_names)) >= 2
    assert dataset.provenance
    for split in data.SPLITS:
        x, y, group, weight = dataset.split(split)
        n = len(x)
        assert x.dtype == (np.uint8 if x.ndim == 4 else np.float32)
        assert (y.dtype, group.dtype, weight.dtype) == (np.int32, np.int32, np.float32)
        assert x.shape == (n, *dataset.train.x.shape[1:])
        assert y.shape == group.shape == weight.shape == (n,)
        assert x.ndim in (2, 4)
        assert np.isfinite(x).all()
        assert (weight == 1).all()
        assert set(np.unique(y)) == set(range(classes))
        assert set(np.unique(group)) == set(range(groups)), "a group has no examples"
        np.testing.assert_array_equal(dataset.group_sizes(split), np.bincount(group, minlength=groups))


def test_every_source_is_the_same_at_every_load(name):
    first, second = data.load(name), data.load(name)
    for split in data.SPLITS:
        for one, other in zip(first.split(split), second.split(split), strict=True):
            np.testing.assert_array_equal(one, other)
    assert first.fingerprint() == second.fingerprint()


def test_every_source_is_normalised_on_its_training_split(name):
    table = data.SOURCES[name]() if name in data.SOURCES else read_npz(Path(name))
    scaled = np.ones(table.x.shape[-1], bool) if table.standardise is None else table.standardise
    dataset = load(name)
    normalised = {split: np.asarray(dataset.normalise(dataset.split(split).x)) for split in data.SPLITS}
    x = normalised["train"].astype(np.float64).reshape(-1, len(scaled))  # of images: the channels
    np.testing.assert_allclose(x[:, scaled].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(x[:, scaled].std(0), 1, atol=1e-5)
    # The other columns, such as indicators, are left as they are.
    left = np.concatenate([normalised[split].reshape(-1, len(scaled))[:, ~scaled] for split in data.SPLITS])
    np.testing.assert_array_equal(np.sort(left, 0), np.sort(table.x.reshape(-1, len(scaled))[:, ~scaled], 0))


@pytest.mark.parametrize(("name", "size"), [("adult", 48_842), ("digits", 1_797)])
def test_the_splits_share_out_all_examples(name, size):
    dataset = load(name)
    assert sum(len(dataset.split(split).y) for split in data.SPLITS) == size


def test_a_fingerprint_tells_data_apart(people):
    def changed(**fields):
        return dataclasses.replace(people, **fields).fingerprint()

    one_value = people.test.x.copy()
    one_value[3, 1] += 1
    weight = people.train.weight.copy()
    weight[0] = 0
    prints = [
        people.fingerprint(),
        changed(test=people.test._replace(x=one_value)),
        changed(train=people.train._replace(weight=weight)),
        changed(train=people.train._replace(x=people.train.x.reshape(-1, 2, 2))),
        changed(group_names=("a", "b", "c")),
        changed(label_names="xyz"),
        changed(validation=people.test, test=people.validation),
    ]
    assert len(set(prints)) == len(prints)
    # The same data in other memory, from another file, is the same.
    assert changed(test=Batch(*(np.asfortranarray(a) for a in people.test)), provenance="elsewhere") == prints[0]


# --- the bundled sets ----------------------------------------------------------------------------------------------


def all_of(dataset, field):
    return np.concatenate([getattr(dataset.split(split), field) for split in data.SPLITS])


@pytest.mark.parametrize(
    ("group", "counts"),
    [
        # Published: 32,561 + 16,281 rows; counts by race and sex over both files.
        (
            "race",
            {"White": 41_762, "Black": 4_685, "Asian-Pac-Islander": 1_519, "Amer-Indian-Eskimo": 470, "Other": 406},
        ),
        ("sex", {"Male": 32_650, "Female": 16_192}),
    ],
)
def test_adult_has_the_published_counts(group, counts):
    adult = load("adult", group=group)
    assert len(adult.train.y) + len(adult.validation.y) == 32_561
    assert len(adult.test.y) == 16_281
    found = np.bincount(all_of(adult, "group"), minlength=adult.num_groups)
    assert dict(zip(adult.group_names, found.tolist(), strict=True)) == counts


def test_adult_incomes_by_sex_are_the_published_shares():
    adult = load("adult", group="sex")
    assert adult.label_names == ("<=50K", ">50K")
    y, group = all_of(adult, "y"), all_of(adult, "group")
    shares = {name: y[group == g].mean() for g, name in enumerate(adult.group_names)}
    assert shares == pytest.approx({"Male": 0.304, "Female": 0.109}, abs=5e-4)


def test_adult_crossed_has_ten_groups_that_add_up():
    crossed, race = load("adult", group="race*sex"), load("adult", group="race")
    assert crossed.num_groups == 10
    for split in data.SPLITS:
        np.testing.assert_array_equal(crossed.group_sizes(split).reshape(5, 2).sum(1), race.group_sizes(split))


@pytest.mark.parametrize("group", ["sex", "race*sex", "relationship"])
def test_adult_is_split_alike_whatever_the_groups(group):
    one, other = load("adult", group="race"), load("adult", group=group)
    for split in data.SPLITS:
        np.testing.assert_array_equal(one.split(split).x, other.split(split).x)
        np.testing.assert_array_equal(one.split(split).y, other.split(split).y)


def test_adult_validation_takes_a_fifth_of_every_label_race_and_sex():
    adult = load("adult", group="race*sex")
    cells = {
        split: np.bincount(adult.split(split).group * 2 + adult.split(split).y, minlength=20) for split in data.SPLITS
    }
    whole = cells["train"] + cells["validation"]
    assert (whole > 0).all()
    assert (np.abs(cells["validation"] - 0.2 * whole) <= 1).all()
    assert abs(len(adult.validation.y) - 0.2 * 32_561) < 1


@pytest.mark.parametrize("attribute", ["race", "sex"])
def test_adult_inputs_do_not_hold_race_or_sex(attribute):
    x, _, group, _ = load("adult", group=attribute).train
    indicators = x[:, np.isin(x, (0, 1)).all(0)]
    assert indicators.shape[1] == 95  # the words of the six categorical inputs: 9 + 16 + 7 + 15 + 6 + 42
    assert x.shape[1] == 95 + 5  # and the numbers, but for the sampling weight
    for code in np.unique(group):
        assert not (indicators == (group == code)[:, None]).all(0).any()


def test_another_column_may_be_the_label():
    adult = load("adult", label="sex", group="race")
    assert adult.label_by == "sex"
    counts = np.bincount(all_of(adult, "y")).tolist()
    assert dict(zip(adult.label_names, counts, strict=True)) == {"Male": 32_650, "Female": 16_192}


def test_digits_are_grey_images_whose_groups_are_their_classes():
    digits = load("digits")
    assert digits.train.x.shape[1:] == (8, 8, 1)
    assert digits.label_names == digits.group_names == tuple("0123456789")
    np.testing.assert_array_equal(digits.train.y, digits.train.group)
    # The published counts of the ten classes.
    np.testing.assert_array_equal(np.bincount(all_of(digits, "y")), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180])
    # One shift and one scale for every split: test images take the same 17 grey values as training images.
    greys = np.unique(digits.normalise(digits.train.x))
    assert len(greys) == 17
    np.testing.assert_allclose(np.diff(greys), np.diff(greys)[0], rtol=1e-5)
    assert np.isin(digits.normalise(digits.test.x), greys).all()
    assert np.isin(digits.normalise(digits.validation.x), greys).all()


def test_digits_splits_are_cut_evenly_from_the_classes():
    digits = load("digits", validation=0.25)
    whole = np.bincount(all_of(digits, "y"))
    test = digits.group_sizes("test")
    assert (np.abs(test - 0.3 * whole) <= 1).all()
    assert (np.abs(digits.group_sizes("validation") - 0.25 * (whole - test)) <= 1).all()


def test_the_bundled_files_are_small_and_carry_their_licence():
    folder = resources.files("jaxprune.data.bundled")
    files = [entry for entry in folder.iterdir() if entry.name.endswith(".npz")]
    assert sum(len(entry.read_bytes()) for entry in files) < 1_000_000
    sources = folder.joinpath("SOURCES.md").read_text()
    assert {"adult.npz", "digits.npz"} <= {entry.name for entry in files}
    for name in (entry.name.removesuffix(".npz") for entry in files):
        section, source = sources.split(f"## {name}.npz")[1].split("\n## ")[0], data.CATALOGUE[name]
        assert source.licence in section
        assert "doi.org" in section
        assert source.licence in load(name).provenance


# --- splitting, resampling, batching -------------------------------------------------------------------------------


@several
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=200),
    st.one_of(st.floats(0.01, 0.99), st.sampled_from([0.1, 0.2, 0.25, 0.3, 0.5, 0.7])),
)
def test_a_stratified_choice_is_exact_in_total_and_within_one_in_every_cell(cells, fraction):
    cells = np.array(cells)
    chosen = stratified(cells, fraction)
    assert chosen.shape == cells.shape
    assert chosen.dtype == bool
    assert abs(chosen.sum() - fraction * len(cells)) < 1
    for cell in np.unique(cells):
        members = cells == cell
        assert abs(chosen[members].sum() - fraction * members.sum()) < 1 + 1e-9
    np.testing.assert_array_equal(chosen, stratified(cells, fraction))


@pytest.mark.parametrize("n", [100, 700])
def test_a_stratified_choice_is_exact_where_the_share_is_a_whole_number(n):
    """Also where the product of the floats is a little below it: 100 * 0.29 is 28.999999999999996."""
    found = [int(stratified(np.arange(n) % 3, percent / 100).sum()) for percent in range(1, 100)]
    assert found == [n * percent // 100 for percent in range(1, 100)]


def test_a_stratified_choice_is_not_in_the_order_of_the_examples():
    chosen = stratified(np.zeros(1000, int), 0.2)
    gaps = np.diff(np.flatnonzero(chosen))
    assert len(set(gaps.tolist())) > 5, "every fifth example, which follows any order the file has"
    # Halves and quarters of the file give alike: 5 standard deviations of a random choice.
    np.testing.assert_allclose(chosen.reshape(4, 250).mean(1), 0.2, atol=5 * np.sqrt(0.16 / 250))


@pytest.mark.parametrize(
    ("sizes", "imbalance", "expected"),
    [
        # n_max * imbalance ** (-a / (G - 1))
        ([100, 100, 100], 100, [100, 10, 1]),
        ([80, 80, 80, 80], 8, [80, 40, 20, 10]),
        ([100, 30, 20], 4, [100, 30, 20]),  # quotas 100, 50, 25: smaller groups stay whole
        ([40, 100, 100], 4, [40, 50, 25]),  # n_max is that of the largest group, not of the first
        ([50], 10, [50]),
        ([60, 0, 60], 9, [60, 0, 7]),  # 60 / 9 = 6.67
        ([9, 9], 1000, [9, 1]),  # no group vanishes
        ([7, 5], 1, [7, 5]),
    ],
)
def test_a_long_tail_has_the_sizes_of_its_formula(sizes, imbalance, expected):
    group = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    kept = long_tail(group, len(sizes), imbalance)
    np.testing.assert_array_equal(np.bincount(group[kept], minlength=len(sizes)), expected)
    assert (np.diff(kept) > 0).all(), "sorted, and none twice"
    np.testing.assert_array_equal(kept, long_tail(group, len(sizes), imbalance))


def test_imbalance_thins_the_training_split_alone():
    whole, thin = load("digits"), load("digits", imbalance=10.0)
    largest = whole.group_sizes("train").max()
    quota = np.round(largest * 10.0 ** (-np.arange(10) / 9))
    np.testing.assert_array_equal(thin.group_sizes("train"), np.minimum(whole.group_sizes("train"), quota))
    for split in ("validation", "test"):
        np.testing.assert_array_equal(thin.group_sizes(split), whole.group_sizes(split))
    # Normalised with the moments of what is left.
    assert np.mean(np.asarray(thin.normalise(thin.train.x)), dtype=np.float64) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(("n", "size"), [(1, 1), (7, 3), (6, 3), (5, 8), (100, 32)])
def test_an_epoch_is_every_example_once_and_padding_of_weight_zero(n, size):
    index, weight = data.epoch_indices(jax.random.key(3), n, size)
    assert index.shape == weight.shape == (-(-n // size), size)
    assert (index.dtype, weight.dtype) == (jnp.int32, jnp.float32)
    assert weight.sum() == n
    index, weight = np.asarray(index).ravel(), np.asarray(weight).ravel()
    assert set(weight.tolist()) <= {0.0, 1.0}
    np.testing.assert_array_equal(np.sort(index[weight == 1]), np.arange(n))
    assert ((index >= 0) & (index < n)).all()


def test_epochs_are_shuffled_evenly():
    keys = jax.random.split(jax.random.key(0), 3600)
    orders = np.asarray(jax.vmap(lambda key: data.epoch_indices(key, 6, 6)[0][0])(keys))
    # Where example 0 lands: 600 times in each of 6 places, to within 5 standard deviations.
    counts = np.bincount(np.argwhere(orders == 0)[:, 1], minlength=6)
    np.testing.assert_allclose(counts, 600, atol=5 * np.sqrt(3600 * 5 / 36))


@pytest.mark.parametrize(("n", "size"), [(7, 7), (7, 3), (7, 4), (7, 100), (1, 1), (12, 5)])
def test_chunks_hold_every_example_once_and_in_order(n, size):
    x = np.arange(1, 2 * n + 1, dtype=np.float32).reshape(n, 2)
    whole = Batch(x, np.arange(1, n + 1), np.ones(n, int), np.ones(n))
    chunks = chunked(whole, size)
    steps, length = chunks.y.shape
    assert length <= size
    assert steps == -(-n // size)
    assert steps * length - n < steps, "more padding than needed"
    flat = Batch(*(np.asarray(a).reshape(steps * length, *a.shape[2:]) for a in chunks))
    for found, expected in zip(flat, whole, strict=True):
        np.testing.assert_array_equal(found[:n], expected)
    assert (flat.weight[n:] == 0).all()


def test_take_multiplies_the_weights(batch):
    taken = data.take(batch, jnp.array([6, 2, 2]), jnp.array([1.0, 0.5, 0]))
    np.testing.assert_array_equal(taken.x, np.asarray(batch.x)[[6, 2, 2]])
    np.testing.assert_array_equal(taken.y, [0, 2, 2])
    np.testing.assert_array_equal(taken.group, [2, 1, 1])
    np.testing.assert_array_equal(taken.weight, [0, 0.5, 0])


def test_small_groups_are_warned_about_by_name_count_and_split(people):
    warnings = people.warnings(minimum=10)
    # Per split, groups of 10, 4 and 1 in 15 of 120, 45 and 60: (80, 32, 8), (30, 12, 3), (40, 16, 4).
    assert len(warnings) == 3
    for split, count, warning in zip(data.SPLITS, (8, 3, 4), warnings, strict=True):
        assert split in warning
        assert "rare" in warning
        assert str(count) in warning
        assert "big" not in warning
        assert "\n" not in warning
    assert people.warnings(minimum=3) == []
    assert len(people.warnings(minimum=4)) == 1, "exactly the minimum is enough"


# --- arrays of the caller ------------------------------------------------------------------------------------------

X, Y, GROUP = np.zeros((6, 2), np.float32), np.array([0, 1, 0, 1, 0, 1]), np.array([0, 0, 1, 1, 0, 1])


def from_arrays(**changed):
    parts = {split: changed.get(split, (X, Y, GROUP)) for split in data.SPLITS}
    return data.from_arrays(**parts, label_names=("no", "yes"), group_names=("A", "B"), name="mine")


def with_value(array, at, value):
    array = np.array(array, np.result_type(array, type(value)))
    array[at] = value
    return array


def test_arrays_become_a_data_set():
    dataset = from_arrays()
    assert (dataset.num_classes, dataset.num_groups, dataset.name) == (2, 2, "mine")
    np.testing.assert_array_equal(dataset.group_sizes("test"), [3, 3])


@pytest.mark.parametrize("split", data.SPLITS)
@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ((X, with_value(Y, 3, 2), GROUP), ["label 2", "example 3", "0 to 1"]),
        ((X, with_value(Y, 1, -1), GROUP), ["label -1", "example 1"]),
        ((X, Y, with_value(GROUP, 4, 2)), ["group 2", "example 4", "0 to 1"]),
        ((X, Y, with_value(GROUP, 4, -3)), ["group -3", "example 4"]),
        ((with_value(X, (2, 1), np.nan), Y, GROUP), ["NaN", "1 value ", "example 2"]),
        ((with_value(X, (5, 0), -np.inf), Y, GROUP), ["infinite", "example 5"]),
        ((X[:5], Y, GROUP), ["5 inputs", "6 labels"]),
        ((X, Y[:4], GROUP), ["6 inputs", "4 labels"]),
        ((X, Y, GROUP[:4]), ["6 inputs", "4 groups"]),
        ((X, Y.astype(float), GROUP), ["labels", "float64", "whole numbers"]),
        ((X, Y, GROUP.astype(np.float32)), ["groups", "float32", "whole numbers"]),
        ((X[:0], Y[:0], GROUP[:0]), ["empty"]),
        ((X[:, :0], Y, GROUP), ["(6, 0)", "features"]),
        ((X, Y, np.zeros(6, int)), ["'B'", "without examples"]),
        # Mistakes that would otherwise come to light as a wrong result or deep inside jax.
        ((X, np.eye(2, dtype=int)[Y], GROUP), ["label"]),  # one-hot
        ((X, Y[:, None], GROUP), ["label"]),
        ((X, Y, GROUP[:, None]), ["group"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_arrays_that_are_not_fit_for_use_are_refused(split, arrays, said):
    message = user_error(from_arrays, **{split: arrays})
    assert split in message
    for words in said:
        assert words in message


def test_one_class_is_refused():
    split = X, np.zeros(6, int), GROUP
    with pytest.raises(UserError, match="the label has the names of 1 class; give those of two or more"):
        data.from_arrays(split, split, split, label_names=["a"], group_names="AB")


def test_splits_with_unlike_inputs_are_refused():
    assert "test" in user_error(from_arrays, test=(X[:, :1], Y, GROUP))


# --- npz files -----------------------------------------------------------------------------------------------------


def test_an_npz_file_is_split_evenly_and_normalised_by_its_training_rows(own_file):
    dataset = load(own_file)
    with np.load(own_file) as raw:
        x, y, region = raw["x"], raw["y"], raw["region"]
    assert (dataset.label_by, dataset.group_by) == ("y", "region")
    assert dataset.label_names == ("no", "yes")
    assert dataset.group_names == ("north", "south", "west")
    assert dataset.provenance == "made for a test"
    # The first input is the number of the row, and scaling keeps the order: its ranks tell which rows went where.
    first = np.concatenate([dataset.split(split).x[:, 0] for split in data.SPLITS])
    ranks = np.argsort(np.argsort(first))
    sizes = [len(dataset.split(split).y) for split in data.SPLITS]
    rows = dict(zip(data.SPLITS, np.split(ranks, np.cumsum(sizes)[:-1]), strict=True))
    assert sorted(ranks) == list(range(200)), "splits overlap"
    shift, scale = x[rows["train"]].mean(0), x[rows["train"]].std(0)
    for split in data.SPLITS:
        found, expected = dataset.split(split), rows[split]
        np.testing.assert_allclose(found.x, (x[expected] - shift) / scale, atol=1e-5)
        np.testing.assert_array_equal(found.y, y[expected])
        np.testing.assert_array_equal(found.group, region[expected])
    assert sizes == [128, 32, 40]  # a fifth is the test split, a fifth of the rest validation
    # And that of every label in every group.
    with np.load(own_file) as raw:
        cells = (raw["y"] * 3 + raw["region"]) * 2 + raw["sex"]
    test, held_out, whole = (
        np.bincount(cells[r], minlength=12) for r in (rows["test"], rows["validation"], slice(None))
    )
    assert (np.abs(test - 0.2 * whole) <= 1).all()
    assert (np.abs(held_out - 0.2 * (whole - test)) <= 1).all()


def test_an_npz_file_may_bring_its_own_splits_and_images(tmp_path):
    rng = np.random.default_rng(0)
    images, y, sex = rng.integers(0, 255, (30, 4, 5)), np.arange(30) % 3, np.arange(30) // 3 % 2
    split = np.repeat([2, 0, 1], [6, 15, 9])
    np.savez(tmp_path / "images.npz", x=images, y=y, sex=sex, split=split, sex_names=["f", "m"])
    dataset = data.load(str(tmp_path / "images.npz"))
    assert dataset.label_names == ("0", "1", "2")
    shift, scale = images[6:21].mean(), images[6:21].std()
    for name, rows in (("validation", slice(0, 6)), ("train", slice(6, 21)), ("test", slice(21, 30))):
        np.testing.assert_allclose(dataset.split(name).x[..., 0], (images[rows] - shift) / scale, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(dataset.split(name).group, sex[rows])


def test_a_source_with_a_train_split_alone_is_given_a_test_split(tmp_path):
    """As many published sets are: a fifth of every label and group."""
    y, sex = np.arange(100) % 2, np.arange(100) // 2 % 2
    np.savez(tmp_path / "train.npz", x=np.arange(200.0).reshape(100, 2), y=y, sex=sex, split=np.zeros(100, int))
    dataset = data.load(str(tmp_path / "train.npz"))
    assert [len(dataset.split(split).y) for split in data.SPLITS] == [64, 16, 20]
    cells = np.bincount(dataset.test.y * 2 + dataset.test.group, minlength=4)
    assert (np.abs(cells - 5) <= 1).all()


def test_images_that_are_copies_are_on_one_side_of_every_split(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (60, 4, 4, 3)).astype(np.uint8)[rng.integers(0, 60, 120)]
    np.savez(tmp_path / "copies.npz", x=images, y=np.arange(120) % 2)
    dataset = data.load(str(tmp_path / "copies.npz"))
    seen = [{image.tobytes() for image in dataset.split(split).x} for split in data.SPLITS]
    assert sum(map(len, seen)) == len({image.tobytes() for image in images}) < 60
    assert all(seen)


def test_attributes_of_an_npz_file_can_be_crossed_and_predicted(own_file):
    dataset = load(own_file, group="region*sex", label="sex")
    assert dataset.group_names == tuple(f"{r}, {s}" for r in ("north", "south", "west") for s in "01")
    np.testing.assert_array_equal(dataset.train.y, dataset.train.group % 2)


def test_an_npz_file_without_attributes_is_grouped_by_its_label(tmp_path):
    np.savez(tmp_path / "plain.npz", x=np.arange(40.0).reshape(20, 2), y=np.arange(20) % 2)
    dataset = data.load(str(tmp_path / "plain.npz"))
    np.testing.assert_array_equal(dataset.train.y, dataset.train.group)


def arrays(**changed):
    n = 20
    good = {"x": np.ones((n, 2)), "y": np.arange(n) % 2, "race": np.arange(n) // 2 % 2}
    return {name: value for name, value in (good | changed).items() if value is not None}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (arrays(y=None), ["no array 'y'", "race, x"]),
        (arrays(x=None), ["no array 'x'"]),
        (arrays(x=np.ones(20)), ["1 axes"]),
        (arrays(x=np.float32(1)), ["axes"]),
        (arrays(x=np.ones((20, 2, 2, 1, 1))), ["5 axes"]),
        (arrays(x=np.full((20, 2), "a")), ["x"]),
        (arrays(x=with_value(np.ones((20, 2)), (7, 0), np.nan)), ["NaN", "example 7"]),
        (arrays(y=np.arange(20.0), y_names=["a"] * 20), ["'y'", "float64", "named codes are whole numbers"]),
        (arrays(y=np.full(20, 1j)), ["'y'", "complex128", "numbers"]),
        (arrays(y=with_value(np.arange(20.0), 4, np.nan)), ["'y'", "1 value that", "NaN"]),
        (arrays(race=with_value(np.arange(20.0), [4, 5], np.inf)), ["'race'", "2 values that", "infinite"]),
        (arrays(y=np.arange(19)), ["'y'", "(19,)"]),
        (arrays(race=np.array([["a", "b"]] * 20)), ["'race'", "shape (20, 2)"]),
        (arrays(race=np.zeros((20, 1), int)), ["'race'", "(20, 1)"]),
        (arrays(y_names=["only"]), ["y_names", "y runs from 0 to 1", "0 to 0"]),
        (arrays(y=np.arange(20) % 2 - 1, y_names=["a", "b"]), ["y_names", "y runs from -1 to 0", "0 to 1"]),
        (arrays(race_names=["a", "a"]), ["race_names", "a name twice, 'a'"]),
        (arrays(race_names=["a", " "]), ["race_names", "no name for code 1"]),
        (arrays(race_names=["a"]), ["race_names", "race runs from 0 to 1; the names are for 0 to 0"]),
        (arrays(town_names=["a", "b"]), ["town_names without town"]),
        (arrays(x=np.ones((20, 0))), ["x", "(20, 0)", "nothing is in it"]),
        (arrays(race_names=["a", "b", "c"]), ["'c'", "without examples"]),
        (arrays(split=np.zeros(19, int)), ["split", "19 entries"]),
        (arrays(split=np.zeros((20, 1), int)), ["split in", "shape (20, 1), not (20,)"]),
        (arrays(split=np.int64(0)), ["split in", "shape (), not (20,)"]),
        (arrays(race_names="White"), ["race_names in", "shape ()"]),
        (arrays(split=np.ones(20, int)), ["train split is empty"]),
        (arrays(split=np.repeat([0, 1, 2, 3], 5)), ["split in"]),  # 3 is no split: examples must not vanish in silence
        (arrays(split=np.array(["train", "best"])[np.arange(20) // 10]), ["column 'split' says 'best' in row 11"]),
        (arrays(split=np.array(["0", "1"])[np.arange(20) // 10]), ["split in"]),
        (arrays(x=np.array([None] * 20)), ["array 'x'", "Python objects", "x.astype(float)"]),  # which are not loaded
        (arrays(race_names=np.array(["a", "b"], object)), ["array 'race_names'", "race_names.astype(str)"]),
        (arrays(race_names=np.array([b"a", b"\xff"])), ["array 'race_names'", "not UTF-8 text"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_npz_file_that_is_not_fit_for_use_is_refused(content, said, tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, **content)
    message = user_error(data.load, str(path))
    assert "data" in message
    for words in said:
        assert words in message


@pytest.fixture
def numbers_file(tmp_path):
    """Rows with numbers that need bins (one of them named age), and others that do not; three attributes are codes."""
    n, rng = 1500, np.random.default_rng(2)
    path = tmp_path / "numbers.npz"
    np.savez(
        path, x=rng.normal(size=(n, 2)), y=rng.integers(0, 3, n), age=np.arange(n) % 90,
        dose=rng.integers(0, 500, n) / 10, year=2001 + np.arange(n) % 3, smokes=rng.integers(0, 2, n),
        town=np.arange(n) % 25, level=np.arange(n) % 30, level_names=[f"level {i}" for i in range(30)],
    )  # fmt: skip
    return str(path)


def groups_by_row(path, group, **options):
    """Row -> the name of its group; rows are told apart by their normalised inputs, whose order is that of the file."""
    dataset = data.load(path, group=group, **options)
    first = np.concatenate([dataset.split(split).x[:, 0] for split in data.SPLITS])
    names = np.array(dataset.group_names)[np.concatenate([dataset.split(split).group for split in data.SPLITS])]
    with np.load(path) as raw:
        order = np.argsort(raw["x"][:, 0])
    found = np.empty(len(order), names.dtype)
    found[order] = names[np.argsort(first)]
    return found


def test_numbers_of_an_npz_file_are_binned_as_those_of_a_table(numbers_file):
    with np.load(numbers_file) as raw:
        age, dose, year, town = (raw[name] for name in ("age", "dose", "year", "town"))
    np.testing.assert_array_equal(
        groups_by_row(numbers_file, "dose", bins=(10.0, 30.0)),
        np.select([dose < np.float32(10), dose < np.float32(30)], ["<10", "10-30"], "30+"),
    )
    np.testing.assert_array_equal(groups_by_row(numbers_file, "age", bins=(40.0,)), np.where(age < 40, "<40", "40+"))
    nine = groups_by_row(numbers_file, "age*smokes")
    tens = ["<10", "10-20", "20-30", "30-40", "40-50", "50-60", "60-70", "70-80", "80+"]
    assert [name.split(",")[0] for name in nine] == [tens[min(a // 10, 8)] for a in age]
    np.testing.assert_array_equal(groups_by_row(numbers_file, "year"), year.astype(str))
    np.testing.assert_array_equal(groups_by_row(numbers_file, "town", bins=(10.0,)), np.where(town < 10, "<10", "10+"))


def test_the_bins_of_an_npz_file_leave_codes_and_the_splits_alone(numbers_file):
    bins = {"bins": (1.5, 10.0)}
    for options in ({}, bins):
        assert data.load(numbers_file, group="smokes", **options).group_names == ("0", "1")
        assert data.load(numbers_file, group="smokes", label="level", **options).num_classes == 30
        assert data.load(numbers_file, group="smokes", **options).label_names == ("0", "1", "2"), "y is not cut"
    one, other = (data.load(numbers_file, group="smokes", **options) for options in ({}, bins))
    for split in data.SPLITS:
        np.testing.assert_array_equal(one.split(split).x, other.split(split).x)
    assert data.load(numbers_file, group="smokes", label="town").num_classes == 25, "codes, however many"


def test_numbers_of_an_npz_file_without_bins_say_so(numbers_file, tmp_path):
    assert "data.group: dose has 4" in user_error(data.load, numbers_file, group="dose*smokes")
    assert "give the edges of bins with data.bins" in user_error(data.load, numbers_file, label="dose")
    assert "data.bins: 30 10 do not rise" in user_error(data.load, numbers_file, group="dose", bins=(30.0, 10.0))
    np.savez(tmp_path / "y.npz", **arrays(y=np.arange(60.0), x=np.ones((60, 2)), race=np.arange(60) % 2))
    message = user_error(data.load, str(tmp_path / "y.npz"))
    assert "array 'y'" in message
    assert "has 60 distinct numbers; give the edges of bins with data.bins" in message
    assert data.load(str(tmp_path / "y.npz"), bins=(20.0,)).label_names == ("<20", "20+")


def damage_half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage_empty(path):
    path.write_bytes(b"")


def damage_text(path):
    path.write_text("x,y\n1,2\n")


def damage_inside(path):
    np.savez_compressed(path, **arrays(x=np.random.default_rng(0).normal(size=(20, 50))))
    content = bytearray(path.read_bytes())
    for at in range(60, 400, 40):  # the directory at the end stays whole: it shows only on unpacking
        content[at] ^= 0xFF
    path.write_bytes(content)


def damage_npy(path):
    with path.open("wb") as file:
        np.save(file, np.ones(3))


def damage_gone(path):
    path.unlink()


def damage_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage", [damage_half, damage_empty, damage_text, damage_inside, damage_npy, damage_gone, damage_folder]
)
def test_a_file_that_is_no_npz_file_is_refused(damage, tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, **arrays())
    damage(path)
    assert str(path) in user_error(data.load, str(path))


# --- names and settings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("adlut", {}, ["data.name", "'adlut'", "'adult'"]),
        ("zzz", {}, ["known:", "adult", "digits"]),
        ("adult", {"group": "rase"}, ["data.group", "'race'"]),
        ("adult", {"label": "incone"}, ["data.label", "'income'"]),
        ("adult", {"group": "race*race"}, ["data.group", "twice"]),
        # One person only was born in Holand-Netherlands.
        ("adult", {"group": "native-country"}, ["data.group", "'Holand-Netherlands'", "without examples"]),
        ("digits", {"validation": 0.0}, ["data.validation", "0.0"]),
        ("digits", {"validation": 1.0}, ["data.validation", "1.0"]),
        ("digits", {"validation": float("nan")}, ["data.validation", "nan"]),
        ("digits", {"imbalance": 0.5}, ["data.imbalance", "0.5"]),
    ],
)
def test_wrong_settings_are_errors_that_help(name, settings, said):
    message = user_error(data.load, name, **settings)
    for words in said:
        assert words in message


def test_splits_are_even_over_the_label_however_many_columns_there_are(tmp_path):
    """The product of the numbers of kinds of 70 columns does not fit 64 bits."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [900, 100])
    columns = {f"c{i}": rng.integers(0, 2, 1000) for i in range(70)}
    np.savez(tmp_path / "wide.npz", x=rng.normal(size=(1000, 2)), y=y, **columns)
    dataset = data.load(str(tmp_path / "wide.npz"))
    assert [int(dataset.split(split).y.sum()) for split in data.SPLITS] == [64, 16, 20]


def test_cells_are_numbered_in_the_order_of_their_columns():
    columns = [np.array([1, 0, 1, 0, 7]), np.array([0, 5, 0, -3, 0], np.int8), np.array([2, 2, 9, 2, 2], np.uint8)]
    np.testing.assert_array_equal(cells_of(columns), [2, 1, 3, 0, 4])


def test_a_label_of_one_class_is_refused(tmp_path):
    np.savez(tmp_path / "one.npz", **arrays(y=np.zeros(20, int), y_names=["no", "yes"]))
    assert "data.label: y is 'no' for every example" in user_error(data.load, str(tmp_path / "one.npz"))
