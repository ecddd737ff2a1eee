"""Masks on 1, 2 and 8 devices: the same bits, on the devices of the scores, and nothing is gathered."""

import pytest

SCRIPT = """
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxprune import pruning
from jaxprune.pruning.thresholds import keep_all_but_lowest

found = {"devices": jax.device_count(), "equal": {}, "laid": {}, "gathers": {}, "sums": {}}
rng = np.random.default_rng(0)
ties = {"a": rng.integers(0, 5, (16, 3, 8)), "b": rng.integers(0, 5, (24,)), "c": rng.integers(0, 5, (8, 16))}
KINDS = {
    "ties": ties,
    "all equal": {name: np.zeros(leaf.shape) for name, leaf in ties.items()},
    "distinct": {name: rng.normal(size=leaf.shape) for name, leaf in ties.items()},
}
SPECS = {
    "first axis": {"a": P("x"), "b": P("x"), "c": P("x")},
    "last axis": {"a": P(None, None, "x"), "b": P("x"), "c": P(None, "x")},
    "two axes": {"a": P("x", None, "y"), "b": P(("x", "y")), "c": P("y", "x")},
    "one not at all": {"a": P("x"), "b": P(), "c": P(None, "x")},
}


def same(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one)


for count, layouts in ((2, ["last axis"]), (8, SPECS)):
    for layout in layouts:
        specs = SPECS[layout]
        sizes = (count // 2, 2) if layout == "two axes" else (count, 1)
        axes = (jax.sharding.AxisType.Auto,) * 2
        mesh = jax.make_mesh(sizes, ("x", "y"), axis_types=axes, devices=jax.devices()[:count])
        place = {name: NamedSharding(mesh, spec) for name, spec in specs.items()}
        equal, laid = [], []
        for values in KINDS.values():
            scores = {name: jnp.asarray(leaf, jnp.float32) for name, leaf in values.items()}
            spread = jax.device_put(scores, place)
            for allocation in (pruning.global_masks, pruning.layerwise_masks):
                for sparsity in (0.0, 0.3, 0.9):
                    one, many = allocation(scores, sparsity), allocation(spread, sparsity)
                    again = allocation(spread, 0.95, masks=many)
                    equal += [same(one, many), same(allocation(scores, 0.95, masks=one), again)]
                    equal.append(same(one, jax.jit(allocation)(spread, jnp.float32(sparsity))))
                    for masks in (many, again):
                        laid += [masks[n].sharding.is_equivalent_to(place[n], leaf.ndim) for n, leaf in masks.items()]
        chosen = {"a": True, "b": False, "c": True}
        masks = pruning.global_masks(spread, 0.5, chosen)
        laid.append(masks["b"].sharding.is_equivalent_to(place["b"], 1))
        masks = pruning.nonzero_masks(spread, chosen)
        laid += [masks[n].sharding.is_equivalent_to(place[n], leaf.ndim) for n, leaf in spread.items()]
        leaves = list(spread.values())
        lowered = keep_all_but_lowest.lower(leaves, jnp.int32(9), [leaf > 0 for leaf in leaves])
        text = lowered.compile().as_text()
        case = f"{count}, {layout}"
        found["equal"][case], found["laid"][case] = all(equal), all(laid)
        moves = ("all-gather", "all-to-all", "collective-permute")
        found["gathers"][case] = [move for move in moves if move in text]
        found["sums"][case] = "all-reduce" in text

json.dump(found, sys.stdout)
"""
CASES = ["2, last axis", "8, first axis", "8, last axis", "8, two axes", "8, one not at all"]


@pytest.fixture(scope="module")
def found(on_eight_devices):
    return on_eight_devices(SCRIPT)


@pytest.mark.parametrize("case", CASES)
def test_masks_are_those_of_one_device_bit_for_bit(found, case):
    assert found["equal"][case]


@pytest.mark.parametrize("case", CASES)
def test_masks_lie_where_the_scores_do(found, case):
    assert found["laid"][case]


@pytest.mark.parametrize("case", CASES)
def test_only_counts_go_from_device_to_device(found, case):
    assert found["gathers"][case] == []
    assert found["sums"][case]
