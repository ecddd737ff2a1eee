"""The contract of every rule: what it lets be cut leaves the masked network's outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from jaxprune import pruning
from jaxprune.compat import enable_x64
from jaxprune.coupling.rules.every import RULES

B, N = 5, 6  # five examples, six channels; `extra` is a second parameter for each channel
KEEP = np.array([1, 0, 1, 1, 0, 1], bool)


def unary(name):
    return lambda h, extra: getattr(lax, name)(h)


def looped(h, extra):
    return lax.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, jnp.tanh(c[1]) * extra), (0, h))[1]


@jax.custom_vjp
def backward_of_its_own(h):
    return h * h


backward_of_its_own.defvjp(lambda h: (h * h, h), lambda h, g: (g * h,))

# Operation -> (function of h [B, N] and extra [N] that has it, whether the channels of h can be cut).
CUT, WHOLE = True, False
PROGRAMS = {
    **{name: (unary(name), CUT) for name in ("abs", "asin", "atan", "ceil", "erf", "expm1", "floor", "neg", "sign")},
    **{name: (unary(name), CUT) for name in ("sin", "sinh", "sqrt", "square", "tan", "tanh", "asinh", "atanh")},
    **{name: (unary(name), CUT) for name in ("log1p", "cbrt", "round", "bessel_i1e", "erf_inv")},
    "real": (lambda h, e: jnp.real(lax.complex(h, e + 0 * h)), CUT),
    "conj": (lambda h, e: jnp.abs(jnp.conj(lax.complex(h, h))), CUT),
    **{name: (lambda h, e, name=name: h * getattr(lax, name)(h), CUT) for name in ("cos", "exp", "exp2", "logistic")},
    **{name: (lambda h, e, name=name: h * getattr(lax, name)(h), CUT) for name in ("cosh", "erfc", "bessel_i0e")},
    **{name: (lambda h, e, name=name: h * getattr(lax, name)(h), WHOLE) for name in ("log", "rsqrt", "digamma")},
    **{name: (lambda h, e, name=name: h * getattr(lax, name)(h), WHOLE) for name in ("lgamma", "acosh")},
    **{
        name: (lambda h, e, name=name: h * getattr(lax, name)(h, e + 0 * h), CUT)
        for name in ("eq", "ge", "gt", "le", "lt")
    },
    "ne": (lambda h, e: jnp.where(h != e, h, 0), CUT),
    "acos": (lambda h, e: h * lax.acos(h), CUT),
    "atan2": (lambda h, e: h * lax.atan2(h, e + 1 + 0 * h), CUT),
    "nextafter": (lambda h, e: h * lax.nextafter(h, e + h), CUT),
    "is_finite": (lambda h, e: h * lax.is_finite(h), CUT),
    "not": (lambda h, e: h * ~(h > 0.3), CUT),
    "and": (lambda h, e: h * ((h > 0) & (e > 0)), CUT),
    "or": (lambda h, e: h * ((h > 0) | (e > 0)), CUT),
    "xor": (lambda h, e: h * ((h > 0) ^ (e > 0)), CUT),
    "add": (lambda h, e: h + e, CUT),
    "sub": (lambda h, e: h - e, CUT),
    "mul": (lambda h, e: h * e, CUT),
    "div": (lambda h, e: h / (1 + e * e), CUT),
    "rem": (lambda h, e: lax.rem(h, 1 + e * e + 0 * h), CUT),
    "max": (lambda h, e: jnp.maximum(h, 0), CUT),
    "min": (lambda h, e: jnp.minimum(h, 0.2), CUT),
    "clamp": (lambda h, e: lax.clamp(-0.1, h, 0.3), CUT),
    "pow": (lambda h, e: h**2.5, CUT),
    "integer_pow": (lambda h, e: h**3, CUT),
    "select_n": (lambda h, e: jnp.where(h > e, h, 2 * h), CUT),
    "stop_gradient": (lambda h, e: h * lax.stop_gradient(h), CUT),
    "convert_element_type": (lambda h, e: h.astype(jnp.float16).astype(h.dtype), CUT),
    "reduce_precision": (lambda h, e: lax.reduce_precision(h, 5, 7), CUT),
    "bitcast_convert_type": (lambda h, e: h * (lax.bitcast_convert_type(h, jnp.int64) > 5), CUT),
    "shift_left": (lambda h, e: h * (lax.bitcast_convert_type(h, jnp.int64) << 1 > 5), CUT),
    "shift_right_logical": (lambda h, e: h * lax.shift_right_logical(h.astype(jnp.int32), jnp.int32(1)), CUT),
    "shift_right_arithmetic": (lambda h, e: h * lax.shift_right_arithmetic(h.astype(jnp.int32), jnp.int32(1)), CUT),
    "population_count": (lambda h, e: h * lax.population_count(h.astype(jnp.int32)), CUT),
    "clz": (lambda h, e: h * lax.clz(h.astype(jnp.int32)), CUT),
    "complex": (lambda h, e: jnp.abs(lax.complex(h, e + 0 * h) * h), CUT),
    "imag": (lambda h, e: jnp.imag(lax.complex(e + 0 * h, h)), CUT),
    "optimization_barrier": (lambda h, e: lax.optimization_barrier((h, e))[0], CUT),
    "name": (lambda h, e: checkpoint_name(h, "h"), CUT),
    "transpose": (lambda h, e: h.T.T * 1.0, CUT),
    "squeeze": (lambda h, e: jnp.squeeze(lax.reshape(h, (B, 1, N)), 1), CUT),
    "broadcast_in_dim": (lambda h, e: h * jnp.broadcast_to(e, (B, N)), CUT),
    "reshape": (lambda h, e: h.reshape(B * N).reshape(B, N), CUT),
    "dot_general": (lambda h, e: (h @ h.T) @ h, CUT),
    "reduce_sum": (lambda h, e: h * h.sum(1, keepdims=True), CUT),
    "reduce_max": (lambda h, e: h * h.max(1, keepdims=True), WHOLE),
    "reduce_min": (lambda h, e: h * h.min(1, keepdims=True), WHOLE),
    "reduce_prod": (lambda h, e: h + h.prod(1, keepdims=True), WHOLE),
    "reduce_or": (lambda h, e: h * (h > 0.7).any(0), CUT),
    "reduce_and": (lambda h, e: h * (h > 0.2).all(1, keepdims=True), WHOLE),
    "reduce_xor": (lambda h, e: h * lax.reduce_xor((h > 0).astype(jnp.int32), (1,))[:, None], WHOLE),
    "argmax": (lambda h, e: h * h.argmax(0), CUT),
    "argmin": (lambda h, e: h * h.argmin(1, keepdims=True), WHOLE),
    "cumsum": (lambda h, e: jnp.cumsum(h, 0), CUT),
    "cumprod": (lambda h, e: h * jnp.cumprod(h, 1), WHOLE),
    "cummax": (lambda h, e: lax.cummax(h, 0), CUT),
    "cummin": (lambda h, e: lax.cummin(h, 0), CUT),
    "cumlogsumexp": (lambda h, e: h * lax.cumlogsumexp(h, 0), CUT),
    "sort": (lambda h, e: jnp.sort(h, 0), CUT),
    "rev": (lambda h, e: h[::-1], CUT),
    "top_k": (lambda h, e: h * lax.top_k(h, 2)[0].sum(1, keepdims=True), WHOLE),
    "reduce_window_sum": (lambda h, e: lax.reduce_window(h, 0.0, lax.add, (2, 1), (1, 1), "SAME"), CUT),
    "reduce_window_max": (lambda h, e: lax.reduce_window(h, -np.inf, lax.max, (1, 2), (1, 1), "SAME"), WHOLE),
    "reduce_window_min": (lambda h, e: lax.reduce_window(h, np.inf, lax.min, (2, 1), (1, 1), "SAME"), CUT),
    "concatenate": (lambda h, e: (jnp.concatenate([h, h], 1) * 2)[:, N:], CUT),
    "pad": (lambda h, e: lax.pad(h, jnp.zeros((), h.dtype), ((0, 0, 0), (2, 1, 0)))[:, 2 : N + 2], CUT),
    "slice": (lambda h, e: jnp.concatenate([h[:, :3], h[:, 3:]], 1), CUT),
    "split": (lambda h, e: jnp.concatenate(jnp.split(h, [2], 1), 1), CUT),
    "stack": (lambda h, e: jnp.stack([h, 2 * h], 1).sum(1), CUT),
    "unstack": (lambda h, e: sum(jnp.unstack(h.reshape(B, 1, N), axis=1)), CUT),
    "tile": (lambda h, e: jnp.tile(h, (1, 2))[:, :N], CUT),
    "gather": (lambda h, e: h[jnp.arange(B)[::-1]], CUT),
    "dynamic_slice": (lambda h, e: h * lax.dynamic_slice(h, (jnp.int32(2), jnp.int32(0)), (1, N)), CUT),
    "dynamic_update_slice": (lambda h, e: lax.dynamic_update_slice(h, h[:1] * 2, (jnp.int32(2), jnp.int32(0))), CUT),
    "scatter": (lambda h, e: h.at[jnp.array([1, 3])].set(h[:2], unique_indices=True), CUT),
    "scatter-add": (lambda h, e: h.at[jnp.array([1, 1])].add(h[:2]), CUT),
    "iota": (lambda h, e: h * lax.iota(h.dtype, B)[:, None], CUT),
    "jit": (lambda h, e: jax.jit(jnp.tanh)(h), CUT),
    "remat2": (lambda h, e: jax.checkpoint(jnp.tanh)(h), CUT),
    "custom_jvp_call": (lambda h, e: jax.nn.relu(h), CUT),
    "custom_vjp_call": (lambda h, e: backward_of_its_own(h), CUT),
    "scan": (lambda h, e: lax.scan(lambda c, _: (jnp.tanh(c) * e, None), h, None, length=2)[0], CUT),
    "while": (looped, CUT),
    "cond": (lambda h, e: lax.cond(e[0] > 9, lambda: h, lambda: 2 * h), CUT),
    "platform_index": (lambda h, e: lax.platform_dependent(h, cpu=lambda h: h * 2, default=lambda h: h + h), CUT),
}
# Operations that are met with arrays of other forms, in tests of networks, or by other names in other versions of JAX.
ELSEWHERE = {
    "conv_general_dilated", "jaxprune_convolution", "random_bits", "random_seed", "random_wrap", "random_unwrap",
    "random_split", "random_fold_in", "threefry2x32", "copy", "copy_p", "pcast", "pvary", "sharding_constraint",
    "add_any", "eq_to", "le_to", "lt_to", "igamma", "igamma_grad_a", "igammac", "polygamma", "zeta",
    "regularized_incomplete_beta", "mulhi", "one_minus_square", "log2", "pjit", "closed_call", "core_call", "remat",
    "checkpoint", "custom_vjp_call_jaxpr", "scatter_add",
}  # fmt: skip


def test_every_rule_has_a_program():
    assert set(RULES) - set(PROGRAMS) - ELSEWHERE == set()


def names_in(jaxpr):
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda v: hasattr(v, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from names_in(inner)


@pytest.fixture(scope="module", autouse=True)
def wide():
    with enable_x64(True):
        yield


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_cut_leaves_the_outputs_of_the_masked_network(name):
    check(name)


@pytest.mark.versions
def test_operations_that_versions_of_jax_write_in_other_ways():
    for name in ("scan", "while", "cond", "platform_index", "custom_jvp_call", "custom_vjp_call", "remat2", "gather"):
        check(name)


def check(name):
    operation, can_be_cut = PROGRAMS[name]
    if not hasattr(lax, name) and name in ("stack", "unstack", "tile"):
        pytest.skip("not an operation of this version of JAX")
    rng = np.random.default_rng(0)
    # Positive and below 1, where every operation is defined; all pruned channels are 0 in the masked network.
    params = {"up": rng.uniform(0.01, 0.2, (4, N)), "extra": rng.uniform(0.1, 0.9, N), "down": rng.normal(size=(N, 3))}
    x = jnp.asarray(rng.uniform(0.1, 0.9, (B, 4)))

    def apply(params, x):
        return operation(x @ params["up"], params["extra"]) @ params["down"]

    traced = jax.make_jaxpr(apply)(params, x)
    if name not in set(names_in(traced.jaxpr)):
        pytest.skip("this version of JAX has another operation for it")
    found = pruning.couplings(apply, params, sample=x)
    sizes = {coupling.name: coupling.size for coupling in found if "up" in coupling.producers}
    assert sum(sizes.values()) == (N if can_be_cut else 0), found.pinned
    if not can_be_cut:
        assert any(pinned.path == "up" and pinned.axis == 1 for pinned in found.pinned)
        return
    ends = np.cumsum(list(sizes.values()))
    keep = {name: KEEP[end - size : end] for (name, size), end in zip(sizes.items(), ends, strict=True)}
    masks = found.masks(keep, params)
    masked = pruning.apply_masks(params, masks)
    smaller = pruning.compact(apply, params, masks=masks, sample=x, couplings=found)
    assert smaller.params["up"].shape == (4, KEEP.sum())
    calls = jax.jit(smaller.network.freeze(()))
    outputs = calls(smaller.params, x)
    calls(jax.tree.map(lambda leaf: leaf * 2, smaller.params), x)
    assert calls._cache_size() == 1
    expected = apply(masked, x)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(outputs, expected, rtol=1e-12, atol=1e-14)
