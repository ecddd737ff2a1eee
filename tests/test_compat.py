"""The oldest and the newest versions of jax and flax alike: what compat.py evens out, and a network on top of it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.extend.core import Literal
from jax.flatten_util import ravel_pytree
from scipy.sparse.linalg import LinearOperator, eigsh

from jaxprune import models, theory
from jaxprune.compat import ModuleDict, called_program, enable_x64, evaluate_equation, evaluate_now
from jaxprune.models.resnet import ResNet
from jaxprune.types import Batch

pytestmark = pytest.mark.versions


@jax.jit
def running_sum(x):
    return jax.lax.scan(lambda total, one: (total + one, total + one), jnp.zeros(()), x)


def test_a_program_is_evaluated_equation_by_equation():
    """Through calls, by `jit` and for the sake of derivatives, and into none of the loops."""
    entered = []

    def evaluate(jaxpr, constants, values):
        known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *values], strict=True))
        for equation in jaxpr.eqns:
            inputs = [v.val if isinstance(v, Literal) else known[v] for v in equation.invars]
            called = called_program(equation)
            entered.append(called is not None)
            results = evaluate_equation(equation, inputs) if called is None else evaluate(*called, inputs)
            known.update(zip(equation.outvars, results, strict=True))
        return [v.val if isinstance(v, Literal) else known[v] for v in jaxpr.outvars]

    def function(x):
        return running_sum(jax.checkpoint(jax.nn.relu)(jnp.sin(x)))[1] + 1

    x = jnp.array([1.0, 2.0, -1.0])
    program = jax.make_jaxpr(function)(x)
    np.testing.assert_allclose(evaluate(program.jaxpr, program.consts, [x])[0], function(x), rtol=1e-6)
    assert sum(entered) >= 3


def test_known_values_are_computed_while_a_function_is_traced():
    known, found = jnp.arange(4.0), []

    @jax.jit
    def traced(y):
        total, parts = evaluate_now(running_sum, known)
        found.append((float(total), np.asarray(parts).tolist()))
        return y + total

    assert float(traced(1.0)) == 7.0
    assert found == [(6.0, [0.0, 1.0, 3.0, 6.0])]
    assert float(evaluate_now(running_sum, known)[0]) == 6.0


def test_float64_lasts_as_long_as_it_is_asked_for():
    with enable_x64(True):
        assert jnp.ones(1).dtype == jnp.float64
        with enable_x64(False):
            assert jnp.ones(1).dtype == jnp.float32
    assert jnp.ones(1).dtype == jnp.float32


def test_torchvision_paths():
    """Modules by name give parameters the paths of torchvision."""
    rngs = nnx.Rngs(0)
    modules = ModuleDict({"0": nnx.Linear(2, 3, rngs=rngs), "1": nnx.Linear(3, 1, rngs=rngs)})
    assert len(modules) == 2
    assert modules["1"](modules["0"](jnp.ones((5, 2)))).shape == (5, 1)
    parameters = nnx.to_pure_dict(nnx.state(modules))
    assert {name: set(of) for name, of in parameters.items()} == {"0": {"kernel", "bias"}, "1": {"kernel", "bias"}}


def test_gradients_and_curvature_of_a_resnet_in_float64():
    """Against jax.grad, and against the eigenvalue that scipy finds, of each group's mean loss."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 8, 8, 3)).astype(np.float32)
    y, group = np.arange(8) % 3, np.arange(8) // 4
    options = {"base": 4, "width": 1.0, "norm": "batch", "stem": "small"}
    module = ResNet(x[0], 3, blocks=(1,), rngs=nnx.Rngs(0), **options)  # few blocks: most of the time is compilation
    network, params, stats = models.from_nnx(module)
    with enable_x64(True):
        params, stats, x = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (params, stats, x))
        apply = network.freeze(stats)
        batch = Batch(x, jnp.asarray(y), jnp.asarray(group), jnp.ones(8))
        norms = theory.group_gradient_norms(apply, params, batch, num_groups=2)
        top = theory.group_top_eigenvalues(apply, params, batch, num_groups=2, key=jax.random.key(1), tolerance=1e-8)
        flat, unravel = ravel_pytree(params)

        def loss(vector, xs, ys):
            return optax.softmax_cross_entropy_with_integer_labels(apply(unravel(vector), xs), ys).mean()

        gradient = jax.jit(jax.grad(loss))
        product = jax.jit(lambda v, xs, ys: jax.jvp(lambda p: jax.grad(loss)(p, xs, ys), (flat,), (v,))[1])

        def hvp(examples, vector):
            return np.asarray(product(vector.ravel(), *examples))

        for code in range(2):
            examples = (batch.x[group == code], batch.y[group == code])
            hessian = LinearOperator((flat.size,) * 2, partial(hvp, examples), dtype=np.float64)
            largest = eigsh(hessian, k=1, which="LA", tol=1e-8, return_eigenvectors=False)[0]
            np.testing.assert_allclose(norms[code], jnp.linalg.norm(gradient(flat, *examples)), rtol=1e-9)
            np.testing.assert_allclose(top.value[code], largest, rtol=1e-6)
