"""Every criterion with every allocation and every structure, through `pruning.prune`."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fake_couplings import dense_chain

from jaxprune import pruning
from jaxprune.errors import UserError
from jaxprune.losses import cross_entropy
from jaxprune.pruning import ALLOCATIONS, CRITERIA, STRUCTURES, Criterion
from jaxprune.types import Batch

SPARSITY = 0.5
SIZES = {"weights": (96, 48), "n_m": (96, 48), "blocks": (6, 3)}  # units of the two layers
COUPLED = {"channels", "heads"}  # of which there are 12, between the layers
ROUNDS = 3  # of those criteria that score in many: they are alike


def apply(params, x):
    hidden = jnp.tanh(x @ params["first"]["kernel"] + params["first"]["bias"])
    return hidden @ params["second"]["kernel"] + params["second"]["bias"]


@cache
def network():
    rng = np.random.default_rng(0)
    layers = {"first": (8, 12), "second": (12, 4)}
    return {
        name: {"kernel": jnp.asarray(rng.normal(size=shape), jnp.float32), "bias": jnp.zeros(shape[1])}
        for name, shape in layers.items()
    }


@cache
def structure_of(name):
    couplings = [dense_chain((8, 12, 4), ["first", "second"], kind=name)] if name in COUPLED else []
    return STRUCTURES.make(name, *couplings)


@cache
def evidence():
    rng = np.random.default_rng(1)
    batch = Batch(
        x=jnp.asarray(rng.normal(size=(24, 8)), jnp.float32),
        y=jnp.asarray(rng.integers(0, 4, 24)),
        group=jnp.asarray(np.arange(24) % 3),
        weight=jnp.ones(24),
    )
    grads = jax.grad(lambda params: jnp.mean(cross_entropy(apply(params, batch.x), batch.y)))(network())
    return {"apply": apply, "batch": batch, "num_groups": 3, "key": jax.random.key(0), "grads": grads}


@cache
def scores_of(criterion):
    """Scored once, and not for every allocation and structure."""
    masks = jax.tree.map(lambda p: jnp.ones(p.shape, bool), network())
    everything = {**evidence(), "loss": cross_entropy, "masks": masks}
    CRITERIA.make(criterion).check(**everything)
    return CRITERIA.make(criterion).score(network(), **everything)


@cache
def pruner(allocation, structure):
    """`prune` by given scores, compiled once for all criteria."""
    options = {"allocation": ALLOCATIONS.make(allocation), "structure": structure_of(structure)}
    return jax.jit(
        lambda scores: pruning.prune(network(), SPARSITY, criterion=Criterion(lambda params, **_: scores), **options)
    )


def prune(criterion, allocation, structure):
    """Prune by the criterion: as it is where it does more than to score once, or goes with one allocation."""
    made, options = CRITERIA.make(criterion), {**evidence(), "allocation": ALLOCATIONS.make(allocation)}
    made = replace(made, rounds=min(made.rounds, ROUNDS))
    if made.rounds == 1 and made.correct is None and made.allocation is None and fits(allocation, structure):
        return pruner(allocation, structure)(scores_of(criterion))
    return pruning.prune(network(), SPARSITY, criterion=made, structure=structure_of(structure), **options)


def fits(allocation, part):
    own = (CRITERIA.make(part) if part in CRITERIA else STRUCTURES.make(part)).allocation
    return own is None or own is ALLOCATIONS.make(allocation)


@pytest.mark.slow
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_asked_number_of_units_is_pruned_or_one_line_says_why_not(criterion, allocation, structure):
    if not (fits(allocation, criterion) and fits(allocation, structure)):
        with pytest.raises(UserError, match=r"^allocation: [^\n]+; leave it out$"):
            prune(criterion, allocation, structure)
        return
    if structure in COUPLED and allocation == "erk":
        with pytest.raises(UserError, match=r"^allocation: ERK goes by the shapes of layers[^\n]+; take [^\n]+"):
            prune(criterion, allocation, structure)
        return
    params, masks = prune(criterion, allocation, structure)
    kernels = [(np.asarray(params[name]["kernel"]), np.asarray(masks[name]["kernel"])) for name in network()]
    for kernel, mask in kernels:
        assert np.isfinite(kernel).all()
        assert not kernel[~mask].any()
        rows, columns = mask.shape
        if structure == "n_m":
            assert np.all(mask.reshape(rows // 4, 4, columns).sum(1) == 2)
        if structure == "blocks":
            assert np.isin(mask.reshape(rows // 4, 4, columns // 4, 4).sum((1, 3)), (0, 16)).all()
    if structure in COUPLED:
        kept = np.asarray(masks["first"]["bias"])
        assert np.sum(kept) == round((1 - SPARSITY) * 12)
        np.testing.assert_array_equal(kernels[0][1], np.broadcast_to(kept, (8, 12)))
        np.testing.assert_array_equal(kernels[1][1], np.broadcast_to(kept[:, None], (12, 4)))
        return
    assert all(np.all(masks[name]["bias"]) for name in network())
    weights_of_unit = 16 if structure == "blocks" else 1
    pruned = [np.sum(~mask) / weights_of_unit for _, mask in kernels]
    if allocation == "layerwise":
        assert pruned == [round(SPARSITY * units) for units in SIZES[structure]]
    else:
        assert sum(pruned) == round(SPARSITY * sum(SIZES[structure]))
