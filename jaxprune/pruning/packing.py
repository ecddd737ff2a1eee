"""Masks as bits, eight units in a byte."""

import math
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from jaxprune.errors import UserError
from jaxprune.types import Array, Masks, PyTree


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PackedMasks:
    """The masks of a network as bits.

    A pytree; of several networks under `vmap`.

    Attributes:
      bits: In the structure of the masks, [ceil(size / 8)] uint8 for each leaf, with replica axes before it where
        `pack_masks` ran under `vmap`; row-major, the first unit is the highest bit.
      shapes: The shapes of the leaves of one network, in the order of `jax.tree.leaves`.
    """

    bits: PyTree
    shapes: tuple[tuple[int, ...], ...] = field(metadata={"static": True})


def pack_masks(masks: Masks) -> PackedMasks:
    """Pack masks, eight units in a byte.

    Under `jit` and `vmap` too: `jax.vmap(pack_masks)` packs every replica by itself.

    Args:
      masks: Bool arrays.

    Returns:
      Their bits and their shapes.

    Raises:
      UserError: A leaf is not of bools.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import pruning
      >>> packed = pruning.pack_masks({"w": jnp.array([[True, False, True], [True, True, True]])})
      >>> packed.bits["w"].tolist(), packed.shapes
      ([188], ((2, 3),))
      >>> pruning.unpack_masks(packed)["w"].tolist()
      [[True, False, True], [True, True, True]]
    """
    for leaf in jax.tree.leaves(masks):
        if leaf.dtype != bool:
            raise UserError(f"masks: a leaf is of {leaf.dtype}, not of bools; give masks, True = kept")
    bits = jax.tree.map(lambda leaf: jnp.packbits(jnp.reshape(leaf, -1)), masks)
    return PackedMasks(bits, tuple(leaf.shape for leaf in jax.tree.leaves(masks)))


def unpack_masks(packed: PackedMasks) -> Masks:
    """Unpack masks, exactly as `pack_masks` was given them.

    Args:
      packed: As from `pack_masks`, or its leaves as numpy arrays.

    Returns:
      Bool arrays, with the replica axes that the bits have.

    Raises:
      UserError: The bits are not those of the shapes.
    """
    leaves, treedef = jax.tree.flatten(packed.bits)
    return treedef.unflatten([_unpacked(leaf, shape) for leaf, shape in zip(leaves, packed.shapes, strict=True)])


def _unpacked(bits: Array, shape: tuple[int, ...]) -> Any:
    size = math.prod(shape)
    if bits.dtype != jnp.uint8 or bits.shape[-1:] != (-(-size // 8),):
        raise UserError(
            f"masks: {bits.dtype}{list(bits.shape)} does not hold the bits of {list(shape)}; pack them anew"
        )
    return jnp.unpackbits(bits, axis=-1, count=size).astype(bool).reshape(*bits.shape[:-1], *shape)
