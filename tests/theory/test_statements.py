"""Every statement of the theory on a case with a closed form, in float64: as printed, and as corrected."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.special import expit, softmax
from theory_oracles import proposition_1_counter_example, theorem_2_counter_example

from jaxprune.errors import UserError
from jaxprune.theory import (
    Eigenvalue,
    Taylor,
    binary_logit,
    example_output_eigenvalues,
    group_gradients,
    group_top_eigenvalues,
    norms,
    taylor,
)
from jaxprune.theory.statements import (
    Statement,
    corollary1,
    is_nested,
    proposition1,
    proposition1_at,
    proposition2,
    proposition3,
    softmax_curvature,
    stationary_point,
    theorem1,
    theorem2,
)
from jaxprune.types import Batch


def known(values):
    values = jnp.asarray(values, float)
    return Eigenvalue(values, jnp.zeros_like(values), jnp.ones(values.shape, bool), jnp.ones(values.shape, int))


def people(sizes, classes=2, seed=0, features=3):
    rng = np.random.default_rng(seed)
    n = sum(sizes)
    group = np.repeat(np.arange(len(sizes)), sizes)
    x = rng.normal(size=(n, features)) + 0.3 * group[:, None]
    return Batch(x, rng.integers(0, classes, n), group, np.ones(n))


def linear(params, x):
    return x @ params["w"] + params["b"]


def linear_weights(classes=2, seed=1, features=3):
    rng = np.random.default_rng(seed)
    return {"w": rng.normal(size=(features, classes)), "b": rng.normal(size=classes)}


def mlp(params, x):
    return jnp.tanh(x @ params["w"]) @ params["v"]


def mlp_weights(classes, seed=0):
    rng = np.random.default_rng(seed)
    return {"w": rng.normal(size=(3, 4)), "v": rng.normal(size=(4, classes))}


# --- what a statement says --------------------------------------------------------------------------------------------


def test_a_statement_is_a_pytree_with_both_sides_and_what_follows(x64):
    taken = Taylor(jnp.array([1.0, 1.0, np.nan]), jnp.array([0.5, 0.5, np.nan]), jnp.array([1.4, 9.0, np.nan]))
    found = jax.jit(theorem1)(jnp.array([1.0, 1, 0]), known([1.0, 1, 0]), 1.0, taken).bound
    assert isinstance(found, Statement)
    np.testing.assert_allclose(found.left, [1.4, 9.0, np.nan])
    np.testing.assert_allclose(found.right, [1.5, 1.5, 0])
    np.testing.assert_allclose(found.ratio, [1.5 / 1.4, 1.5 / 9, np.nan])
    np.testing.assert_array_equal(found.holds, [True, False, False])
    np.testing.assert_array_equal(found.assumed, [True, False, False])
    holds, fails, nothing = found.verdicts()
    assert holds == "holds, as guaranteed"
    assert fails.startswith("fails, but is not guaranteed: assumption not met (the remainder of third order")
    assert nothing == "nothing to compare"


def test_a_failure_with_all_assumptions_is_called_one(x64):
    broken = Statement(jnp.array([2.0, 1.0]), jnp.array([1.0, 1.0 - 1e-9]), "a bound")
    np.testing.assert_array_equal(broken.verdicts(), ["FAILS although its assumptions hold", "holds, as guaranteed"])


# --- Theorem 1 and Corollary 1 ----------------------------------------------------------------------------------------


def squared(logits, y):
    return 0.5 * jnp.sum((logits - jax.nn.one_hot(y, logits.shape[-1])) ** 2, -1)


def test_theorem_1_on_a_quadratic_loss(x64):
    """One feature, one output: g, H and R are numbers, the remainder is 0, and both inequalities are equalities."""
    x, target, weight, moved = 2.0, 0.0, 1.5, -0.5
    batch = Batch(np.array([[x]]), np.array([0]), np.array([0]), np.ones(1))

    def loss(logits, y):
        return 0.5 * (logits[:, 0] - target) ** 2

    def apply(p, x):
        return x * p

    found = taylor(apply, np.array(weight), np.array(moved), batch, num_groups=1, loss=loss)
    gradient, hessian, delta = x * (x * weight - target), x**2, moved - weight
    statement = theorem1(jnp.array([abs(gradient)]), known([hessian]), jnp.abs(delta), found)
    observed = 0.5 * (x * moved) ** 2 - 0.5 * (x * weight) ** 2
    np.testing.assert_allclose(statement.bound.left, [observed])
    np.testing.assert_allclose(statement.bound.right, [abs(gradient * delta) + hessian * delta**2 / 2])
    np.testing.assert_allclose(statement.bound.terms["remainder"], [0], atol=1e-12)
    np.testing.assert_allclose(statement.second.left, statement.second.right)
    np.testing.assert_allclose(-statement.first.left, statement.first.right)  # pruning went downhill here
    for part in statement:
        assert part.holds.all()
        assert part.assumed.all()


def test_theorem_1_fails_by_its_remainder(x64):
    """J(θ) = θ³ at 0: no gradient, no curvature, and yet R = ‖Δ‖³. The statement says why."""
    batch = Batch(np.ones((1, 1)), np.array([0]), np.array([0]), np.ones(1))
    found = taylor(
        lambda p, x: x * p, np.array(0.0), np.array(2.0), batch, num_groups=1, loss=lambda z, y: z[:, 0] ** 3
    )
    statement = theorem1(jnp.zeros(1), known([0.0]), 2.0, found)
    np.testing.assert_allclose(statement.bound.terms["remainder"], [8.0])
    assert not statement.bound.holds[0]
    assert "fails, but is not guaranteed" in statement.bound.verdicts()[0]
    assert statement.first.holds[0]
    assert statement.second.holds[0]


@pytest.mark.parametrize("seed", [0])
def test_the_two_inequalities_of_theorem_1_hold_for_any_network(x64, seed):
    batch, dense = people((9, 5, 3), classes=3), mlp_weights(3, seed)
    pruned = jax.tree.map(lambda leaf: np.where(np.abs(leaf) < 0.7, 0, leaf), dense)
    gradients = group_gradients(mlp, dense, batch, num_groups=3)
    top = group_top_eigenvalues(mlp, dense, batch, num_groups=3, key=jax.random.key(0), tolerance=1e-9)
    distance = jnp.linalg.norm(ravel_pytree(jax.tree.map(jnp.subtract, pruned, dense))[0])
    statement = theorem1(norms(gradients), top, distance, taylor(mlp, dense, pruned, batch, num_groups=3))
    assert statement.first.holds.all()
    assert statement.second.holds.all()
    assert statement.bound.holds[statement.bound.assumed].all()


def test_corollary_1_needs_a_positive_eigenvalue(x64):
    """g = 1: with λ = 1 the bound grows with ‖Δ‖, with λ = -1 it falls beyond ‖Δ‖ = 1."""
    distance = jnp.array([0.5, 1.0, 2.0])[:, None]
    eigenvalue = jnp.array([1.0, -1.0])
    bound = distance + eigenvalue * distance**2 / 2
    found = corollary1(bound, eigenvalue, jnp.array([True, True]))
    np.testing.assert_allclose(found.right[:, 0], [1.5, 4.0])
    np.testing.assert_array_equal(found.holds, [[True, True], [True, False]])
    np.testing.assert_array_equal(found.assumed, [[True, False], [True, False]])
    assert "not negative" in found.verdicts()[1, 1]
    assert "nested" in corollary1(bound, eigenvalue, jnp.array([False, True])).verdicts()[0, 0]


def test_nested_masks():
    milder, stronger = {"a": np.array([True, True, False])}, {"a": np.array([True, False, False])}
    assert is_nested(milder, stronger)
    assert is_nested(milder, milder)
    assert not is_nested(stronger, milder)


# --- Proposition 1 ----------------------------------------------------------------------------------------------------


def test_proposition_1_is_exact_for_two_groups_at_a_stationary_point(x64):
    batch = people((30, 10))
    params, slope = stationary_point(linear, linear_weights(), batch)
    assert slope < 1e-11
    gradients = group_gradients(linear, params, batch, num_groups=2)
    found = proposition1(gradients, jnp.array([30.0, 10.0]))
    first, second = norms(gradients)
    assert first > 1e-3  # the groups disagree, though the whole is stationary
    np.testing.assert_allclose(second / first, 3.0, rtol=1e-8)
    np.testing.assert_allclose(found.cosine.left, -1, rtol=1e-12)
    np.testing.assert_allclose(found.ratio.left, found.ratio.right, rtol=1e-8)
    np.testing.assert_allclose(found.order.ratio[0, 1], 3.0, rtol=1e-8)
    np.testing.assert_array_equal(found.order.verdicts(), [
        ["nothing to compare", "holds, as guaranteed"], ["nothing to compare", "nothing to compare"]
    ])  # fmt: skip


def test_the_stationary_point_is_the_one_of_logistic_regression(x64):
    """One feature of value 1: the minimum is the logit of the mean label, and the group gradients are p - mean y."""
    y = np.array([1, 1, 1, 0, 0, 1, 0, 1, 0, 1])
    batch = Batch(np.ones((10, 1)), y, np.repeat([0, 1], [6, 4]), np.ones(10))

    def apply(p, x):
        return jnp.concatenate([jnp.zeros_like(x), p * x], -1)

    params, slope = stationary_point(apply, jnp.array(0.3), batch)
    np.testing.assert_allclose(params, np.log(0.6 / 0.4), rtol=1e-12)
    assert slope < 1e-12
    gradients = group_gradients(apply, params, batch, num_groups=2)
    np.testing.assert_allclose(gradients, [0.6 - 4 / 6, 0.6 - 2 / 4], rtol=1e-9)


def test_proposition_1_needs_a_stationary_point(x64):
    found = proposition1_at(linear, linear_weights(), people((30, 10)), num_groups=2)
    assert not found.order.assumed[0, 1]
    assert "whole loss is stationary" in found.order.verdicts()[0, 1]


def test_proposition_1_is_false_for_three_groups(x64):
    apply, params, batch = proposition_1_counter_example()
    gradients = group_gradients(apply, params, batch, num_groups=3)
    np.testing.assert_allclose(gradients, [-0.5, 0.5, 0.0])
    found = proposition1(gradients, jnp.array([4.0, 4.0, 2.0]))
    np.testing.assert_allclose(found.order.terms["whole_gradient_norm"], 0, atol=1e-15)
    assert found.ratio is None
    assert not found.order.holds[0, 2]  # 4 members and ‖g‖ = ½ against 2 members and 0
    assert (
        found.order.verdicts()[0, 2]
        == "fails, but is not guaranteed: assumption not met (there are exactly two groups)"
    )


def test_a_stationary_point_of_too_large_a_model_is_refused():
    with pytest.raises(UserError, match="at most 4096"):
        stationary_point(linear, {"w": np.zeros((5000, 2)), "b": np.zeros(2)}, people((2, 2)))


# --- Propositions 2 and 3 ---------------------------------------------------------------------------------------------


def test_proposition_2_of_a_linear_model_has_a_closed_form(x64):
    """z = xᵀW: the Jacobian has spectral norm ‖x‖, the error is ‖softmax - onehot‖, and one example attains it."""
    batch = people((7, 1, 4), classes=3)
    w = np.random.default_rng(3).normal(size=(3, 3))
    found = proposition2(lambda p, x: x @ p, w, batch, num_groups=4)
    error = np.linalg.norm(softmax(batch.x @ w, 1) - np.eye(3)[batch.y], axis=1)
    length = np.linalg.norm(batch.x, axis=1)
    expected = [np.mean((error * length)[batch.group == a]) for a in range(3)]
    np.testing.assert_allclose(found.right[:3], expected, rtol=1e-10)
    np.testing.assert_allclose(found.terms["error"][:3], [np.mean(error[batch.group == a]) for a in range(3)])
    np.testing.assert_allclose(found.terms["jacobian_norm"][:3], [np.mean(length[batch.group == a]) for a in range(3)])
    np.testing.assert_array_equal(found.holds, [True, True, True, False])
    np.testing.assert_allclose(found.ratio[1], 1, rtol=1e-10)
    assert found.verdicts()[3] == "nothing to compare"


def test_proposition_2_of_the_squared_error_has_twice_the_error(x64):
    batch, w = people((5,), classes=2), np.random.default_rng(0).normal(size=(3, 2))
    found = proposition2(lambda p, x: x @ p, w, batch, num_groups=1, loss=lambda z, y: 2 * squared(z, y))
    error = np.linalg.norm(batch.x @ w - np.eye(2)[batch.y], axis=1)
    np.testing.assert_allclose(found.right, [np.mean(2 * error * np.linalg.norm(batch.x, axis=1))], rtol=1e-10)
    assert found.holds[0]


def test_proposition_2_needs_the_logits(x64):
    """As printed, with the Jacobian of the soft outputs: at p = (½, ½) that is half of the logits', and too small."""
    batch = Batch(np.array([[1.0]]), np.array([0]), np.array([0]), np.ones(1))

    def apply(p, x):
        return jnp.concatenate([jnp.zeros_like(x), p * x], -1)

    found = proposition2(apply, np.array(0.0), batch, num_groups=1)
    jacobian_of_soft = jnp.linalg.norm(jax.jacobian(lambda p: jax.nn.softmax(apply(p, batch.x))[0])(0.0))
    error = np.linalg.norm([0.5 - 1, 0.5])
    assert found.left[0] > error * jacobian_of_soft  # ½ against ¼
    np.testing.assert_allclose([found.left[0], error * jacobian_of_soft], [0.5, 0.25], rtol=1e-12)
    assert found.holds[0]


def test_proposition_3(x64):
    p = np.array([0.5, 0.0, 1.0, 0.3])
    found = proposition3(np.stack([1 - p, p], 1))
    np.testing.assert_allclose(found.binary.left, [0.25, 0, 0, 0.21], atol=1e-15)
    assert found.binary.holds.all()
    np.testing.assert_allclose(found.multiclass.left, 2 * p * (1 - p), atol=1e-12)  # attained for two labels
    many = np.random.default_rng(0).dirichlet(np.full(5, 0.5), 200)
    found = proposition3(many)
    assert found.binary is None
    assert found.multiclass.holds.all()
    assert found.half.holds.all()
    np.testing.assert_allclose(softmax_curvature(np.full((1, 4), 0.25)), [0.25], rtol=1e-12)


# --- Theorem 2 --------------------------------------------------------------------------------------------------------

KEY = jax.random.key(0)


def test_theorem_2_fails_as_printed_and_holds_as_corrected(x64):
    apply, params, batch = theorem_2_counter_example()
    top = group_top_eigenvalues(apply, params, batch, num_groups=1, key=KEY)
    np.testing.assert_allclose(top.value, [1.0], rtol=1e-12)
    sides = {"printed": 1 / 8, "logit": 1.0, "multiclass": 1.0}
    for form, right in sides.items():
        found = theorem2(apply, params, batch, top, KEY, num_groups=1, form=form)
        np.testing.assert_allclose(found.right, [right], rtol=1e-10)
        np.testing.assert_allclose(found.terms["closeness"], [0], atol=1e-12)
        assert bool(found.holds[0]) == (right >= 1)
        assert ("as guaranteed" in found.verdicts()[0]) == (right >= 1)
        assert ("f - y is positive" in found.verdicts()[0]) == (form == "printed")
    in_the_logit = example_output_eigenvalues(apply, params, batch, KEY, outputs=binary_logit).largest.value / 2
    np.testing.assert_allclose(in_the_logit, [[1 / 2]], rtol=1e-10)  # too small as well


@pytest.mark.slow
def test_theorem_2_of_logistic_regression_has_a_closed_form(x64):
    """∇²z = 0 and ∇z = x: the bound is mean p(1 - p)‖x‖²; one example attains it."""
    batch, w = people((6, 1)), np.array([0.4, -1.0, 0.2])

    def apply(p, x):
        z = x @ p
        return jnp.stack([jnp.zeros_like(z), z], -1)

    top = group_top_eigenvalues(apply, w, batch, num_groups=2, key=KEY, tolerance=1e-9)
    found = theorem2(apply, w, batch, top, KEY, num_groups=2, form="logit")
    p = expit(batch.x @ w)
    each = p * (1 - p) * np.sum(batch.x**2, 1)
    np.testing.assert_allclose(found.right, [each[:6].mean(), each[6]], rtol=1e-9)
    np.testing.assert_allclose(found.terms["error"], 0, atol=1e-12)
    assert found.holds.all()
    np.testing.assert_allclose(found.ratio[1], 1, rtol=1e-8)


@pytest.mark.slow
def test_theorem_2_for_many_labels_on_dense_derivatives(x64):
    batch, params = people((4, 3), classes=3), mlp_weights(3)
    top = group_top_eigenvalues(mlp, params, batch, num_groups=2, key=KEY, tolerance=1e-9)
    found = theorem2(mlp, params, batch, top, KEY, num_groups=2, chunk_size=3, max_iterations=40)
    flat, unravel = ravel_pytree(params)
    each = []
    for x, y in zip(batch.x, batch.y, strict=True):
        jacobian = jax.jacobian(lambda v, x=x: mlp(unravel(v), x[None])[0])(flat)
        bend = jax.hessian(lambda v, x=x: mlp(unravel(v), x[None])[0])(flat)
        p = softmax(mlp(params, x[None])[0])
        closeness = np.linalg.eigvalsh(np.diag(p) - np.outer(p, p))[-1] * np.linalg.norm(jacobian, 2) ** 2
        each.append((closeness, np.sum(np.abs(p - np.eye(3)[y]) * [np.linalg.norm(b, 2) for b in bend])))
    expected = np.stack([np.mean(each[:4], 0), np.mean(each[4:], 0)])
    np.testing.assert_allclose(found.terms["closeness"], expected[:, 0], rtol=1e-8)
    np.testing.assert_allclose(found.terms["error"], expected[:, 1], rtol=1e-4)
    assert found.holds.all()
    assert found.assumed.all()


def test_forms_of_theorem_2_that_are_not_there(x64):
    top = known([1.0])
    with pytest.raises(UserError, match="did you mean 'printed'"):
        theorem2(mlp, mlp_weights(2), people((3,)), top, KEY, num_groups=1, form="printd")
    with pytest.raises(UserError, match="for two labels, not 3"):
        theorem2(mlp, mlp_weights(3), people((3,), classes=3), top, KEY, num_groups=1, form="logit")
