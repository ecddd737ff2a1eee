"""Input that the theory refuses, each on one line, and groups without examples: NaN, never a number about nobody."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_statements import known, linear, linear_weights, mlp, mlp_weights, people

from jaxprune import theory
from jaxprune.errors import UserError
from jaxprune.theory import statements
from jaxprune.types import Batch

KEY = jax.random.key(0)


def operator(apply, params, batch, **options):
    return theory.group_operator(apply, params, batch, num_groups=2, **options)


# What takes a network, its parameters and examples of two groups.
FUNCTIONS = {
    "group_gradients": lambda a, p, b: theory.group_gradients(a, p, b, num_groups=2),
    "group_gradient_norms": lambda a, p, b: theory.group_gradient_norms(a, p, b, num_groups=2),
    "group_operator": operator,
    "group_top_eigenvalues": lambda a, p, b: theory.group_top_eigenvalues(a, p, b, num_groups=2, key=KEY),
    "attribution": lambda a, p, b: theory.attribution(a, p, p, b, num_groups=2),
}
BY_EXAMPLE = {
    "taylor": lambda a, p, b: theory.taylor(a, p, p, b, num_groups=2),
    "boundary_distance": lambda a, p, b: theory.boundary_distance(a, p, b, num_groups=2),
    "group_boundary_distances": lambda a, p, b: theory.group_boundary_distances(a, p, b, KEY, num_groups=2),
    "example_gradient_norms": theory.example_gradient_norms,
    "example_jacobian_norms": theory.example_jacobian_norms,
    "example_output_eigenvalues": lambda a, p, b: theory.example_output_eigenvalues(a, p, b, KEY),
    "proposition2": lambda a, p, b: statements.proposition2(a, p, b, num_groups=2),
    "theorem2": lambda a, p, b: statements.theorem2(a, p, b, known([1, 1]), KEY, num_groups=2),
    "check_frozen": lambda a, p, b: theory.check_frozen(a, p, b.x),
}
GROUPED = {**FUNCTIONS} | {n: BY_EXAMPLE[n] for n in ("taylor", "boundary_distance", "group_boundary_distances",
                                                      "proposition2", "theorem2")}  # fmt: skip


def normalised(params, x):
    """Live batch statistics: what one example gives depends on the others."""
    return linear(params, x - jnp.mean(x, 0))


def refused(function, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_network_that_mixes_its_examples_is_refused(name) -> None:
    assert "freeze the batch statistics" in refused(FUNCTIONS[name], normalised, linear_weights(), people((4, 3)))


def test_padding_does_not_hide_live_statistics_and_compiled_functions_are_left_alone() -> None:
    """One example in each chunk, padded with itself: alone it has no other to depend on."""
    chunks = theory.by_group(people((1, 1)), 2, chunk_size=3)
    assert "freeze" in refused(FUNCTIONS["group_gradients"], normalised, linear_weights(), chunks)
    jitted = jax.jit(lambda p: theory.group_gradients(normalised, p, chunks, num_groups=2))
    assert jax.tree.leaves(jitted(linear_weights()))


def test_one_example_is_enough() -> None:
    found = theory.group_gradient_norms(linear, linear_weights(), people((1,)), num_groups=1)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("name", [*FUNCTIONS, *BY_EXAMPLE])
def test_no_examples_are_refused(name) -> None:
    nothing = Batch(np.zeros((0, 3)), np.zeros(0, int), np.zeros(0, int), np.zeros(0))
    said = refused((FUNCTIONS | BY_EXAMPLE)[name], linear, linear_weights(), nothing)
    assert said == "theory: there are no examples; give one or more"


@pytest.mark.parametrize("name", GROUPED)
def test_a_group_that_there_is_not_is_refused(name) -> None:
    said = refused(GROUPED[name], linear, linear_weights(), people((3, 3, 2)))
    expected = "batch.group: group 2 of example 6 is out of range; num_groups = 2 takes 0 and 1"
    assert said == f"{expected} (codes that start at 1? subtract 1)"


@pytest.mark.parametrize("name", ["group_operator", "group_top_eigenvalues", "example_jacobian_norms"])
def test_narrow_parameters_have_no_curvature(name) -> None:
    narrow = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), linear_weights())
    assert "is bfloat16, too narrow" in refused((FUNCTIONS | BY_EXAMPLE)[name], linear, narrow, people((4, 3)))


def test_no_products_are_no_search() -> None:
    batch = people((4, 3))

    def search(iterations):
        return theory.group_top_eigenvalues(
            linear, linear_weights(), batch, num_groups=2, key=KEY, max_iterations=iterations
        )

    assert refused(search, 0) == "theory: max_iterations is 0; give 1 or more products"
    with pytest.raises(UserError, match="max_iterations is 0"):
        theory.extreme_eigenvalues(lambda v: v, jnp.ones((1, 3)), max_iterations=0)


def test_inputs_of_bytes_have_no_distances() -> None:
    batch = people((4, 3))._replace(x=np.ones((7, 3), np.uint8))
    said = refused(theory.example_boundary_distances, linear, linear_weights(), batch, KEY)
    assert "which are uint8" in said


def test_an_empty_path_is_refused() -> None:
    weights = linear_weights()
    with pytest.raises(UserError, match="empty; take 1 or more"):
        theory.attribution(linear, weights, weights, people((4, 3)), num_groups=2, nodes=0)


def test_a_group_without_examples_has_no_numbers() -> None:
    batch, params = people((5, 4)), mlp_weights(2)
    curved = theory.group_operator(mlp, params, batch, num_groups=3)
    trace, density = theory.group_traces(curved, KEY, products=4), theory.group_spectral_densities(curved, KEY, steps=3)
    grid = jnp.linspace(-1, 2, 5)
    found = {
        "norm": theory.group_gradient_norms(mlp, params, batch, num_groups=3),
        "eigenvalue": theory.group_top_eigenvalues(mlp, params, batch, num_groups=3, key=KEY).value,
        "trace": trace.value,
        "error": trace.standard_error,
        "difference": jnp.stack([trace.difference(0, 1)[0], 0, trace.difference(0, 2)[0]]),
        "moment": density.moment(1),
        "width": density.width(),
        "share": density.share(-jnp.inf, jnp.inf),
        "smooth": density.smooth(grid, density.width())[:, 0],
        "harm": theory.taylor(mlp, params, params, batch, num_groups=3).observed,
    }
    for name, values in found.items():
        np.testing.assert_array_equal(np.isfinite(values), [True, True, False], err_msg=name)
