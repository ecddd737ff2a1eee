"""What the theory is measured on, and that neither devices, seeds, chunks nor precision change what it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from experiments import experiment, store

from jaxprune import pruning, theory
from jaxprune.pipeline.networks import networks_of
from jaxprune.pipeline.plan import plan_theory
from jaxprune.pipeline.theory_inputs import precision, theory_inputs, vectors_that_fit
from jaxprune.theory.derivatives import operators
from jaxprune.types import Batch

SMALL = {
    "data.name": "synthetic",
    "data.sizes": (60, 40),
    "data.margins": (1.5, 0.4),
    "data.noise": (0.0,),
    "model.hidden": (4,),
    "train.epochs": 1,
    "prune.criterion": "random",
    "prune.sparsities": (0.5,),
    "seeds": 2,
}


@pytest.mark.parametrize("seeds", [1, 4])
def test_the_vectors_that_fit_are_those_of_a_replica(seeds):
    """As many bytes for each of the networks that are measured together."""
    made = experiment(SMALL, seeds=seeds)
    params = {"w": np.zeros((seeds, 1000, 100), np.float32)}
    share = made.settings.theory.memory * 2**20 // seeds
    assert vectors_that_fit(made, params) == share // (made.dataset.num_groups * 100_000 * 4) - 1


def test_networks_are_pruned_alike_whatever_they_are_measured_in(tmp_path):
    """Random numbers of another type are others: the theory in float64 must not make other stages."""
    masks = []
    for name, wide in (("single", False), ("double", True)):
        made, here = experiment(SMALL, theory__float64=wide), store(tmp_path / name)
        plan = plan_theory(made.settings)
        with precision(made, here, plan):
            masks.append(jax.tree.map(np.asarray, networks_of(made, here, plan.theory_nodes[1]).masks))
            assert theory_inputs(made, here, plan).dense.params["dense_0"]["kernel"].dtype == (
                np.float64 if wide else np.float32
            )
    jax.tree.map(np.testing.assert_array_equal, *masks)


@pytest.mark.usefixtures("x64")
def test_random_scores_are_of_single_precision_everywhere():
    scores = pruning.random().score({"w": jnp.zeros((3, 4))}, key=jax.random.key(0))
    assert scores["w"].dtype == jnp.float32


def test_all_examples_are_held_once(tmp_path):
    made, here = experiment(SMALL), store(tmp_path)
    inputs = theory_inputs(made, here, plan_theory(made.settings))
    assert inputs.examples is made.on_device(made.settings.theory.split)


def test_the_noise_of_an_example_is_the_same_in_chunks_of_any_size():
    rng = np.random.default_rng(0)
    batch = Batch(jnp.asarray(rng.normal(size=(30, 4)), jnp.float32), *(jnp.zeros(30, int),) * 2, jnp.ones(30))
    params = {"w": jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)}
    found = [
        theory.example_boundary_distances(
            lambda p, x: x @ p["w"], params, batch, jax.random.key(1), samples=50, chunk_size=size
        ).radius
        for size in (7, 30)
    ]
    np.testing.assert_array_equal(*found)


def test_chunks_of_a_group_whose_search_has_ended_are_passed_over_in_all_replicas_at_once():
    calls = []

    def apply(params, x):
        jax.debug.callback(lambda _: calls.append(1), x[0, 0])
        return x @ params["w"]

    x = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    batch = Batch(x, np.zeros(12, int), np.repeat([0, 1], 6), np.ones(12, np.float32))
    chunks = theory.by_group(batch, 2, 3)
    params = {"w": jnp.ones((2, 4, 3))}

    @jax.jit
    @jax.vmap
    def product(params, vectors):
        return theory.group_operator(apply, params, chunks, num_groups=2, memory=0)(vectors)

    def counted(vectors):
        calls.clear()
        found = jax.block_until_ready(product(params, vectors))
        jax.effects_barrier()
        return found, len(calls)

    nothing, none = counted(jnp.zeros((2, 2, 12)))
    assert none == 0
    assert not np.any(nothing)
    _, some = counted(jnp.zeros((2, 2, 12)).at[1, 0].set(1.0))
    _, everything = counted(jnp.ones((2, 2, 12)))
    assert 0 < some == everything // 2


def test_what_linearises_a_network_and_its_gradients_evaluate_it_once():
    """Counted in the compiled program: the products of matrices of both together are those of the gradients alone."""

    def apply(params, x):
        return jnp.sin(jnp.sin(x @ params["v"])) @ params["w"]

    batch = Batch(np.ones((6, 4), np.float32), np.zeros(6, int), np.zeros(6, int), np.ones(6, np.float32))
    params = {"v": jnp.ones((4, 5)), "w": jnp.ones((5, 3))}
    operator = theory.group_operator(apply, params, batch, num_groups=1, memory=0)

    def evaluations(function):
        return jax.jit(function).lower(operator).compile().as_text().count(" dot(")

    assert evaluations(operators.group_slopes) == evaluations(operators._linearised) > 0
