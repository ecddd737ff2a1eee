"""Training of a node: who is looked at, what is kept, and violations on whole splits."""

import jax
import numpy as np
import pytest
from experiments import experiment, store

from jaxprune.auditing import GroupMetrics
from jaxprune.data.batching import select
from jaxprune.mitigation import METHODS, excess_accuracy_gap
from jaxprune.pipeline.networks import networks_of
from jaxprune.pipeline.nodes import DENSE
from jaxprune.pipeline.train import Training, method_inputs, score_on, training_data
from jaxprune.pipeline.validation import validation_halves
from jaxprune.pipeline.violations import violation_of

SMALL = {"data.name": "synthetic", "model.hidden": (4,), "seeds": 1, "train.epochs": 1, "prune.sparsities": (0.5,)}


def task(made, name: str, reference=None) -> Training:
    halves = validation_halves(made.dataset, [name])
    return Training(METHODS[name], {}, halves, reference, "a training", "", made.span("retrain"))


@pytest.fixture(scope="module")
def made():
    return experiment(SMALL)


def test_the_multipliers_never_see_those_who_choose(made):
    one = task(made, "equal_loss_held_out")
    seen = np.asarray(training_data(made, one).held_out.x)
    choosing = select(made.dataset.validation, one.halves.choosing)
    rows = [{row.tobytes() for row in np.asarray(x)} for x in (seen, choosing.x)]
    assert not rows[0] & rows[1]
    assert rows[0] | rows[1] == {row.tobytes() for row in np.asarray(made.dataset.validation.x)}
    params, stats = made.initialise()
    outputs = made.network.freeze(stats)(jax.tree.map(lambda leaf: leaf[0], params), choosing.x)
    right = np.argmax(outputs, -1) == choosing.y
    np.testing.assert_allclose(
        score_on(made, METHODS["naive_best"].selection, one.halves.choosing, params, stats), [right.mean()], rtol=1e-5
    )


def test_dense_outputs_are_those_of_the_people_held_out(made, tmp_path):
    here = store(tmp_path)
    dense = networks_of(made, here, DENSE)
    one = task(made, "ceag_held_out", dense)
    inputs = method_inputs(made, here, one)
    params, stats = jax.tree.map(lambda leaf: leaf[0], (dense.params, dense.stats))
    expected = made.network.freeze(stats)(params, training_data(made, one).held_out.x)
    np.testing.assert_allclose(inputs.dense.held_out[0], expected, atol=1e-5)


def test_violation_on_a_whole_split():
    size = np.array([600.0, 300.0, 100.0])
    dense, own = (np.array([row] * 2) for row in ([0.9, 0.85, 0.8], [0.88, 0.8, 0.62]))

    def metrics(accuracy):
        share = size / size.sum()
        return GroupMetrics(
            size=np.broadcast_to(size, accuracy.shape), loss=1 - accuracy, accuracy=accuracy,
            overall_loss=(1 - accuracy) @ share, overall_accuracy=accuracy @ share,
        )  # fmt: skip

    violation = violation_of(excess_accuracy_gap(3), 0.05, metrics(own), metrics(dense))
    drop = dense - own
    np.testing.assert_allclose(violation, drop - (drop @ size / 1000)[:, None] - 0.05, atol=1e-5)
