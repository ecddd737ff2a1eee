"""Masks in bits come back as they were: any shape, under transformations and from disk."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxprune import checkpoints, pruning
from jaxprune.errors import UserError

SHAPES = [(), (1,), (7,), (8,), (9,), (3, 3, 2, 5), (16, 4), (0, 3), (2, 0)]


def drawn(seed, leading=()):
    rng = np.random.default_rng(seed)
    return {"a": {f"{i}": jnp.asarray(rng.random((*leading, *shape)) < 0.4) for i, shape in enumerate(SHAPES)}}


def same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == bool
        np.testing.assert_array_equal(one, other)


def test_masks_of_every_size_come_back():
    masks = drawn(0)
    packed = pruning.pack_masks(masks)
    same(pruning.unpack_masks(packed), masks)
    for bits, shape in zip(jax.tree.leaves(packed.bits), packed.shapes, strict=True):
        assert bits.dtype == jnp.uint8
        assert bits.shape == (int(np.ceil(np.prod(shape) / 8)),)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), min_size=19, max_size=19))
def test_bits_are_those_of_numpy(values):
    masks = [np.array(values)]
    packed = pruning.pack_masks(masks)
    np.testing.assert_array_equal(packed.bits[0], np.packbits(masks[0]))
    same(pruning.unpack_masks(packed), masks)


def test_replicas_are_packed_each_by_itself():
    masks = drawn(1, leading=(2, 3))
    packed = jax.vmap(jax.vmap(pruning.pack_masks))(masks)
    assert packed.bits["a"]["4"].shape == (2, 3, 2)
    same(pruning.unpack_masks(packed), masks)
    same(jax.jit(jax.vmap(jax.vmap(pruning.unpack_masks)))(packed), masks)
    one = jax.tree.map(lambda leaf: leaf[1, 2], masks)
    same(pruning.unpack_masks(jax.tree.map(lambda leaf: leaf[1, 2], packed)), one)


def test_they_go_through_jit_and_are_part_of_a_state():
    masks = drawn(2)
    packed = jax.jit(pruning.pack_masks)(masks)
    assert jax.tree.structure(packed) == jax.tree.structure(pruning.pack_masks(masks))
    same(jax.jit(pruning.unpack_masks)(packed), masks)
    state = jax.jit(optax.sgd(0.1, momentum=0.9).init)({"w": jnp.ones(3)}), packed
    same(pruning.unpack_masks(jax.device_put(state)[1]), masks)


@pytest.mark.parametrize("leading", [(), (2,)], ids=["one network", "replicas"])
def test_they_come_back_from_disk(tmp_path, leading):
    kept = {name: leaf for name, leaf in drawn(3, leading)["a"].items() if leaf.size}  # orbax stores no empty arrays
    pack = pruning.pack_masks if not leading else jax.vmap(pruning.pack_masks)
    packed = pack(kept)
    checkpoints.save(tmp_path / "masks", packed)
    shapes = jax.eval_shape(pack, kept)
    found = checkpoints.restore(tmp_path / "masks", shapes)
    assert found.shapes == packed.shapes
    same(pruning.unpack_masks(found), kept)


def test_a_mask_on_disk_is_an_eighth(tmp_path):
    masks = {"w": jnp.asarray(np.random.default_rng(0).random((512, 2048)) < 0.5)}
    sizes = {}
    for name, tree in (("bools", masks), ("bits", pruning.pack_masks(masks))):
        checkpoints.save(tmp_path / name, tree)
        sizes[name] = sum(file.stat().st_size for file in (tmp_path / name).rglob("*") if file.is_file())
    assert 2**17 <= sizes["bits"] < 1.2 * 2**17 + 16384, sizes


def test_what_is_no_mask_is_an_error():
    with pytest.raises(UserError, match="of float32, not of bools"):
        pruning.pack_masks([jnp.ones(3)])
    packed = pruning.pack_masks([jnp.ones(17, bool)])
    with pytest.raises(UserError, match=r"uint8\[2\] does not hold the bits of \[17\]"):
        pruning.unpack_masks(pruning.PackedMasks([packed.bits[0][:2]], packed.shapes))
