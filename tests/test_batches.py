"""What the functions of the library refuse: labels, groups, weights, logits and keys that cannot be used."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilations import compiles
from scipy.special import log_softmax

from jaxprune import (
    auditing,
    losses,
    mitigation,
    models,
    pruning,
    sharding,
    states,
    streaming,
    theory,
    training,
)
from jaxprune.errors import UserError
from jaxprune.groups import group_count, group_mean, group_sum
from jaxprune.networks import Network
from jaxprune.types import Batch

G, C = 2, 3
RNG = np.random.default_rng(0)
PARAMS = {"w": RNG.normal(size=(4, C)).astype(np.float32)}
PEOPLE = Batch(
    RNG.normal(size=(12, 4)).astype(np.float32),
    np.arange(12, dtype=np.int32) % C,
    np.arange(12, dtype=np.int32) // 6,
    np.ones(12, np.float32),
)


def linear(params, x):
    return x @ params["w"]


def one_logit(params, x):
    return x @ params["w"][:, :1]


def flat_logit(params, x):
    return x @ params["w"][:, 0]


def pixels(params, x):
    return jnp.broadcast_to(x[:, None, None] @ params["w"], (len(x), 2, 2, C))


def change(field, index, value):
    """The people with one entry of one field changed."""
    values = getattr(PEOPLE, field).copy()
    values[index] = value
    return PEOPLE._replace(**{field: values})


def of_outcomes(apply, params, batch):
    results = auditing.outcomes(linear, PARAMS, PEOPLE)
    return auditing.evaluation_sums(results, batch, G), auditing.change_sums(results, results, batch, G)


def method_data(apply, params, batch):
    return mitigation.METHODS["balanced"], mitigation.method_data(
        mitigation.METHODS["balanced"], batch, PEOPLE, num_groups=G
    )


# What takes a network for classes and examples of two groups.
CLASSIFIED = {
    "evaluate": lambda a, p, b: auditing.evaluate(a, p, b, num_groups=G),
    "sampling_error": lambda a, p, b: auditing.sampling_error(a, p, p, b, num_groups=G),
    "streaming.evaluate": lambda a, p, b: streaming.evaluate(a, p, b, num_groups=G),
    "group_importance": lambda a, p, b: pruning.group_importance(a, p, b, num_groups=G),
    "group_curvature": lambda a, p, b: pruning.group_curvature(a, p, b, num_groups=G),
    "fairprune": lambda a, p, b: pruning.fairprune().score(p, apply=a, batch=b, num_groups=G),
    "dense_reference": lambda a, p, b: mitigation.dense_reference(a, p, b, num_groups=G),
    "held_out": lambda a, p, b: mitigation.dense_reference(a, p, PEOPLE, num_groups=G, held_out=b),
}
# What takes examples of two groups and labels, and logits of any kind.
LABELLED = {
    "group_gradients": lambda a, p, b: theory.group_gradients(a, p, b, num_groups=G),
    "group_operator": lambda a, p, b: theory.group_operator(a, p, b, num_groups=G),
    "taylor": lambda a, p, b: theory.taylor(a, p, p, b, num_groups=G),
}
# What takes groups alone into account.
GROUPED = {
    "evaluation_sums": of_outcomes,
    "boundary_distance": lambda a, p, b: theory.boundary_distance(a, p, b, num_groups=G),
    "method_data": method_data,
}


def fit(batch, *, key=None, step=None, state=None):
    tx = optax.sgd(0.1)
    step = training.make_step(linear, losses.cross_entropy, tx) if step is None else step
    state = training.init_state(PARAMS, tx) if state is None else state
    key = jax.random.key(0) if key is None else key
    return training.fit(step, state, batch, key=key, epochs=1, batch_size=6)


def message(function, *arguments, **options):
    with pytest.raises(UserError) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("name", CLASSIFIED | LABELLED | GROUPED)
def test_groups_out_of_range_are_refused(name, on_device):
    function = (CLASSIFIED | LABELLED | GROUPED)[name]
    for value in (-1, G):
        batch = change("group", 7, value)
        batch = jax.tree.map(jnp.asarray, batch) if on_device else batch
        expected = f"batch.group: group {value} of example 7 is out of range; num_groups = 2 takes 0 and 1"
        hint = " (codes that start at 1? subtract 1)" if value == G else ""
        assert message(function, linear, PARAMS, batch) == expected + hint


@pytest.mark.parametrize("name", ["outcomes", *CLASSIFIED, *LABELLED])
def test_labels_out_of_range_are_refused(name):
    functions = CLASSIFIED | LABELLED | {"outcomes": auditing.outcomes}
    for value in (-1, C):
        text = message(functions[name], linear, PARAMS, change("y", 5, value))
        assert f"y: label {value} of example" in text
        assert "out of range" in text


@pytest.mark.parametrize("name", ["outcomes", *CLASSIFIED])
def test_logits_and_labels_that_are_not_of_classes_are_refused(name):
    function = (CLASSIFIED | {"outcomes": auditing.outcomes})[name]
    for apply in (one_logit, flat_logit):
        assert "jnp.concatenate([jnp.zeros_like" in message(function, apply, PARAMS, PEOPLE)
    assert "each pixel an example" in message(function, pixels, PARAMS, PEOPLE)
    one_hot = PEOPLE._replace(y=np.eye(C, dtype=np.int32)[PEOPLE.y])
    assert "argmax(-1)" in message(function, linear, PARAMS, one_hot)
    assert "regression" in message(function, linear, PARAMS, PEOPLE._replace(y=PEOPLE.y + 0.5))


@pytest.mark.parametrize("name", ["fit", *CLASSIFIED, *LABELLED, "boundary_distance"])
def test_weights_and_lengths_that_cannot_be_used_are_refused(name):
    function = (CLASSIFIED | LABELLED | GROUPED | {"fit": lambda a, p, b: fit(b)})[name]
    for value in (-1.0, np.nan, np.inf):
        text = message(function, linear, PARAMS, change("weight", 3, value))
        assert text.startswith(f"batch.weight: {value} of example 3 is negative or not finite")
    for field in ("weight", "group"):
        short = PEOPLE._replace(**{field: getattr(PEOPLE, field)[:5]})
        assert message(function, linear, PARAMS, short).startswith(f"batch.{field}: shape (5,) for 12 examples")
    assert "one label per input" in message(function, linear, PARAMS, PEOPLE._replace(x=PEOPLE.x[:5]))


def test_fit_refuses_negative_labels():
    """Fit refuses labels and groups below zero but takes labels of other kinds."""
    assert "label -1 of example 2" in message(fit, change("y", 2, -1))
    assert "group -1 of example 2" in message(fit, change("group", 2, -1))
    step = training.make_step(linear, lambda z, y: jnp.sum((z - y) ** 2, -1), optax.sgd(0.1))
    targets = PEOPLE._replace(y=RNG.normal(size=(12, C)).astype(np.float32))
    state, _ = fit(targets, step=step)
    assert np.isfinite(state.params["w"]).all()


def test_padding_may_hold_any_label_and_group():
    padding = Batch(np.zeros((2, 4), np.float32), np.array([-1, C]), np.array([-1, G]), np.zeros(2, np.float32))
    padded = Batch(*(np.concatenate([a, b]) for a, b in zip(PEOPLE, padding, strict=True)))
    for name in ("evaluate", "group_gradients", "group_importance"):
        function = (CLASSIFIED | LABELLED)[name]
        for one, other in zip(*(jax.tree.leaves(function(linear, PARAMS, b)) for b in (PEOPLE, padded)), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def expected_metrics():
    logits = np.asarray(PEOPLE.x, float) @ np.asarray(PARAMS["w"], float)
    loss = -log_softmax(logits, 1)[np.arange(12), PEOPLE.y]
    right = logits.argmax(1) == PEOPLE.y
    return [loss[PEOPLE.group == a].mean() for a in range(G)], [right[PEOPLE.group == a].mean() for a in range(G)]


@pytest.mark.parametrize("weight", [None, np.ones(12, int), np.ones(12, bool), [1.0] * 12])
def test_weights_left_out_or_of_another_type_are_ones(weight):
    metrics = auditing.evaluate(linear, PARAMS, PEOPLE._replace(weight=weight), num_groups=G)
    loss, accuracy = expected_metrics()
    np.testing.assert_allclose(metrics.loss, loss, rtol=1e-6)
    np.testing.assert_allclose(metrics.accuracy, accuracy, rtol=1e-6)
    np.testing.assert_array_equal(metrics.size, [6, 6])


@pytest.mark.parametrize("name", ["fit", *CLASSIFIED, *LABELLED])
def test_every_function_takes_examples_without_weights(name):
    function = (CLASSIFIED | LABELLED | {"fit": lambda a, p, b: fit(b)})[name]
    with_ones, without = (function(linear, PARAMS, PEOPLE._replace(weight=w)) for w in (PEOPLE.weight, None))
    for one, other in zip(jax.tree.leaves(with_ones), jax.tree.leaves(without), strict=True):
        np.testing.assert_array_equal(one, other)


def test_compiled_functions_work_and_are_not_checked():
    def loss(batch):
        return auditing.evaluate(linear, PARAMS, batch, num_groups=G).loss

    np.testing.assert_allclose(jax.jit(loss)(PEOPLE), expected_metrics()[0], rtol=1e-6)
    assert jax.jit(loss)(change("group", 3, G)).shape == (G,)
    assert "group" in message(jax.jit(lambda p: loss(p)), PEOPLE._replace(group=PEOPLE.group[:5]))
    total, count = jax.jit(lambda g: (group_sum(PEOPLE.weight, g, G), group_count(g, G)))(PEOPLE.group)
    np.testing.assert_array_equal([total, count], [[6, 6]] * 2)


def test_a_second_call_compiles_nothing():
    people = jax.tree.map(jnp.asarray, PEOPLE)
    auditing.evaluate(linear, PARAMS, people, num_groups=G)
    with compiles(0, of="faults"):
        auditing.evaluate(linear, PARAMS, people, num_groups=G + 1)


def test_check_traces_network_once():
    """The network is neither run nor traced again by a second check."""
    traced = []

    def counted(params, x):
        traced.append(type(x))
        return linear(params, x)

    for _ in range(2):
        auditing.evaluate(counted, PARAMS, PEOPLE, num_groups=G)
    assert len(traced) == 2  # once for the shape, once for the compiled program
    assert all(issubclass(kind, jax.core.Tracer) for kind in traced)


def test_sums_by_group_refuse_groups_out_of_range():
    values, group = np.ones(3, np.float32), np.array([0, 2, 1])
    for function in (
        lambda: group_sum(values, group, 2),
        lambda: group_mean(values, group, 2),
        lambda: group_count(group, 2),
    ):
        assert message(function).startswith("group: group 2 of example 1 is out of range")
    np.testing.assert_array_equal(group_sum(values, group, 2, np.array([1.0, 0, 1])), [1, 1])


def test_cross_entropy_refuses_bad_labels():
    """Cross entropy refuses shapes and labels that have no value."""
    logits = jnp.asarray(PEOPLE.x @ PARAMS["w"])
    assert "softmax of one logit" in message(losses.cross_entropy, logits[:, :1], PEOPLE.y)
    assert "one class number" in message(losses.cross_entropy, logits, np.eye(C, dtype=int)[PEOPLE.y])
    assert "y: label 3 of example 0" in message(losses.cross_entropy, logits, PEOPLE.y + 3)
    by_pixel = losses.cross_entropy(logits.reshape(3, 4, C), PEOPLE.y.reshape(3, 4))
    np.testing.assert_allclose(by_pixel.ravel(), losses.cross_entropy(logits, PEOPLE.y), rtol=1e-6)


STATE = training.init_state(PARAMS, optax.sgd(0.1))
KEYED = {
    "fit": lambda key: training.fit(lambda s, b: (s, {}), STATE, PEOPLE, key=key, epochs=0, batch_size=6),
    "create": lambda key: models.create("mlp", key, PEOPLE.x[0], num_classes=C, hidden=(2,)),
    "random": lambda key: pruning.random().score(PARAMS, key=key),
    "boundary": lambda key: theory.example_boundary_distances(linear, PARAMS, PEOPLE, key, samples=2),
    "eigenvalues": lambda key: theory.group_top_eigenvalues(linear, PARAMS, PEOPLE, num_groups=G, key=key),
}


@pytest.mark.parametrize("name", KEYED)
def test_what_is_no_key_is_refused(name):
    for key in (0, None, np.zeros(2, np.int32), np.zeros(3, np.uint32)):
        text = message(KEYED[name], key)
        assert text.startswith("key: ")
        assert "jax.random.key(0)" in text


def test_keys_of_either_kind_give_the_same():
    for name in ("create", "random"):
        results = [jax.tree.leaves(KEYED[name](key)) for key in (jax.random.key(3), jax.random.PRNGKey(3))]
        numbers = [[leaf for leaf in leaves if isinstance(leaf, jax.Array)] for leaves in results]
        for one, other in zip(*numbers, strict=True):
            np.testing.assert_array_equal(one, other)
    states.check_key(np.asarray(jax.random.PRNGKey(0)))
    states.check_key(jax.random.split(jax.random.key(0), 3))


def test_statistics_that_were_forgotten_are_named():
    network = Network(None, lambda params, stats, x, train: (linear(params, x), {"mean": jnp.mean(x, 0)}))
    step = training.make_step(network, losses.cross_entropy, optax.sgd(0.1))
    assert "training.init_state(params, tx, stats)" in message(fit, PEOPLE, step=step)
    state = training.init_state(PARAMS, optax.sgd(0.1), {"mean": jnp.zeros(4)})
    assert fit(PEOPLE, step=step, state=state)[0].stats["mean"].shape == (4,)


def test_modules_take_no_statistics_only_where_they_need_none():
    tx = optax.sgd(0.1)
    network, params, _ = models.create("mlp", jax.random.key(0), PEOPLE.x[0], num_classes=C, hidden=(2,))
    step = training.make_step(network, losses.cross_entropy, tx)
    assert fit(PEOPLE, step=step, state=training.init_state(params, tx))[0].stats == ()
    images = PEOPLE._replace(x=np.ones((12, 8, 8, 1), np.float32))
    network, params, _ = models.create("resnet18", jax.random.key(0), images.x[0], num_classes=C, width=1)
    step = training.make_step(network, losses.cross_entropy, tx)
    text = message(fit, images, step=step, state=training.init_state(params, tx))
    assert "training.init_state(params, tx, stats)" in text


def test_a_mesh_of_other_axes_is_refused():
    mesh = jax.make_mesh((1,), ("rows",))
    assert "'data' is not among them" in message(sharding.batch_sharding, mesh)
    step = training.make_step(linear, losses.cross_entropy, optax.sgd(0.1))
    state, key = training.init_state(PARAMS, optax.sgd(0.1)), jax.random.key(0)
    options = {"key": key, "epochs": 1, "batch_size": 6, "mesh": mesh}
    assert message(streaming.fit, step, state, PEOPLE, **options).startswith("mesh: its axes are rows")


def test_audit_of_other_tasks():
    """Other tasks are audited in the form that the manual gives.

    Segmentation by pixel, each of several labels on its own, and the errors of a regression, against numpy.
    """
    logits, y, group = RNG.normal(size=(4, 2, 3, C)), RNG.integers(0, C, (4, 2, 3)), np.array([0, 1, 1, 0])
    by_pixel = Batch(logits.reshape(-1, C).astype(np.float32), y.reshape(-1), np.repeat(group, 6))
    right = logits.argmax(-1) == y
    accuracy = auditing.evaluate(lambda params, z: z, {}, by_pixel, num_groups=G).accuracy
    np.testing.assert_allclose(accuracy, [right[group == a].mean() for a in range(G)], rtol=1e-6)

    scores, several = RNG.normal(size=(12, 3)).astype(np.float32), RNG.integers(0, 2, (12, 3))
    for k in range(3):
        batch = Batch(scores, several[:, k], PEOPLE.group)
        metrics = auditing.evaluate(lambda _, z, k=k: jnp.stack([0 * z[:, k], z[:, k]], -1), {}, batch, num_groups=G)
        right = (scores[:, k] > 0) == several[:, k]
        np.testing.assert_allclose(metrics.accuracy, [right[PEOPLE.group == a].mean() for a in range(G)], rtol=1e-6)

    errors = scores[:, 0] ** 2
    means = group_mean(errors, PEOPLE.group, G)[0]
    np.testing.assert_allclose(means, [np.mean(errors[PEOPLE.group == a]) for a in range(G)], rtol=1e-6)


class Tensor:
    """As a tensor of torch: an array to numpy alone, with a type that is not numpy's."""

    def __init__(self, values, gradient=False):
        self.values, self.gradient, self.dtype, self.shape = np.asarray(values), gradient, "torch.int64", ()

    def __array__(self, dtype=None, copy=None):
        if self.gradient:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        return self.values


TRUTHS = PEOPLE._replace(y=PEOPLE.y % 2)


@pytest.mark.parametrize("name", ["evaluate", "streaming.evaluate", "group_gradients", "fit"])
def test_whatever_holds_numbers_is_read_as_arrays(name):
    def call(batch):
        result = fit(batch)[1] if name == "fit" else (CLASSIFIED | LABELLED)[name](linear, PARAMS, batch)
        return jax.tree.map(np.asarray, [leaf for leaf in jax.tree.leaves(result) if hasattr(leaf, "dtype")])

    expected = call(TRUTHS)
    for given in (
        Batch(*(field.tolist() for field in TRUTHS)),
        Batch(*map(Tensor, TRUTHS)),
        TRUTHS._replace(y=TRUTHS.y == 1, group=TRUTHS.group == 1),
        TRUTHS._replace(y=jnp.asarray(TRUTHS.y == 1)),
    ):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), call(given), expected)


def test_tables_of_pandas_are_read_as_arrays():
    pandas = pytest.importorskip("pandas")
    rows = range(5, 17)  # an index that is not that of the rows
    given = Batch(pandas.DataFrame(PEOPLE.x, rows), *(pandas.Series(field, rows) for field in PEOPLE[1:]))
    found, expected = (CLASSIFIED["evaluate"](linear, PARAMS, batch) for batch in (given, PEOPLE))
    np.testing.assert_allclose(found.loss, expected.loss)
    np.testing.assert_allclose(fit(given)[1]["loss"], fit(PEOPLE)[1]["loss"])
    text = given._replace(y=pandas.Series(["a"] * 12, dtype=object))
    assert "batch.y: this Series is no array of numbers" in message(CLASSIFIED["evaluate"], linear, PARAMS, text)


@pytest.mark.parametrize("field", [[[1, 2], [3]] * 6, Tensor([1], gradient=True), object()])
def test_what_holds_no_numbers_is_refused(field):
    for name in ("x", "y", "group"):
        said = message(CLASSIFIED["evaluate"], linear, PARAMS, PEOPLE._replace(**{name: field}))
        assert f"batch.{name}: this {type(field).__name__} is no array of numbers" in said
