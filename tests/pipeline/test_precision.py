"""The precision of products: that audit and theory ask for the highest, so that their R(a) agree on a TPU."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune import auditing, theory
from jaxprune.types import Batch

G = 2
PARAMS = {"w": jnp.ones((3, 2)), "v": jnp.ones((2, 2))}
EXAMPLES = Batch(np.ones((8, 3), np.float32), np.arange(8) % 2, np.arange(8) % G, np.ones(8, np.float32))
CHUNKS = theory.by_group(EXAMPLES, G)


def apply(params, x):
    return jnp.tanh(x @ params["w"]) @ params["v"]


def products(params):
    operator = theory.group_operator(apply, params, CHUNKS, num_groups=G)
    return theory.group_extreme_eigenvalues(operator, jax.random.key(0), max_iterations=2)


MEASURED = {
    "evaluate": lambda params: auditing.evaluate(apply, params, EXAMPLES, num_groups=G),
    "boundary": lambda params: theory.boundary_distance(apply, params, EXAMPLES, num_groups=G),
    "gradients": lambda params: theory.group_gradient_norms(apply, params, CHUNKS, num_groups=G),
    "taylor": lambda params: theory.taylor(apply, params, PARAMS, EXAMPLES, num_groups=G),
    "attribution": lambda params: theory.attribution(apply, params, PARAMS, CHUNKS, num_groups=G),
    "eigenvalues": products,
}


@pytest.mark.parametrize("name", MEASURED)
def test_every_product_that_is_measured_has_the_highest_precision(name) -> None:
    program = jax.jit(MEASURED[name]).lower(PARAMS).as_text()
    found = [line for line in program.splitlines() if "dot_general" in line]
    assert found
    low = [line for line in found if not re.search(r"precision = \[HIGHEST, HIGHEST\]", line)]
    assert not low, low[0]


def test_what_is_not_measured_has_the_default() -> None:
    program = jax.jit(apply).lower(PARAMS, EXAMPLES.x).as_text()
    assert "HIGHEST" not in program, "the test above would hold of anything"
