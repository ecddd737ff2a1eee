"""Criteria that differentiate the loss, against closed forms and float64 by other means."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune import pruning
from jaxprune.compat import enable_x64
from jaxprune.data import Dataset
from jaxprune.errors import UserError
from jaxprune.losses import cross_entropy
from jaxprune.pruning import CRITERIA
from jaxprune.pruning.wide_range import apply_scaled
from jaxprune.types import Batch

HIDDEN = 5


def network(params, x):
    """Two layers with a smooth activation, so that second derivatives are those of any other library."""
    return jnp.tanh(x @ params["first"] + params["bias"]) @ params["second"]


def two_layers(seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    shapes = {"first": (4, HIDDEN), "bias": (HIDDEN,), "second": (HIDDEN, 3)}
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def examples(people: Dataset) -> Batch:
    """Weighted examples, some of weight 0, in a number that no chunk size divides."""
    batch = jax.tree.map(lambda a: a[:37], people.train)
    return batch._replace(weight=(np.arange(37) % 4).astype(np.float32))


def by_hand(params, batch, *, temperature=1.0):
    """Loss and gradients of single examples of the two layers, in numpy's float64 by the chain rule.

    Returns losses [N] and a dict of gradients [N, ...].
    """
    p = {name: np.asarray(leaf, np.float64) for name, leaf in params.items()}
    x = np.asarray(batch.x, np.float64)
    hidden = np.tanh(x @ p["first"] + p["bias"])
    logits = hidden @ p["second"] / temperature
    shifted = logits - logits.max(1, keepdims=True)
    probability = np.exp(shifted) / np.exp(shifted).sum(1, keepdims=True)
    label = np.eye(3)[np.asarray(batch.y)]
    slope = (probability - label) / temperature  # by the logits before the temperature
    before = (slope @ p["second"].T) * (1 - hidden**2)
    return -np.log((probability * label).sum(1)), {
        "first": x[:, :, None] * before[:, None, :],
        "bias": before,
        "second": hidden[:, :, None] * slope[:, None, :],
    }


def weighted(values, weight):
    weight = np.asarray(weight, np.float64)
    return np.tensordot(weight / max(weight.sum(), 1e-300), values, 1)


def mean_of(params, batch, **options):
    return {name: weighted(g, batch.weight) for name, g in by_hand(params, batch, **options)[1].items()}


def assert_close(tree, expected, **options):
    options = {"rtol": 1e-4, "atol": 1e-6} | options
    assert set(tree) == set(expected)
    for name in tree:
        np.testing.assert_allclose(tree[name], expected[name], err_msg=name, **options)


# --- gradients -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_size", [None, 10, 37])
def test_the_mean_gradient_is_that_of_the_chain_rule(chunk_size, examples):
    params = two_layers()
    found = pruning.mean_gradient(network, params, examples, chunk_size=chunk_size)
    assert_close(found, mean_of(params, examples))


@pytest.mark.parametrize("chunk_size", [None, 1, 8, 100])
@pytest.mark.parametrize("traced", [False, True])
def test_gradients_of_all_groups_are_those_of_each_alone(traced, chunk_size, examples):
    """Group 3 of 4 has no examples: its gradient is 0."""
    params = two_layers()

    def gradients(params, batch):
        return pruning.group_gradients(network, params, batch, num_groups=4, chunk_size=chunk_size)

    found = (jax.jit(gradients) if traced else gradients)(params, examples)
    for a in range(4):
        group = examples._replace(weight=np.where(examples.group == a, examples.weight, 0))
        assert_close({name: leaf[a] for name, leaf in found.items()}, mean_of(params, group))


def test_examples_of_weight_0_may_hold_anything_in_the_gradients_of_groups(examples):
    params, counts = two_layers(), np.asarray(examples.weight) > 0
    spoiled = examples._replace(
        x=np.where(counts[:, None], examples.x, np.nan),
        y=np.where(counts, examples.y, -1),
        group=np.where(counts, examples.group, 99),
    )
    found = pruning.group_gradients(network, params, spoiled, num_groups=3)
    expected = pruning.group_gradients(network, params, examples, num_groups=3)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_gradients_of_half_precision_are_summed_in_float32(examples):
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), two_layers())
    found = pruning.mean_gradient(network, half, examples, chunk_size=1)
    assert {leaf.dtype for leaf in found.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((0, 4)), "y": np.zeros(0, int), "group": np.zeros(0, int), "weight": None}, "batch: there are"),
        ({"y": np.full(37, 3)}, "batch.y: label 3"),
        ({"weight": np.full(37, np.nan)}, "batch.weight: nan"),
        ({"group": np.full(37, 3)}, "batch.group: group 3"),
    ],
)
def test_unusable_examples_are_an_error_of_one_line(change, message, examples):
    with pytest.raises(UserError, match=f"^{message}") as error:
        pruning.group_gradients(network, two_layers(), examples._replace(**change), num_groups=3)
    assert "\n" not in str(error.value)


# --- first order ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["taylor", "snip"])
def test_first_order_scores_by_hand(name, examples):
    params = two_layers()
    grads = pruning.mean_gradient(network, params, examples)
    expected = {key: np.abs(params[key] * g) for key, g in mean_of(params, examples).items()}
    if name == "snip":
        total = sum(leaf.sum() for leaf in expected.values())
        expected = {key: leaf / total for key, leaf in expected.items()}
    assert_close(CRITERIA.make(name).score(params, grads=grads), expected)


def test_snip_of_tiny_and_of_no_gradients_is_finite():
    params = {"w": jnp.array([1.0, 3.0])}
    tiny = {"w": jnp.full(2, 1e-36)}
    np.testing.assert_allclose(pruning.snip().score(params, grads=tiny)["w"], [0.25, 0.75], rtol=1e-6)
    none = {"w": jnp.zeros(2)}
    np.testing.assert_array_equal(pruning.snip().score(params, grads=none)["w"], [0, 0])


def test_prune_computes_the_gradient_that_a_criterion_needs(examples):
    params = two_layers()
    grads = pruning.mean_gradient(network, params, examples)
    evidence = {"apply": network, "batch": examples}
    implicit = pruning.prune(params, 0.5, criterion=pruning.taylor(), **evidence)
    jax.tree.map(
        np.testing.assert_array_equal, implicit, pruning.prune(params, 0.5, criterion=pruning.taylor(), grads=grads)
    )

    def twice(logits, y):
        return 2 * cross_entropy(logits, y) + logits[:, 0]

    own = pruning.prune(params, 0.5, criterion=pruning.taylor(), loss=twice, **evidence)
    other = pruning.mean_gradient(network, params, examples, loss=twice)
    jax.tree.map(
        np.testing.assert_array_equal, own, pruning.prune(params, 0.5, criterion=pruning.taylor(), grads=other)
    )


def test_the_worst_group_decides_by_the_largest_product(examples):
    params = two_layers()
    scores = pruning.worst_group_taylor().score(params, apply=network, batch=examples, num_groups=3)
    groups = [
        mean_of(params, examples._replace(weight=np.where(examples.group == a, examples.weight, 0))) for a in range(3)
    ]
    assert_close(scores, {name: np.abs(params[name]) * np.max([np.abs(g[name]) for g in groups], 0) for name in params})


# --- GraSP ---------------------------------------------------------------------------------------------------------


def test_grasp_is_the_product_with_the_hessian_at_the_temperature(examples):
    """H g as a central difference of gradients by hand, in float64."""
    params = two_layers()
    wide = {name: leaf.astype(np.float64) for name, leaf in params.items()}
    gradient, step = mean_of(wide, examples, temperature=200.0), 1e-2
    ahead, behind = (
        mean_of({n: wide[n] + sign * step * gradient[n] for n in wide}, examples, temperature=200.0) for sign in (1, -1)
    )
    expected = {n: wide[n] * (ahead[n] - behind[n]) / (2 * step) for n in wide}
    scores = pruning.grasp().score(params, apply=network, batch=examples)
    scale = max(np.abs(leaf).max() for leaf in expected.values())
    assert_close(scores, expected, rtol=1e-3, atol=1e-4 * scale)


def quadratic():
    """L = ½ θᵀ A θ + bᵀ θ as a loss of the two outputs (½ θᵀAθ + bᵀθ, 0): one example, loss = the first output."""
    rng = np.random.default_rng(0)
    half = rng.normal(size=(4, 4)).astype(np.float32)
    a, b = half + half.T, rng.normal(size=4).astype(np.float32)

    def apply(params, x):
        theta = params["w"]
        return jnp.stack([0.5 * theta @ a @ theta + b @ theta, 0.0])[None] * jnp.ones((len(x), 1))

    batch = Batch(np.zeros((3, 1), np.float32), np.zeros(3), np.zeros(3, int), np.ones(3, np.float32))
    theta = rng.normal(size=4).astype(np.float32)
    return apply, batch, a, b, {"w": theta}, lambda logits, y: logits[:, 0]


def test_grasp_of_a_quadratic_keeps_the_norm_of_the_gradient():
    """θ ⊙ A(Aθ + b); and what it prunes first gains most in the norm of the gradient, to first order."""
    apply, batch, a, b, params, loss = quadratic()
    scores = pruning.grasp(temperature=1.0).score(params, apply=apply, batch=batch, loss=loss)["w"]
    theta = params["w"].astype(np.float64)
    np.testing.assert_allclose(scores, theta * (a @ (a @ theta + b)), rtol=1e-4)
    small = 1e-4  # of each weight
    norms = [np.sum((a @ (theta - small * theta * np.eye(4)[i]) + b) ** 2) for i in range(4)]
    gains = (np.array(norms) - np.sum((a @ theta + b) ** 2)) / small
    np.testing.assert_allclose(-2 * scores, gains, rtol=1e-2)
    assert np.argmin(scores) == np.argmax(gains)


# --- Fisher and the Hessian ----------------------------------------------------------------------------------------


def test_fisher_is_the_mean_of_squared_gradients_by_hand(examples):
    params = two_layers()
    grads = by_hand(params, examples)[1]
    expected = {n: 0.5 * params[n] ** 2 * weighted(g**2, examples.weight) for n, g in grads.items()}
    assert_close(pruning.fisher().score(params, apply=network, batch=examples), expected)


def exact_diagonal(params, batch):
    """The diagonal of jax.hessian in float64."""
    with enable_x64(True):
        wide = {name: jnp.asarray(leaf, jnp.float64) for name, leaf in params.items()}
        flat, unravel = jax.flatten_util.ravel_pytree(wide)
        x, weight = np.asarray(batch.x, np.float64), np.asarray(batch.weight, np.float64)

        def mean(flat):
            return jnp.sum(weight * cross_entropy(network(unravel(flat), x), batch.y)) / weight.sum()

        return jax.tree.map(np.asarray, unravel(jnp.diag(jax.jit(jax.hessian(mean))(flat))))


def test_the_exact_diagonal_of_the_hessian(examples):
    params = two_layers()
    found, error = pruning.hessian_diagonal(network, params, examples, probes=None, chunk_size=9)
    expected = exact_diagonal(params, examples)
    assert_close(found, expected, atol=1e-5)
    assert all(not leaf.any() for leaf in jax.tree.leaves(error))
    scores = pruning.obd().score(params, apply=network, batch=examples, key=jax.random.key(0))
    assert_close(scores, {n: 0.5 * params[n] ** 2 * expected[n] for n in params}, atol=1e-5)


def test_the_estimate_of_the_diagonal_is_as_wrong_as_it_says(examples):
    """The errors in units of the standard error have mean 0 and variance 1; 21 probes fill no block of 16."""
    params, expected = two_layers(), exact_diagonal(two_layers(), examples)
    flat = jax.flatten_util.ravel_pytree(expected)[0]

    @jax.jit
    @jax.vmap
    def estimate(key):
        found = pruning.hessian_diagonal(network, params, examples, probes=21, key=key)
        return [jax.flatten_util.ravel_pytree(tree)[0] for tree in found]

    value, error = map(np.asarray, estimate(jax.random.split(jax.random.key(1), 200)))
    assert (np.abs(value.mean(0) - flat) < 5 * value.std(0, ddof=1) / np.sqrt(200) + 1e-6).all()
    varied = error.mean(0) > 1e-4
    assert varied.sum() > 30
    np.testing.assert_allclose((error**2).mean(0)[varied], value.var(0, ddof=1)[varied], rtol=0.6)


def test_the_estimate_is_exact_where_the_hessian_is_diagonal():
    def apply(params, x):
        return jnp.stack([jnp.sum(params["w"] ** 2 * jnp.array([1.0, -2.0, 3.0])), 0.0])[None] * jnp.ones((len(x), 1))

    batch = quadratic()[1]
    params = {"w": jnp.array([1.0, 2.0, 3.0])}
    options = {"loss": lambda logits, y: logits[:, 0], "key": jax.random.key(0)}
    found, error = pruning.hessian_diagonal(apply, params, batch, probes=2, **options)
    np.testing.assert_allclose(found["w"], [2, -4, 6], rtol=1e-6)
    np.testing.assert_allclose(error["w"], 0, atol=1e-6)
    scores = pruning.obd(probes=2, exact_up_to=0).score(params, apply=apply, batch=batch, **options)
    np.testing.assert_allclose(scores["w"], [1, -8, 27], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probes": 1}, "probes: 1 random vectors have no standard error"),
        ({"probes": 4}, "key: an estimate draws random vectors"),
    ],
)
def test_an_estimate_without_an_error_or_a_key_is_refused(options, message, examples):
    with pytest.raises(UserError, match=f"^{message}"):
        pruning.hessian_diagonal(network, two_layers(), examples, **options)


def test_the_exact_diagonal_of_a_large_network_is_refused():
    params = {"w": jnp.zeros((200, 101))}
    batch = Batch(np.zeros((2, 200), np.float32), np.zeros(2, int), np.zeros(2, int), np.ones(2, np.float32))
    with pytest.raises(UserError, match=r"^probes: the exact diagonal of 20200 param") as error:
        pruning.hessian_diagonal(lambda p, x: x @ p["w"], params, batch, probes=None)
    assert "\n" not in str(error.value)


# --- movement ------------------------------------------------------------------------------------------------------


def test_movement_of_whole_batches_is_that_of_gradient_descent_by_hand(examples):
    """One step in each of three epochs, whatever the order of the examples; pruned weights stay at 0."""
    params = two_layers()
    masks = {name: np.asarray(leaf) > -1 for name, leaf in params.items()}
    moving = {name: np.where(masks[name], params[name], 0).astype(np.float64) for name in params}
    expected = {name: np.zeros_like(leaf) for name, leaf in moving.items()}
    for _ in range(3):
        grads = mean_of(moving, examples)
        expected = {n: expected[n] - moving[n] * grads[n] * masks[n] for n in moving}
        moving = {n: moving[n] - 0.5 * grads[n] * masks[n] for n in moving}
    criterion = pruning.movement(epochs=3, learning_rate=0.5, batch_size=37)
    evidence = {"apply": network, "batch": examples, "key": jax.random.key(0)}
    assert_close(criterion.score(params, **evidence, masks=masks), expected, rtol=1e-3, atol=1e-5)
    assert sum((~m).sum() for m in masks.values()) > 0


def test_movement_sees_every_example_once_in_an_epoch():
    """With a learning rate that moves nothing and batches of one the score is -N w times the mean gradient."""
    rng = np.random.default_rng(0)
    batch = Batch(rng.normal(size=(7, 4)).astype(np.float32), rng.integers(0, 3, 7), np.zeros(7, int), np.ones(7))
    params = two_layers()
    evidence = {"apply": network, "batch": batch, "key": jax.random.key(3)}
    scores = pruning.movement(epochs=2, learning_rate=1e-30, batch_size=1).score(params, **evidence)
    assert_close(scores, {n: -14 * params[n] * g for n, g in mean_of(params, batch).items()}, atol=1e-5)


def test_movement_keeps_what_grows():
    """w = 1 and a loss that falls with w: it moves away from 0 and scores above a weight that is pulled to 0."""

    def apply(params, x):
        return jnp.stack([params["w"][1] - params["w"][0], 0.0])[None] * jnp.ones((len(x), 1))

    batch, loss = quadratic()[1], lambda logits, y: logits[:, 0]
    evidence = {"apply": apply, "batch": batch, "loss": loss, "key": jax.random.key(0)}
    scores = pruning.movement().score({"w": jnp.ones(2)}, **evidence)["w"]
    np.testing.assert_allclose(scores, [1, -1], rtol=1e-6)


# --- LAMP ----------------------------------------------------------------------------------------------------------


def test_lamp_by_hand():
    """1 / 14, 4 / 13 and 9 / 9; two weights that are equal share the sum of both."""
    scores = pruning.lamp().score({"a": jnp.array([[3.0, -1], [2, 0]]), "b": jnp.array([-2.0, 1, 2])})
    np.testing.assert_allclose(scores["a"], [[1, 1 / 14], [4 / 13, 0]], rtol=1e-6)
    np.testing.assert_allclose(scores["b"], [4 / 8, 1 / 9, 4 / 8], rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_lamp_is_the_formula_at_every_scale(scale):
    values = np.random.default_rng(0).integers(-40, 40, (30, 20)).astype(np.float32)
    squares = values.astype(np.float64).ravel() ** 2
    total = np.where(squares >= squares[:, None], squares, 0).sum(1)
    expected = (squares / total).reshape(values.shape)
    found = jax.jit(pruning.lamp().score)({"w": jnp.asarray(values * np.float32(scale))})["w"]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_lamp_of_a_layer_of_zeros_is_0():
    assert pruning.lamp().score({"w": jnp.zeros(3)})["w"].tolist() == [0, 0, 0]


# --- SynFlow -------------------------------------------------------------------------------------------------------


def linear(params, x):
    for kernel in params:
        x = x @ kernel
    return x


def shape_of(size):
    return Batch(np.full((2, size), np.nan, np.float32), np.zeros(2, int), np.zeros(2, int), np.ones(2))


def test_synflow_of_a_linear_network_in_closed_form():
    """w_ij times the sum of paths into i and out of j, over all paths; each layer carries all of the flow."""
    rng = np.random.default_rng(0)
    kernels = [rng.normal(size=shape).astype(np.float32) for shape in ((4, 6), (6, 5), (5, 3))]
    scores = pruning.synflow().score(kernels, apply=linear, batch=shape_of(4))
    a, b, c = (np.abs(kernel).astype(np.float64) for kernel in kernels)
    flow = (np.ones(4) @ a @ b @ c).sum()
    into, out = np.ones(4) @ a, c.sum(1)
    np.testing.assert_allclose(scores[1], into[:, None] * b * out / flow, rtol=1e-5)
    np.testing.assert_allclose(scores[0], a * (b @ c).sum(1) / flow, rtol=1e-5)
    for layer in scores:
        assert float(jnp.sum(layer)) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize(("width", "factor"), [(64, 1.0), (4, 1e-12), (4, 1e12)])
def test_synflow_of_a_deep_network_does_not_leave_the_range_of_floats(width, factor):
    """R is about 10^80, 10^-600 or 10^840, where float32 ends at 10^38 and float64 at 10^308."""
    kernels = [(factor * np.random.default_rng(i).normal(size=(width, width))).astype(np.float32) for i in range(50)]
    scores = pruning.synflow().score(kernels, apply=linear, batch=shape_of(width))
    into, out = [np.ones(width)], [np.ones(width)]
    for forward, backward in zip(kernels, kernels[::-1], strict=True):
        into.append(into[-1] @ np.abs(forward))
        out.append(np.abs(backward) @ out[-1])
        into[-1], out[-1] = into[-1] / into[-1].sum(), out[-1] / out[-1].sum()
    for i in (0, 24, 49):
        expected = into[i][:, None] * np.abs(kernels[i]) * out[49 - i]
        np.testing.assert_allclose(scores[i], expected / expected.sum(), rtol=1e-3, atol=1e-9)


def test_synflow_takes_absolute_values_of_all_and_starts_from_ones():
    """Against jax.grad, with a rectifier, a skip connection and biases, all of them negative."""
    params = jax.tree.map(lambda leaf: -jnp.abs(leaf), two_layers())

    def apply(params, x):
        hidden = jax.nn.relu(x @ params["first"] + params["bias"])
        return (hidden + jnp.maximum(hidden, 0.5)) @ params["second"]

    ones = jnp.ones((1, 4))
    positive = jax.tree.map(jnp.abs, params)
    flow, slopes = jax.value_and_grad(lambda p: jnp.sum(apply(p, ones)))(positive)
    expected = {name: positive[name] * slopes[name] / flow for name in params}
    assert_close(pruning.synflow().score(params, apply=apply, batch=shape_of(4)), expected, rtol=1e-6)


def test_synflow_prunes_in_rounds_and_spares_the_last_path():
    """Layers of unlike size: one threshold on |w| or on one round of flow would cut the small one off."""
    rng = np.random.default_rng(1)
    kernels = [rng.normal(size=shape).astype(np.float32) for shape in ((8, 30), (30, 30), (30, 2))]
    evidence = {"apply": linear, "batch": shape_of(8), "prunable": [True] * 3}
    _, masks = pruning.prune(kernels, 0.99, criterion=pruning.synflow(), **evidence)
    assert sum(int(m.sum()) for m in masks) == 1200 - round(0.99 * 1200)
    paths = np.ones(8) @ np.asarray(masks[0]) @ np.asarray(masks[1]) @ np.asarray(masks[2])
    assert paths.sum() > 0
    assert pruning.synflow().rounds == 100


def test_synflow_where_nothing_flows_is_an_error_and_not_a_choice_of_masks():
    def dead(params, x):
        return jax.nn.relu(x @ params["w"] - 100)

    with pytest.raises(UserError, match="w"):
        pruning.prune({"w": jnp.ones((4, 3))}, 0.5, criterion=pruning.synflow(rounds=1), apply=dead, batch=shape_of(4))


def test_numbers_with_exponents_are_those_of_plain_floats():
    """Bit by bit, through everything that a network of ours does."""
    from jaxprune import models

    made = models.build("resnet20", np.zeros((8, 8, 3), np.float32), 3, width=0.25)
    params, stats = made.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    scaled = jax.jit(lambda p: apply_scaled(made.freeze(stats), p, x))(params)
    plain = jax.jit(lambda p: made.freeze(stats)(p, x))(params)
    np.testing.assert_array_equal(np.ldexp(scaled.value, scaled.exponent), plain)


# --- options -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("grasp", {"temperature": 0.0}),
        ("grasp", {"temperature": float("inf")}),
        ("synflow", {"rounds": 0}),
        ("obd", {"probes": 1}),
        ("obd", {"exact_up_to": 1_000_000}),
        ("movement", {"epochs": 0}),
        ("obd", {"exact_up_to": -1}),
        ("movement", {"batch_size": 0}),
        ("movement", {"learning_rate": 0.0}),
        ("movement", {"learning_rate": float("nan")}),
        ("woodfisher", {"damping": 0.0}),
        ("woodfisher", {"block": 0}),
        ("woodfisher", {"examples_per_gradient": 0}),
        ("woodfisher", {"chunk_size": 0}),
        ("sparsegpt", {"damping": -0.1}),
        ("sparsegpt", {"damping": float("inf")}),
        ("fairprune", {"beta": float("nan")}),
    ],
)
def test_an_option_out_of_range_is_an_error_that_names_it(name, options):
    with pytest.raises(UserError, match=f"^{next(iter(options))}: ") as error:
        CRITERIA.make(name, **options)
    assert "\n" not in str(error.value)


def test_a_criterion_made_twice_is_one_value():
    """What is equal is compiled once."""
    for name in ("woodfisher", "sparsegpt", "movement", "obd", "fairprune"):
        assert CRITERIA.make(name) is CRITERIA.make(name)


# --- torch ---------------------------------------------------------------------------------------------------------


def test_first_and_second_order_scores_are_those_of_torch(examples):
    """Autograd of torch in float64: Taylor, Fisher, OBD and GraSP."""
    torch = pytest.importorskip("torch")
    params = two_layers()
    wide = {n: torch.tensor(leaf, dtype=torch.float64, requires_grad=True) for n, leaf in params.items()}
    x, y = torch.tensor(np.asarray(examples.x, np.float64)), torch.tensor(np.asarray(examples.y, np.int64))
    weight = torch.tensor(np.asarray(examples.weight, np.float64))

    def losses(temperature=1.0):
        logits = torch.tanh(x @ wide["first"] + wide["bias"]) @ wide["second"] / temperature
        return torch.nn.functional.cross_entropy(logits, y, reduction="none")

    def mean(temperature=1.0):
        return (weight * losses(temperature)).sum() / weight.sum()

    leaves = list(wide.values())
    grads = torch.autograd.grad(mean(), leaves)
    evidence = {"apply": network, "batch": examples, "key": jax.random.key(0)}
    found = pruning.taylor().score(params, grads=pruning.mean_gradient(network, params, examples))
    assert_close(found, {n: np.abs((wide[n] * g).detach().numpy()) for n, g in zip(wide, grads, strict=True)})
    each = [torch.autograd.grad(one, leaves, retain_graph=True) for one in losses()]
    squares = {
        n: sum(w * g[i] ** 2 for w, g in zip(weight, each, strict=True)) / weight.sum() for i, n in enumerate(wide)
    }
    expected = {n: (0.5 * wide[n] ** 2 * squares[n]).detach().numpy() for n in wide}
    assert_close(pruning.fisher().score(params, **evidence), expected)
    cool = torch.autograd.grad(mean(200.0), leaves, create_graph=True)
    product = torch.autograd.grad(sum((g * g.detach()).sum() for g in cool), leaves)
    expected = {n: (wide[n] * h).detach().numpy() for n, h in zip(wide, product, strict=True)}
    scale = max(np.abs(leaf).max() for leaf in expected.values())
    assert_close(pruning.grasp().score(params, **evidence), expected, rtol=1e-3, atol=1e-4 * scale)
    slopes = torch.cat([g.ravel() for g in torch.autograd.grad(mean(), leaves, create_graph=True)])
    rows = [torch.autograd.grad(s, leaves, retain_graph=True) for s in slopes]
    diagonal = torch.stack([torch.cat([h.ravel() for h in row])[i] for i, row in enumerate(rows)])
    flat = torch.cat([leaf.ravel() for leaf in leaves])
    scores = pruning.obd().score(params, **evidence)
    by_us = np.concatenate([np.ravel(scores[n]) for n in wide])
    np.testing.assert_allclose(by_us, (0.5 * flat**2 * diagonal).detach().numpy(), rtol=1e-3, atol=1e-5)
