"""Evaluation of a network beyond the range of floats.

Arrays of the program carry an exponent: they stand for value x 2^exponent. Each matrix product or convolution scales
its result back to about 1. The result is that of plain floats, bit by bit, where those neither overflow nor underflow,
as powers of two do not round. Exponents are constants to a derivative, so derivatives in scaled results stay in range.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxprune.compat import called_program, evaluate_equation
from jaxprune.programs import evaluate_program
from jaxprune.types import Apply, Array, Params

_SUMS = ("dot_general", "conv_general_dilated", "jaxprune_convolution")  # of many products, which grow
# f(2^e x) = 2^e f(x) for the one operand of floats.
_LINEAR = ("reshape", "transpose", "squeeze", "expand_dims", "copy", "copy_p", "rev", "broadcast_in_dim", "slice",
           "neg", "abs", "stop_gradient", "reduce_sum", "reduce_max", "reduce_min", "cumsum", "cummax", "dynamic_slice",
           "gather", "reduce_window_sum", "reduce_window_max", "reduce_window_min", "convert_element_type")  # fmt: skip
# f(2^e x, 2^e y) = 2^e f(x, y): all floats are brought to one exponent.
_ALIGNED = ("add", "add_any", "sub", "max", "min", "clamp", "concatenate", "pad", "select_n", "dynamic_update_slice")
_COMPARED = ("gt", "lt", "ge", "le", "eq", "ne")
_ZEROS = -(2**20)  # the exponent of an array of zeros, which any other outweighs
_LARGEST = 126  # the largest power of two whose inverse is a normal float32 too


class Scaled(NamedTuple):
    """An array with an exponent.

    Attributes:
      value: The array, divided by 2^exponent if it is of floats.
      exponent: [] int32, or the number 0 for an array as it is.
    """

    value: Array
    exponent: Any = 0

    @property
    def is_plain(self) -> bool:
        """Whether the array is as it is."""
        return isinstance(self.exponent, int)


def apply_scaled(apply: Apply, params: Params, x: Array) -> Scaled:
    """Evaluate a network with exponents beside its arrays.

    Operations that are neither linear nor a maximum, such as an exponential, are done on plain floats.

    Args:
      apply: `(params, x) -> logits [B, C]`.
      params: The parameters.
      x: [B, ...] inputs.

    Returns:
      The logits.
    """
    program = jax.make_jaxpr(apply)(params, x)
    inputs = [Scaled(jnp.asarray(leaf)) for leaf in jax.tree.leaves((params, x))]
    return _run(program.jaxpr, program.consts, inputs)[0]


def _run(jaxpr: Any, constants: Sequence[Any], inputs: Sequence[Scaled]) -> list[Scaled]:
    return evaluate_program(jaxpr, constants, inputs, step=_step, plain=Scaled)


def _step(equation: Any, inputs: list[Scaled]) -> list[Scaled]:
    name = equation.primitive.name
    if (called := called_program(equation)) is not None:
        return _run(*called, inputs)
    values, exponents = [v.value for v in inputs], [v.exponent for v in inputs]
    if name in _SUMS:
        return [_scale(evaluate_equation(equation, values)[0], exponents[0] + exponents[1])]
    if all(v.is_plain for v in inputs):
        return [Scaled(result) for result in evaluate_equation(equation, values)]
    if name == "cond":
        return _branch(equation, inputs)
    if name == "mul":
        return [Scaled(evaluate_equation(equation, values)[0], exponents[0] + exponents[1])]
    if name == "div":
        return [Scaled(evaluate_equation(equation, values)[0], exponents[0] - exponents[1])]
    if name in _LINEAR:
        return [Scaled(evaluate_equation(equation, values)[0], exponents[0])]
    if name in (*_ALIGNED, *_COMPARED):
        exponent = _largest_exponent(inputs)
        result = evaluate_equation(equation, [_divided(v, exponent) for v in inputs])[0]
        return [Scaled(result, exponent if name in _ALIGNED else 0)]
    return [Scaled(result) for result in evaluate_equation(equation, [_divided(v, jnp.int32(0)) for v in inputs])]


def _branch(equation: Any, inputs: list[Scaled]) -> list[Scaled]:
    """The branches of a condition, whose results have an exponent each."""
    index, *operands = inputs

    def branch(program: Any, operands: list[Scaled]) -> list[Scaled]:
        results = _run(program.jaxpr, program.consts, [Scaled(*operand) for operand in operands])
        return [Scaled(value, jnp.int32(exponent)) for value, exponent in results]

    branches = [lambda operands, program=program: branch(program, operands) for program in equation.params["branches"]]
    return jax.lax.switch(index.value.astype(jnp.int32), branches, operands)


def _scale(value: Array, exponent: Any) -> Scaled:
    """Bring the largest value to about 1, by the exponent."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(value)))
    bits = jax.lax.bitcast_convert_type(largest.astype(jnp.float32), jnp.int32)
    power = jnp.clip((bits >> 23) - 127, -_LARGEST, _LARGEST)  # the exponent of a float32 that is not negative
    # Without the barrier the compiler computes the scalars again in every operation that they reach.
    power, total = jax.lax.optimization_barrier((power, jnp.where(largest > 0, exponent + power, _ZEROS)))
    return Scaled(value * _power(-power, value.dtype), total)


def _largest_exponent(inputs: list[Scaled]) -> Array:
    exponents = [jnp.int32(v.exponent) for v in inputs if _is_float(v.value) and not _is_zero(v.value)]
    return jax.lax.optimization_barrier(jnp.max(jnp.stack(exponents)))


def _divided(scaled: Scaled, exponent: Array) -> Any:
    """The array divided by 2^exponent."""
    if not _is_float(scaled.value) or _is_zero(scaled.value):
        return scaled.value
    value = jnp.asarray(scaled.value)
    return value * _power(scaled.exponent - exponent, value.dtype)


def _power(power: Array, dtype: Any) -> Array:
    """2^power, exact; 0 or infinity where it is outside of float32."""
    inside = jax.lax.bitcast_convert_type((jnp.clip(power, -_LARGEST, _LARGEST) + 127) << 23, jnp.float32)
    factor = jnp.where(power < -_LARGEST, 0, jnp.where(power > _LARGEST, jnp.inf, inside))
    return jax.lax.stop_gradient(factor.astype(dtype))


def _is_float(value: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(value), jnp.floating)


def _is_zero(value: Any) -> bool:
    """Return True for the 0 of `max(x, 0)`, which has every exponent."""
    return not isinstance(value, Tracer) and jnp.ndim(value) == 0 and value == 0
