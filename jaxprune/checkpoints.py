"""Any pytree of arrays on disk, through orbax."""

import errno
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jaxprune.errors import DamagedFile, UserError
from jaxprune.files import check_room, check_seal, whole_folder
from jaxprune.trees import named_leaves
from jaxprune.types import PyTree

_ROOM_OF_A_LEAF = 8192  # bytes of metadata, generously


def save(path: Path | str, tree: PyTree) -> None:
    """Save the arrays of a pytree.

    What was at `path` is replaced once the new checkpoint is whole.

    The arrays are stored by their path in the tree (`params/dense_0/kernel`), so that orbax alone reads them as a
    flat dictionary, without jaxprune and without the classes of the tree. Random keys are stored as their data.

    Args:
      path: A folder.
      tree: Arrays in any structure.

    Raises:
      OSError: The folder cannot be written, or the disk is full.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import checkpoints
      >>> checkpoints.save("network", {"w": jnp.ones(3)})
    """
    path, arrays = Path(path).absolute(), _by_path(tree)
    size = sum(np.size(leaf) * leaf.dtype.itemsize + _ROOM_OF_A_LEAF for leaf in arrays.values())
    with whole_folder(path) as aside:
        check_room(aside, size)
        try:
            _checkpointer().save(aside / "arrays", args=ocp.args.StandardSave(arrays), force=True)
        except OSError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise OSError(errno.EIO, f"cannot be saved ({type(error).__name__}: {reason})", str(path)) from error


def restore(path: Path | str, like: PyTree, *, remedy: str = "delete its folder and run again") -> PyTree:
    """Restores a pytree that was saved with `save`.

    Args:
      path: The folder.
      like: A pytree of the same structure, of arrays or `jax.ShapeDtypeStruct`s.
      remedy: What to do with a damaged checkpoint, for the message.

    Returns:
      Arrays in the structure of `like`, on the default device.

    Raises:
      DamagedFile: The checkpoint is missing or damaged.
      UserError: It does not fit `like`.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxprune import checkpoints
      >>> checkpoints.save("trained", {"w": jnp.array([1.0, 2.0])})
      >>> checkpoints.restore("trained", {"w": jax.ShapeDtypeStruct((2,), jnp.float32)})["w"].tolist()
      [1.0, 2.0]
    """
    path = Path(path).absolute()
    if not path.is_dir():
        raise DamagedFile(f"there is no checkpoint at {path}", remedy)
    check_seal(path, remedy)
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted = {
        name: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype, sharding=place) for name, leaf in _by_path(like).items()
    }
    try:
        checkpointer = _checkpointer()
        metadata: Any = checkpointer.metadata(path / "arrays").item_metadata
        stored = metadata.tree
        _check_fit(path, stored, wanted)
        arrays = checkpointer.restore(path / "arrays", args=ocp.args.StandardRestore(wanted))
    except UserError:
        raise
    except Exception as error:
        raise DamagedFile(f"{path} cannot be read as a checkpoint ({type(error).__name__})", remedy) from error
    leaves = [_as_key(arrays[name], leaf) for name, leaf in zip(wanted, jax.tree.leaves(like), strict=True)]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _check_fit(path: Path, stored: dict, wanted: dict) -> None:
    surplus, missing = sorted(set(stored) - set(wanted)), sorted(set(wanted) - set(stored))
    if surplus or missing:
        names = [f"lacks {n}" for n in missing] + [f"has a surplus {n}" for n in surplus]
        raise UserError(f"{path} does not fit the network: it {', '.join(names)}; restore it with the settings it had")
    for name, leaf in wanted.items():
        if tuple(stored[name].shape) != tuple(leaf.shape):
            raise UserError(
                f"{path} does not fit the network: {name} has shape {tuple(stored[name].shape)}, "
                f"not {tuple(leaf.shape)}; restore it with the settings it had"
            )


def _by_path(tree: PyTree) -> dict[str, jax.Array]:
    return {name or "leaf": _plain(leaf) for name, leaf in named_leaves(tree)}


def _plain(leaf: Any) -> Any:
    """Random keys as whole numbers; other leaves as they are."""
    if not _is_key(leaf):
        return leaf
    shape_only = isinstance(leaf, jax.ShapeDtypeStruct)
    return jax.eval_shape(jax.random.key_data, leaf) if shape_only else jax.random.key_data(leaf)


def _as_key(array: jax.Array, like: Any) -> jax.Array:
    """Whole numbers as random keys, if `like` is a random key."""
    if not _is_key(like):
        return array
    kinds = []
    jax.eval_shape(lambda key: kinds.append(jax.random.key_impl(key)), like)
    return jax.random.wrap_key_data(array, impl=kinds[0])


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _checkpointer() -> ocp.Checkpointer:
    return ocp.Checkpointer(ocp.StandardCheckpointHandler())
