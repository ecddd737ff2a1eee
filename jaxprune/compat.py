"""Differences between the supported versions of jax and flax."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.extend import source_info_util
from jax.extend.core import ClosedJaxpr

if TYPE_CHECKING:
    from flax.nnx import Dict as ModuleDict

if TYPE_CHECKING or hasattr(jax, "enable_x64"):
    enable_x64 = jax.enable_x64
else:
    from jax.experimental import enable_x64

__all__ = [
    "ModuleDict",
    "called_program",
    "enable_x64",
    "evaluate_equation",
    "evaluate_now",
    "place_of",
    "program_and_constants",
    "scan_counts",
]

_LOOPS_WHILE_TRACING = jax.__version_info__ >= (0, 8)


# Equations that do no more than call a program, by all the names that versions of JAX have for them.
_CALLS = ("jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint", "custom_jvp_call",
          "custom_vjp_call", "custom_vjp_call_jaxpr")  # fmt: skip


def called_program(equation: Any) -> tuple[Any, Sequence[Any]] | None:
    """The program that an equation of a jaxpr calls, and its constants.

    None where it is no call. The rules of its own that a call has for derivatives are not part of the program.
    """
    if equation.primitive.name not in _CALLS:
        return None
    names = ("jaxpr", "call_jaxpr", "fun_jaxpr")
    inner = next((equation.params[name] for name in names if name in equation.params), None)
    return None if inner is None else program_and_constants(inner)


def program_and_constants(program: Any) -> tuple[Any, Sequence[Any]]:
    """The program of an equation's parameter, and its constants."""
    return (program.jaxpr, program.consts) if isinstance(program, ClosedJaxpr) else (program, ())


def scan_counts(equation: Any) -> tuple[int, int]:
    """The numbers of constants and of carried arrays of a scan."""
    if "num_consts" in equation.params:
        return equation.params["num_consts"], equation.params["num_carry"]
    constants, carried, _ = equation.params["ft_in"].unpack()  # from jax 0.12 on
    return len(constants), len(carried)


def place_of(equation: Any) -> str:
    """The line that an equation comes from, as `norms.py:12:8 (layer_norm)`."""
    return source_info_util.summarize(equation.source_info).replace("\\", "/").rpartition("/")[2]


def evaluate_equation(equation: Any, values: Sequence[Any], **changes: Any) -> list[Any]:
    """Evaluate one equation of a jaxpr.

    Args:
      equation: The equation.
      values: Its inputs.
      **changes: Parameters of the equation to replace.
    """
    bound = equation.primitive.get_bind_params(equation.params | changes)
    functions, parameters = bound if isinstance(bound, tuple) else ((), bound)  # a pair before jax 0.10
    results = equation.primitive.bind(*functions, *values, **parameters)
    return list(results) if equation.primitive.multiple_results else [results]


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
