"""Structures compared end to end: one set of dense networks, the sizes of each, and what is refused."""

import numpy as np
import pytest

from jaxprune import config
from jaxprune.errors import UserError
from jaxprune.pipeline import compare
from jaxprune.pipeline.run import build, comparison_plan
from jaxprune.results.prunings import stages_of

pytestmark = pytest.mark.slow  # in every run of CI

CHANNELS = "channels:cost=parameters"
SMALL = {
    "data.name": "synthetic", "data.sizes": (300, 60), "model.hidden": (16, 12), "seeds": 2, "train.epochs": 2,
    "train.batch_size": 64, "prune.sparsities": (0.5,), "prune.keep_dense": ("first",), "retrain.epochs": 1,
    "retrain.methods": ("naive", "equal_loss"), "choice.dual_rates": (0.1,), "costs.speed": False,
    "prune.structures": ("weights", "n_m", CHANNELS),
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("structures") / "run"
    return out, compare(config.load(None, SMALL), out)


def test_every_structure_is_measured_at_every_stage(finished):
    out, result = finished
    assert result.out == out / "compare"
    stages = {stage.name: stage.networks for stage in stages_of(result.results)}
    assert list(stages) == ["pruned", "naive", "equal_loss"]
    for name, ending in (("pruned", ""), ("naive", "+naive"), ("equal_loss", "+equal_loss")):
        assert stages[name] == {s: f"{s}{ending}" for s in ("weights", "n_m", CHANNELS)}
    assert [path.name for path in (out / "stages").glob("dense-*")] != []
    page = (result.out / "report.html").read_text()
    assert "channels, at equal parameters" in page


def test_half_of_the_prunable_weights_or_of_all_parameters_goes(finished):
    results = finished[1].results
    for name in ("weights", "n_m", "weights+equal_loss", "n_m+equal_loss"):
        layers = results.network(name, 0.5).layers
        size, kept = sum(layer["size"] for layer in layers), np.sum([layer["kept"] for layer in layers], 0)
        np.testing.assert_array_equal(kept, size // 2)
    for name in (CHANNELS, f"{CHANNELS}+naive"):
        channels = results.network(name, 0.5).channels
        assert channels is not None
        np.testing.assert_allclose(channels["removed"]["parameters"], 0.5, atol=0.06)
        costs = results.costs[f"{name} 0.5"]
        assert costs.forms["compact"].parameters < 0.6 * costs.forms["dense"].parameters
    assert set(results.costs["n_m 0.5"].forms) == {"dense", "masked"}


def test_config_of_the_report_can_be_run_again(finished):
    """The allocation stays open, as each structure has its own."""
    again = config.load(str(finished[1].out / "config.toml"), {})
    assert again.prune.structures == SMALL["prune.structures"]
    assert again.prune.allocation == ""
    comparison_plan(again)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prune.sparsities": (0.3,)}, r"prune\.sparsities: 0\.3 is not a whole number of each 4"),
        ({"model.hidden": (15, 12)}, r"prune\.structures: n_m: m: 4 does not divide dense_1/kernel"),
        ({"prune.structures": ("weights", "heads")}, r"prune\.structures: heads: "),
        ({"prune.allocation": "erk", "prune.structures": ("weights", "channels")}, r"prune\.allocation: ERK goes by"),
    ],
)
def test_what_does_not_fit_the_network_is_refused_before_training(changes, message):
    settings = config.load(None, SMALL | changes)
    with pytest.raises(UserError, match=message) as error:
        build(settings, comparison_plan(settings))
    assert "\n" not in str(error.value)
