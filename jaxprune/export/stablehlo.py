"""Networks as compiled programs that run without jaxprune, by `jax.export`."""

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from jaxprune import models
from jaxprune.errors import UserError
from jaxprune.export.descriptions import Description, beside
from jaxprune.export.samples import first_row, gives_logits
from jaxprune.files import write_atomically
from jaxprune.networks import Network, as_network
from jaxprune.types import Apply, Array, Params, Stats

PLATFORMS = ("cpu", "cuda", "tpu")
_BATCH = "batch"  # the name of the free size


def to_stablehlo(
    network: Network | Apply,
    params: Params,
    stats: Stats = (),
    *,
    sample: Any,
    batch: int | None = None,
    platforms: Sequence[str] = PLATFORMS,
    warn: Callable[[str], None] = warnings.warn,
) -> jax_export.Exported:
    """Lower a network in evaluation mode, with its parameters inside.

    The program is plain StableHLO: jaxprune's own convolutions become the compiler's, and no code of this machine is
    called. `exported.serialize()` gives bytes that `jax.export.deserialize(data).call(x)` runs where jax is installed.

    Args:
      network: The network, or a function `apply(params, x)`.
      params: The parameters, without a replica axis.
      stats: The statistics.
      sample: One example, [...], or anything with its shape and type, as for `models.create`. A batch is refused where
        the network tells the two apart.
      batch: The number of examples in a call; None for any number. Where the network cannot be traced for any number,
        it is lowered for 1, with a warning.
      platforms: Where it is to run, names of `PLATFORMS` and others that jax knows. Those that it cannot be lowered
        for are left out, with a warning.
      warn: Takes the warnings.

    Returns:
      The program, a function of x [B, ...] -> logits [B, C].

    Raises:
      UserError: The network cannot be lowered for any of the platforms, or `sample` is a batch.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxprune import export, models
      >>> network, params, stats = models.create("mlp", jax.random.key(0), jnp.zeros(4), num_classes=3)
      >>> exported = export.to_stablehlo(network, params, stats, sample=jnp.zeros(4))
      >>> exported.call(jnp.ones((5, 4), jnp.float32)).shape
      (5, 3)
    """
    if batch is not None and batch < 1:
        raise UserError(f"batch: {batch} examples are none; give at least 1, or None for any number")
    apply = as_network(network).apply

    def program(x: Array) -> Array:
        return apply(params, stats, x, False)[0]

    if not gives_logits(program, sample):
        _refuse_batch(program, sample, platforms)
    sizes: list[Any] = [1 if batch is None else batch]
    if batch is None:
        sizes.insert(0, jax_export.symbolic_shape(_BATCH)[0])
    faults: list[str] = []
    exported = _lowered(program, sizes, sample, platforms, faults)
    if exported is None:
        _refuse_batch(program, sample, platforms)
        raise UserError(
            f"network: it cannot be lowered for {', '.join(platforms)} ({faults[-1]}); export its weights instead"
        )
    _say_what_is_left_out(exported, batch, platforms, faults, warn)
    _say_where_both_fit(program, sample, platforms, warn)
    return exported


def save_stablehlo(path: str | Path, exported: jax_export.Exported, description: Description | None = None) -> None:
    """Write a program of `to_stablehlo`, and its description beside it.

    The description, FILE.json, has the shapes and types of inputs and outputs, the platforms and the version of jax.

    Args:
      path: The file.
      exported: The program.
      description: Further plain values for FILE.json.

    Raises:
      UserError: The package flatbuffers is not installed.
    """
    try:
        content = bytes(exported.serialize())
    except ImportError:
        raise UserError(
            "format: stablehlo needs the package flatbuffers, which is not installed; pip install flatbuffers"
        ) from None
    facts = {
        "format": "jax.export",
        "jax": jax.__version__,
        "calling_convention_version": exported.calling_convention_version,
        "platforms": list(exported.platforms),
        "inputs": [_described(exported.in_avals[0])],
        "outputs": [_described(exported.out_avals[0])],
    }
    # The description first: a file that is there has one.
    write_atomically(beside(path), json.dumps(facts | dict(description or {}), indent=2) + "\n")
    write_atomically(Path(path), content)


def _choices(platforms: Sequence[str]) -> list[list[str]]:
    """All platforms together, then fewer and fewer, then each alone."""
    first = [list(platforms[:n]) for n in range(len(platforms), 0, -1)]
    return [*first, *([name] for name in platforms[1:])]


def _lowered(
    program: Callable[[Array], Array], sizes: Sequence[Any], sample: Any, platforms: Sequence[str], faults: list[str]
) -> jax_export.Exported | None:
    """The program for the first size and the most platforms.

    Faults are added to the list; None where nothing can be lowered.
    """
    for size in sizes:
        x = jax.ShapeDtypeStruct((size, *np.shape(sample)), jnp.result_type(sample))
        for chosen in _choices(platforms):
            try:
                return _lower(program, x, chosen)
            except Exception as error:  # of any library that the network is written in
                faults.append(" ".join(f"{type(error).__name__}: {error}".split())[:200])
    return None


def _takes_rows(program: Callable[[Array], Array], sample: Any, platforms: Sequence[str]) -> bool:
    """Whether the first row of a sample is an example."""
    row = first_row(sample)
    return row is not None and gives_logits(program, row) and _lowered(program, [1], row, platforms, []) is not None


def _refuse_batch(program: Callable[[Array], Array], sample: Any, platforms: Sequence[str]) -> None:
    """Raise for an unfit sample of which the first row fits."""
    if _takes_rows(program, sample, platforms):
        shape = list(np.shape(sample))
        raise UserError(f"sample: {shape} is a batch of examples {shape[1:]}; give one of them, such as sample[0]")


def _say_where_both_fit(
    program: Callable[[Array], Array], sample: Any, platforms: Sequence[str], warn: Callable[[str], None]
) -> None:
    shape = list(np.shape(sample))
    if shape[:1] == [1] and _takes_rows(program, sample, platforms):
        warn(
            f"sample: examples of {shape} and of {shape[1:]} fit the network, and the program takes the former; if the "
            "sample is a batch of one, give sample[0]"
        )


def _lower(program: Callable[[Array], Array], x: Any, platforms: list[str]) -> jax_export.Exported:
    # A new function each time: what jax keeps of a traced one was perhaps lowered with native code.
    with models.plain_convolutions():
        return jax_export.export(jax.jit(lambda x: program(x)), platforms=platforms)(x)


def _say_what_is_left_out(
    exported: jax_export.Exported,
    batch: int | None,
    platforms: Sequence[str],
    faults: Sequence[str],
    warn: Callable[[str], None],
) -> None:
    size = exported.in_avals[0].shape[0]
    if batch is None and isinstance(size, int):
        warn(f"the network cannot be lowered for any number of examples ({faults[0]}); a call takes {size}")
    missing = [name for name in platforms if name not in exported.platforms]
    if missing:
        warn(f"the network cannot be lowered for {', '.join(missing)} ({faults[-1]}); left out")


def _described(aval: Any) -> dict[str, Any]:
    """The shape and type of an array, free sizes by their names."""
    return {"shape": [n if isinstance(n, int) else str(n) for n in aval.shape], "dtype": str(aval.dtype)}
