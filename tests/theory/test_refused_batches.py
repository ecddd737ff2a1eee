"""What the theory, the criteria and the parts of training refuse, beside what test_batches.py holds."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxprune import batches, data, losses, pruning, theory, training
from jaxprune.errors import TrainingDiverged, UserError
from jaxprune.groups import group_mean, group_sum
from jaxprune.theory import statements
from jaxprune.theory.spectra import trace
from jaxprune.types import Batch

G, C = 2, 3
RNG = np.random.default_rng(1)
PARAMS = {"w": RNG.normal(size=(4, C)).astype(np.float32)}
GROUP = np.array([1, 0, 1, 1, 0, 0, 1, 0])  # not in order, so that chunks reorder the examples
PEOPLE = Batch(RNG.normal(size=(8, 4)).astype(np.float32), np.arange(8) % C, GROUP, np.ones(8, np.float32))


def linear(params, x):
    return x @ params["w"]


def one_logit(params, x):
    return x @ params["w"][:, :1]


def pixels(params, x):
    return jnp.broadcast_to(linear(params, x)[:, None, None], (len(x), 2, 2, C))


def change(field, index, value):
    """The people with one entry of one field changed."""
    values = getattr(PEOPLE, field).copy()
    values[index] = value
    return PEOPLE._replace(**{field: values})


def message(function, *arguments, **options):
    with pytest.raises(UserError) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


KEY = jax.random.key(0)
EIGENVALUE = theory.Eigenvalue(jnp.ones(G), jnp.zeros(G), jnp.ones(G, bool), jnp.ones(G, jnp.int32))
GROUPED = {
    "indexed_batch": lambda a, b: data.indexed_batch(b, balanced=True, num_groups=G),
    "curvature": lambda a, b: pruning.curvature().score(PARAMS, apply=a, batch=b, num_groups=G),
    "proposition1": lambda a, b: statements.proposition1_at(a, PARAMS, b, num_groups=G),
    "proposition2": lambda a, b: statements.proposition2(a, PARAMS, b, num_groups=G),
    "theorem2": lambda a, b: statements.theorem2(a, PARAMS, b, EIGENVALUE, KEY, num_groups=G),
    "attribution": lambda a, b: theory.attribution(a, PARAMS, PARAMS, b, num_groups=G),
    "gradient_norms": lambda a, b: theory.group_gradient_norms(a, PARAMS, b, num_groups=G),
    "eigenvalues": lambda a, b: theory.group_top_eigenvalues(a, PARAMS, b, num_groups=G, key=KEY),
    "distances": lambda a, b: theory.group_boundary_distances(a, PARAMS, b, KEY, num_groups=G, samples=2),
}
LABELLED = {
    "stationary_point": lambda a, b: statements.stationary_point(a, PARAMS, b, max_iterations=1),
    "gradients": lambda a, b: theory.group_gradients(a, PARAMS, b, num_groups=G),
    "example_norms": lambda a, b: theory.example_gradient_norms(a, PARAMS, b),
} | {name: GROUPED[name] for name in GROUPED.keys() - {"indexed_batch", "distances"}}


@pytest.mark.parametrize("name", GROUPED)
def test_groups_out_of_range_are_refused(name):
    for value in (-1, G):
        text = message(GROUPED[name], linear, change("group", 4, value))
        assert text.startswith(f"batch.group: group {value} of example 4 is out of range; num_groups = 2 takes 0 and 1")


@pytest.mark.parametrize("name", sorted(LABELLED))
def test_labels_are_named_by_their_place_in_the_batch(name):
    for value in (-1, C):
        text = message(LABELLED[name], linear, change("y", 4, value))
        assert text.startswith(f"batch.y: label {value} of example 4 is out of range")


def test_labels_of_chunks_are_named_as_such():
    chunks = theory.by_group(change("y", 4, C), G)
    place = np.flatnonzero(chunks.y.ravel() == C)[0]
    text = message(theory.group_gradients, linear, PARAMS, chunks, num_groups=G)
    assert text.startswith(f"chunks.y: label {C} of example {place} is out of range")


@pytest.mark.parametrize("name", sorted({"stationary_point", "indexed_batch"} | LABELLED.keys()))
def test_weights_left_out_are_ones(name):
    function = (GROUPED | LABELLED)[name]
    results = (jax.tree.leaves(function(linear, PEOPLE._replace(weight=w))) for w in (PEOPLE.weight, None))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_distances_to_the_boundary_need_two_classes():
    functions = (
        lambda a: theory.boundary_distance(a, PARAMS, PEOPLE, num_groups=G),
        lambda a: theory.example_boundary_distances(a, PARAMS, PEOPLE, KEY, samples=2),
        lambda a: GROUPED["theorem2"](a, PEOPLE),
    )
    for function in functions:
        assert "jnp.concatenate([jnp.zeros_like(z), z], -1)" in message(function, one_logit)
        assert "make each pixel an example" in message(function, pixels)


@pytest.mark.parametrize("xp", [np, jnp])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32"])
def test_codes_of_every_integer_type_are_taken_and_refused(xp, dtype):
    codes, ones = xp.asarray([0, 1, 2, 100], dtype), xp.ones(4, xp.float32)
    batch = Batch(ones[:, None], codes, codes, ones)
    for count in (None, 101, 300, 70_000):  # more than narrow types hold
        batches.check_batch(batch, num_groups=count, num_classes=count)
    text = message(batches.check_batch, batch, num_groups=100)
    assert text.startswith("batch.group: group 100 of example 3 is out of range")
    if dtype == "uint32":
        wrapped = batch._replace(group=xp.asarray([0, 2**32 - 1, 0, 0], dtype))
        assert "group 4294967295 of example 1" in message(batches.check_batch, wrapped, num_groups=5)


def test_values_of_other_shapes_are_refused_not_broadcast():
    assert "give one for each" in message(group_sum, np.ones(5), GROUP, G)
    assert "give one for each" in message(group_mean, np.ones(5), GROUP, G)
    assert "whole numbers" in message(group_sum, np.ones(8), GROUP + 0.5, G)
    assert "one value for each example" in message(losses.weighted_mean, np.ones((8, 1)), PEOPLE.weight)
    step = training.make_step(linear, lambda z, y: (z - y[:, None]) ** 2, optax.sgd(0.1))
    assert "one value for each example" in message(step, training.init_state(PARAMS, optax.sgd(0.1)), PEOPLE)
    floats = PEOPLE._replace(y=PEOPLE.y + 0.5)
    assert "not classes" in message(theory.group_gradients, linear, PARAMS, floats, num_groups=G)


def test_training_on_labels_beyond_the_logits_says_where_to_look():
    tx = optax.sgd(0.1)
    step = training.make_step(linear, losses.cross_entropy, tx)
    with pytest.raises(TrainingDiverged, match="every label is below the number of logits"):
        training.fit(step, training.init_state(PARAMS, tx), change("y", 4, C), key=KEY, epochs=1, batch_size=4)


@pytest.mark.parametrize(
    "function",
    [
        lambda key: data.epoch_indices(key, 8, 4),
        lambda key: trace.hutchinson(lambda v: v, key, num_groups=1, num_params=2, products=2),
    ],
)
def test_what_is_no_key_is_refused(function):
    for key in (0, None):
        assert "jax.random.key(0)" in message(function, key)


def compilations(function):
    """How many programs JAX compiles while a function runs."""
    seen = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        function()
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return len(seen)


@pytest.mark.parametrize("name", ["gradients", "gradient_norms", "example_norms"])
def test_a_second_call_compiles_nothing(name):
    people = jax.tree.map(jnp.asarray, PEOPLE)
    (GROUPED | LABELLED)[name](linear, people)
    assert compilations(lambda: (GROUPED | LABELLED)[name](linear, people)) == 0
    assert compilations(lambda: jax.jit(lambda x: x * 3.0)(jnp.ones(7))) > 0  # it does count
