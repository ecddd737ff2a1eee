"""Random networks of layers: whatever is found can be cut, and the compact network is the masked one."""

import numpy as np
import pytest
from cuts import assert_equal, cast, couplings_of, random_keep
from hypothesis import HealthCheck, given, note, settings
from random_networks import RandomNetwork, network_of_seed, random_networks

from jaxprune.compat import enable_x64

pytestmark = pytest.mark.slow  # in every run of CI

FIXED = {"deadline": None, "derandomize": True, "database": None, "suppress_health_check": list(HealthCheck)}


def check(made: RandomNetwork, *, derivative: bool = False) -> int:
    """Cut every coupling at random and compare; the number of couplings."""
    with enable_x64(True):
        params, stats, x = cast((made.params, made.stats, made.x), np.float64)
        couplings = couplings_of(made.network, params, stats, x)
        if len(couplings):
            keep = random_keep(couplings, "".join(made.layers))
            assert_equal(made.network, params, stats, x, keep, couplings, within=1e-11, derivative=derivative)
        return len(couplings)


@pytest.mark.parametrize("seed", range(10))
def test_a_network_of_a_seed_can_be_cut(seed):
    made = network_of_seed(seed)
    check(made)


@settings(max_examples=5, **FIXED)
@given(random_networks(most=2))
def test_a_random_network_can_be_cut(made: RandomNetwork):
    note("\n".join(made.layers))
    check(made)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 300))
def test_many_networks_can_be_cut(seed):
    made = network_of_seed(seed, most=6)
    check(made, derivative=seed % 4 == 0)


@pytest.mark.long
@settings(max_examples=100, **FIXED)
@given(random_networks(most=5))
def test_many_random_networks_can_be_cut(made: RandomNetwork):
    note("\n".join(made.layers))
    check(made)
