"""Violations of constraints on whole splits."""

import numpy as np
from comparisons import DENSE, NAIVE, SIZES, metrics

from jaxprune.mitigation import excess_accuracy_gap
from jaxprune.pipeline.violations import violation_of


def test_the_violation_of_a_constraint_on_a_whole_split() -> None:
    violation = violation_of(excess_accuracy_gap(3), 0.05, metrics(NAIVE), metrics(DENSE))
    drop = np.array(DENSE) - NAIVE
    np.testing.assert_allclose(violation, drop - (drop @ SIZES / 1000)[:, None] - 0.05, atol=1e-5)
