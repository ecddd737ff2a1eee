"""What is due for some replicas is computed for them, and for none when it is due for none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune.replicas import where_due


@pytest.mark.parametrize("axis", [0, None])
def test_only_the_replicas_whose_turn_it_is_are_improved(axis):
    calls = []

    def add(start, at):
        jax.debug.callback(lambda: calls.append(1))
        return {"a": start["a"] + at["by"], "b": start["b"] * 2}

    due, start = jnp.array([True, False, True]), {"a": jnp.arange(12.0).reshape(3, 2, 2), "b": jnp.arange(3)}
    by = jnp.array([10.0, 20.0, 30.0]) if axis == 0 else jnp.float32(5)
    mapped = jax.jit(jax.vmap(where_due(add), (0, 0, axis)))
    never = mapped(jnp.zeros(3, bool), start, {"by": by})
    jax.effects_barrier()
    assert not calls, "a condition that became a selection computes it every time"
    jax.tree.map(np.testing.assert_array_equal, never, start)
    found = mapped(due, start, {"by": by})
    jax.effects_barrier()
    assert calls
    np.testing.assert_array_equal(found["a"], start["a"] + jnp.where(due, by, 0)[:, None, None])
    np.testing.assert_array_equal(found["b"], [0, 1, 4])
    alone = where_due(add)
    assert alone(due[1], start, {"by": 5.0})["b"].tolist() == [0, 1, 2]
    assert alone(due[0], start, {"by": 5.0})["b"].tolist() == [0, 2, 4]
