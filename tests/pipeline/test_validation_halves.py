"""Who decides in a comparison: the half of the validation split that moves multipliers, and the half that chooses."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxprune import config
from jaxprune.data import from_arrays
from jaxprune.errors import UserError
from jaxprune.pipeline.context import Context, Silent
from jaxprune.pipeline.experiment import resolve
from jaxprune.pipeline.networks import dense
from jaxprune.pipeline.protocol import deciders
from jaxprune.pipeline.stage import Workspace
from jaxprune.pipeline.trials import Trials, trial_stage

NOBODY = ("naive_best", "equal_loss", "equal_loss_buffer")  # holds people out
CUT = (*NOBODY, "equal_loss_held_out")


def settings(methods, **more):
    return config.load(None, {"compare.methods": methods} | more)


def dataset(group, y, x=None):
    """One of which the validation split is given; every input is the number of its example."""
    x = np.arange(len(y), dtype=np.float32)[:, None] if x is None else x
    ends = np.arange(4), np.arange(4) % 2, np.arange(4)
    few = (np.zeros((4, *x.shape[1:]), x.dtype), *ends[1:])
    names = tuple("abcd")
    return from_arrays(few, (x, y, group), few, label_names=["no", "yes", "more"], group_names=names)


@pytest.fixture
def uneven():
    """Groups of 400, 61, 7 and 2, in which the labels are of unlike shares."""
    rng = np.random.default_rng(2)
    group = rng.permutation(np.repeat(np.arange(4), (400, 61, 7, 2)))
    return dataset(group, (rng.random(470) < 0.2 + 0.2 * group) + (rng.random(470) < 0.1))


def test_the_halves_are_disjoint_cover_the_split_and_are_alike(uneven):
    found = deciders(settings(CUT), uneven)
    here, there = (set(half.x[:, 0].astype(int)) for half in found)
    assert not here & there
    assert here | there == set(range(470))
    assert abs(len(here) - len(there)) <= 1
    validation = uneven.validation
    for half in found:  # examples are taken whole
        rows = half.x[:, 0].astype(int)
        np.testing.assert_array_equal(half.y, validation.y[rows])
        np.testing.assert_array_equal(half.group, validation.group[rows])
    for group in range(4):
        a, b = (int((half.group == group).sum()) for half in found)
        assert abs(a - b) <= 1
        assert min(a, b) > 0
        for label in range(3):
            a, b = (int(((half.group == group) & (half.y == label)).sum()) for half in found)
            assert abs(a - b) <= 1, (group, label)


def test_the_halves_depend_on_the_data_alone(uneven):
    first = deciders(settings(CUT), uneven)
    other = settings(("ceag_held_out",), seeds=3, first_seed=9, **{"compare.dual_rates": (0.5,)})
    for one, two in zip(first, deciders(other, uneven), strict=True):
        np.testing.assert_array_equal(one.x, two.x)


def test_where_nobody_is_held_out_the_whole_split_chooses(uneven):
    found = deciders(settings(NOBODY), uneven)
    assert found.choosing is uneven.validation
    assert found.held_out is uneven.validation


def test_a_group_that_cannot_be_in_both_halves_is_refused(uneven):
    alone = np.append(np.zeros(9, int), [1, 2, 2, 3, 3])
    with pytest.raises(UserError, match=r"equal_loss_held_out .*group 'b' is too small to be in both; raise data.val"):
        deciders(settings(CUT), dataset(alone, np.zeros(14, int)))
    deciders(settings(NOBODY), dataset(alone, np.zeros(14, int)))


def test_copies_of_an_image_are_in_one_half():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 3, 3, 1), np.uint8)
    x = np.concatenate([images, images])
    group = np.tile(np.arange(40) % 4, 2)
    found = deciders(settings(CUT), dataset(group, np.zeros(80, int), x))
    here, there = ({image.tobytes() for image in half.x} for half in found)
    assert not here & there
    assert len(here) == len(there) == 20
    again = dataset(np.repeat(np.arange(4), 2), np.zeros(8, int), np.repeat(images[:4], 2, axis=0))
    with pytest.raises(UserError, match="group 'a' is too small"):
        deciders(settings(CUT), again)


SMALL = {"data.name": "synthetic", "model.hidden": (4,), "seeds": 1, "train.epochs": 1, "prune.sparsities": (0.5,)}


def test_the_multipliers_never_see_those_who_choose(tmp_path):
    """In the arrays that training and choosing are given."""
    experiment = resolve(settings(CUT, **SMALL))
    trials = Trials(Context(experiment, Workspace(tmp_path), Silent(), 30))
    seen, choosing = trials._data("equal_loss_held_out").held_out.x, trials.deciders.choosing.x
    rows = [{row.tobytes() for row in np.asarray(x)} for x in (seen, choosing)]
    assert not rows[0] & rows[1]
    assert rows[0] | rows[1] == {row.tobytes() for row in np.asarray(experiment.dataset.validation.x)}
    params, stats = experiment.initialise()
    outputs = experiment.network.freeze(stats)(jax.tree.map(lambda leaf: leaf[0], params), choosing)
    right = np.argmax(outputs, -1) == np.asarray(trials.deciders.choosing.y)
    np.testing.assert_allclose(trials._accuracy(params, stats), [right.mean()], rtol=1e-5)


def test_the_dense_outputs_are_those_of_the_people_who_move_the_multipliers(tmp_path):
    experiment = resolve(settings(("ceag_held_out",), **SMALL))
    context = Context(experiment, Workspace(tmp_path), Silent(), 30)
    trials = Trials(context)
    params, stats = jax.tree.map(lambda leaf: leaf[0], dense(context, False)[:2])
    expected = experiment.network.freeze(stats)(params, trials._data("ceag_held_out").held_out.x)
    np.testing.assert_allclose(trials.surroundings.dense.held_out[0], expected, atol=1e-5)


def test_addresses_change_where_other_people_decide(tmp_path):
    experiment = resolve(settings(CUT, **SMALL))

    def stage(name, methods):
        compared = experiment.settings.compare.model_copy(update={"methods": methods})
        changed = replace(experiment, settings=experiment.settings.model_copy(update={"compare": compared}))
        return trial_stage(Context(changed, Workspace(tmp_path), Silent(), 30), name, 0.5, {})

    for name in ("naive", "equal_loss", "equal_loss_buffer"):
        assert stage(name, CUT).address == stage(name, NOBODY).address
    assert stage("naive_best", CUT).address != stage("naive_best", NOBODY).address
    assert stage("equal_loss_held_out", CUT).settings["validation"] == "halves"  # unlike those from before the cut
