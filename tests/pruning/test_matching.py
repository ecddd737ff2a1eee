"""Masks and parts that do not fit are refused in one line; those in an optimiser's state fit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxprune import pruning
from jaxprune.errors import UserError

PARAMS = {"fc": {"kernel": jnp.arange(1.0, 9.0).reshape(4, 2), "bias": jnp.zeros(2)}}
MASKS = jax.tree.map(lambda p: jnp.ones(p.shape, bool), PARAMS)
MAGNITUDE, ONCE = pruning.magnitude(), pruning.at_once(0.5)
KERNEL = {"fc": {"kernel": True, "bias": False}}
PRUNED = {"fc": {"kernel": jnp.arange(8).reshape(4, 2) > 1, "bias": jnp.ones(2, bool)}}


def changed(**leaves):
    return {"fc": MASKS["fc"] | leaves}


@pytest.mark.parametrize(
    "use",
    [
        lambda masks: pruning.apply_masks(PARAMS, masks),
        lambda masks: pruning.rewind(PARAMS, masks),
        lambda masks: pruning.prune(PARAMS, 0.5, criterion=pruning.magnitude(), masks=masks),
        lambda masks: pruning.global_masks(PARAMS, 0.5, masks=masks),
        lambda masks: pruning.erk()(PARAMS, 0.5, masks=masks),
        lambda masks: pruning.levels()(PARAMS, 0.5, masks=masks),
        lambda masks: pruning.n_m(m=2).masks(PARAMS, 0.5, KERNEL, masks),
        lambda masks: pruning.blocks(height=2, width=2).masks(PARAMS, 0.5, KERNEL, masks, pruning.global_masks),
        lambda masks: pruning.drop_and_grow(PARAMS, masks, PARAMS, 0.5),
        lambda masks: pruning.keep_masked(masks).init(PARAMS),
        lambda masks: jax.jit(pruning.apply_masks)(PARAMS, masks),
    ],
    ids=[
        *("apply_masks", "rewind", "prune", "global_masks", "erk", "levels", "n_m", "blocks", "drop_and_grow"),
        *("keep_masked", "jit"),
    ],
)
@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (changed(kernel=jnp.ones((3, 2), bool)), r"the mask of fc/kernel has shape \(3, 2\), the parameter \(4, 2\);"),
        (changed(other=jnp.ones(2, bool)), "the masks do not have the structure .*: there is no parameter fc/other;"),
        ({"fc": {"kernel": MASKS["fc"]["kernel"]}}, "there is none for fc/bias;"),
        ([jnp.ones(2, bool)], "there is none for fc/bias;"),
    ],
    ids=["shape", "more", "fewer", "list"],
)
def test_masks_that_do_not_fit_are_refused_with_the_path(use, masks, message):
    with pytest.raises(UserError, match=message) as error:
        use(masks)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("make", ["rigl", "sparsify"])
def test_masks_in_the_state_of_an_nnx_optimizer_fit(make):
    nnx = pytest.importorskip("flax.nnx")
    model = nnx.Linear(8, 5, rngs=nnx.Rngs(0))
    params = nnx.state(model, nnx.Param)
    if make == "rigl":
        tx = pruning.rigl(optax.adam(1e-2), 0.5, key=jax.random.key(0), end=10)
    else:
        start = pruning.prune(params, 0.5, criterion=pruning.magnitude())[1]
        tx = pruning.sparsify(optax.sgd(0.1), pruning.magnitude(), pruning.at_once(0.5), masks=start)
    masks = nnx.Optimizer(model, tx, wrt=nnx.Param).opt_state.masks
    chosen, kept = pruning.prunable(params), np.asarray(masks["kernel"][...])
    assert pruning.sparsity_of(masks, chosen) == 0.5
    for pruned in (pruning.apply_masks(params, masks), pruning.rewind(params, masks)):
        np.testing.assert_array_equal(pruned["kernel"][...], model.kernel[...] * kept)
        assert jax.tree.structure(pruned) == jax.tree.structure(params)
        nnx.update(model, pruned)
    _, further = pruning.prune(params, 0.75, criterion=pruning.magnitude(), masks=masks)
    assert pruning.sparsity_of(further, chosen) == 0.75
    assert not (np.asarray(further["kernel"][...]) & ~kept).any()
    pure = pruning.apply_masks(nnx.to_pure_dict(params), masks)
    np.testing.assert_array_equal(pure["kernel"], model.kernel[...])
    pruning.keep_masked(masks).init(params)


@pytest.mark.parametrize("make", ["rigl", "sparsify"])
def test_prunable_of_a_plain_dictionary_fits_an_nnx_state(make):
    nnx = pytest.importorskip("flax.nnx")
    model = nnx.Linear(8, 5, rngs=nnx.Rngs(0))
    params = nnx.state(model, nnx.Param)
    chosen = pruning.prunable(nnx.to_pure_dict(params))
    if make == "rigl":
        tx = pruning.rigl(optax.adam(1e-2), 0.5, key=jax.random.key(0), end=10, every=1, prunable=chosen)
    else:
        tx = pruning.sparsify(optax.adam(1e-2), MAGNITUDE, ONCE, prunable=chosen)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    optimizer.update(model, jax.tree.map(jnp.ones_like, params))
    assert pruning.sparsity_of(optimizer.opt_state.masks, chosen) == 0.5
    zeros = pruning.nonzero_masks(nnx.state(model, nnx.Param), chosen)
    assert zeros["bias"][...].all()


@pytest.mark.parametrize(
    "allocation",
    [pruning.global_masks, pruning.layerwise_masks, pruning.erk(), pruning.levels()],
    ids=["global", "layerwise", "erk", "levels"],
)
def test_none_in_place_of_a_mask_is_nothing_pruned(allocation):
    scores = {"a": jnp.arange(8.0), "b": jnp.arange(8.0)}
    held = {"a": jnp.arange(8) > 5, "b": None}
    masks = allocation(scores, 0.75, masks=held)
    whole = allocation(scores, 0.75, masks={"a": held["a"], "b": jnp.ones(8, bool)})
    jax.tree.map(np.testing.assert_array_equal, masks, whole)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pruning.prune(PARAMS, 0.5, criterion="magnitude"), "criterion: 'magnitude' is a name; give the part"),
        (lambda: pruning.prune(PARAMS, 0.5, criterion=pruning.magnitude), r"criterion: magnitude .* call it"),
        (lambda: pruning.prune(PARAMS, 0.5, criterion=MAGNITUDE, structure=pruning.n_m), "structure: n_m .* call it"),
        (lambda: pruning.prune(PARAMS, 0.5, criterion=MAGNITUDE, allocation=pruning.erk), "allocation: erk .* call it"),
        (lambda: pruning.prune(PARAMS, 0.5, criterion=MAGNITUDE, allocation="erk"), "allocation: 'erk' is a name"),
        (lambda: pruning.sparsify(optax.sgd(0.1), "magnitude", ONCE), "criterion: 'magnitude' is a name"),
        (lambda: pruning.sparsify(optax.sgd(0.1), MAGNITUDE, 0.5), r"schedule: 0.5 .* pruning.at_once\(0.5\)"),
        (lambda: pruning.sparsify(optax.sgd(0.1), MAGNITUDE, pruning.cubic), "schedule: cubic .* call it"),
        (
            lambda: pruning.straight_through(optax.sgd(0.1), MAGNITUDE, None),
            "schedule: a value of type NoneType does not fit",
        ),
        (lambda: pruning.gradual(0.5, end=9), r"value: 0.5 is not an optax schedule; .* pruning.at_once"),
        (
            lambda: pruning.sparsify(optax.sgd(0.1), MAGNITUDE, optax.linear_schedule(0, 0.5, 9)),
            r"schedule: .* pruning.gradual\(schedule, end=...\)",
        ),
    ],
)
def test_a_part_of_the_wrong_kind_is_refused_with_what_to_give(call, message):
    with pytest.raises(UserError, match=f"^{message}") as error:
        call()
    assert "\n" not in str(error.value)


def test_all_that_a_criterion_lacks_is_named_at_once():
    with pytest.raises(UserError, match=r"^apply, batch: this criterion needs them; give apply= and batch=$"):
        pruning.prune(PARAMS, 0.5, criterion=pruning.wanda())


def test_a_text_is_one_pattern():
    assert pruning.prunable(PARAMS, include="fc*", exclude="*bias")["fc"] == {"kernel": True, "bias": False}
