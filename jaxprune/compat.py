"""Differences between the supported versions of jax and flax."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

if TYPE_CHECKING:
    from flax.nnx import Dict as ModuleDict

if TYPE_CHECKING or hasattr(jax, "enable_x64"):
    enable_x64 = jax.enable_x64
else:
    from jax.experimental import enable_x64

__all__ = ["ModuleDict", "enable_x64", "evaluate_now"]

_LOOPS_WHILE_TRACING = jax.__version_info__ >= (0, 8)


def evaluate_now(function: Any, *args: Any) -> Any:
    """Call a jitted function on known values, even under a trace.

    Before jax 0.8 a function that is traced within `jax.ensure_compile_time_eval` may have no loops; one that is
    compiled already may.

    Args:
      function: What `jax.jit` returned.
      *args: Its arguments, none of them traced.

    Returns:
      What it returns: known values.
    """
    if not _LOOPS_WHILE_TRACING:
        if not isinstance(jnp.zeros(()), Tracer):
            return function(*args)
        function = function.lower(*args).compile()
    with jax.ensure_compile_time_eval():
        return function(*args)


def _module_dict() -> Callable[[Mapping[str, Any]], Any]:
    """`flax.nnx.Dict`, or an equivalent with the same parameter paths."""
    from flax import nnx  # here: what needs no networks of flax does not import it

    if hasattr(nnx, "Dict"):
        return nnx.Dict

    class ModuleDict(nnx.Module):
        """Modules by name, as `nnx.Dict` is from flax 0.12 on."""

        def __init__(self, members: Mapping[str, Any]):
            for name, member in members.items():
                setattr(self, name, member)

        def __getitem__(self, name: str) -> Any:
            return getattr(self, name)

        def __len__(self) -> int:
            return sum(isinstance(member, nnx.Module) for member in vars(self).values())

    return ModuleDict


def __getattr__(name: str) -> Any:
    if name == "ModuleDict":
        globals()[name] = _module_dict()
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
