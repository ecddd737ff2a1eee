"""`compare`: what a comparison makes, writes and refuses."""

import numpy as np
import pytest

from jaxprune import cli, config, data, training
from jaxprune.errors import UserError
from jaxprune.pipeline import compare, run
from jaxprune.pipeline.store import NoProgress
from jaxprune.reporting.sections import protocol
from jaxprune.results.comparison import compared

SMALL = {
    "data.name": "digits", "model.hidden": (12,), "seeds": 2, "train.epochs": 2, "train.batch_size": 128,
    "prune.sparsities": (0.8,), "retrain.epochs": 2, "train.learning_rate": 0.01,
    "retrain.methods": ("naive_best", "equal_loss", "ceag_held_out", "spared"),
    "choice.dual_rates": (0.01, 0.1), "choice.tolerances": (0.0,), "costs.speed": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("compare") / "run"
    return out, compare(config.load(None, SMALL), out)


@pytest.mark.versions
def test_a_comparison_writes_its_report(finished):
    out, result = finished
    assert result.out == out / "compare"
    names = {path.name for path in result.out.iterdir()}
    assert names >= {"report.html", "results.json", "methods.csv", "summary.csv", "config.toml", "environment.json"}
    for name in ("changes", "pareto", "generalisation", "multipliers"):
        assert (result.out / "figures" / f"{name}.svg").exists()
    page = (result.out / "report.html").read_text()
    assert "CEAG, held out" in page
    assert 'src="http' not in page
    assert "nan" not in page.replace("nan-", "").lower().split('<h2 id="reproduce">')[0].split("base64")[0]
    trials = compared(result.results).trials
    assert len(trials) == 1 + 1 + 2 + 2 + 1
    multipliers = {network.name for network in trials if network.multipliers is not None}
    assert multipliers == {"equal_loss", "ceag_held_out"}


@pytest.mark.versions
def test_every_method_starts_from_the_same_dense_networks_and_the_best_epoch_is_no_worse(finished):
    _, result = finished
    c = compared(result.results)
    best, naive = (c.figures(c.chosen[name, 0.8], "validation")["accuracy"] for name in ("naive_best", "naive"))
    assert (best >= naive - 1e-7).all()


def test_the_half_that_chooses_is_what_is_reported_as_validation(finished):
    """One method measures on people held out, so that the split is cut, for all methods."""
    results = finished[1].results
    assert compared(results).held_out == ["ceag_held_out"]
    whole = data.load("digits").group_sizes("validation")
    sizes = results.audit(results.dense, "validation").metrics.size
    assert np.abs(2 * np.array(sizes) - whole).max() <= 1
    for (_, split), audit in results.audits.items():
        expected = sizes[0] if split == "validation" else results.group_sizes[split]
        np.testing.assert_array_equal(audit.metrics.size[0], expected)
    _, table = protocol.section(results).tables
    counts = [int(str(row[table.headings.index("validation")])) for row in table.rows]
    np.testing.assert_array_equal(counts, sizes[0], err_msg="the page counts the half, too")


def test_done_work_is_not_repeated(finished, monkeypatch):
    out, result = finished
    calls = []
    original = training.fit
    monkeypatch.setattr(training, "fit", lambda *a, **k: calls.append(1) or original(*a, **k))
    again = compare(config.load(None, SMALL), out)
    assert not calls
    for key, audit in result.results.audits.items():
        np.testing.assert_array_equal(again.results.audits[key].metrics.loss, audit.metrics.loss)
    added = compare(config.load(None, SMALL | {"retrain.methods": ("balanced",)}), out)
    assert len(calls) == 1
    assert added.results.methods == ["naive", "balanced"]
    assert compared(added.results).held_out == []
    # A run of the same methods uses the same networks, and reports them by its own page.
    shared = SMALL | {"retrain.methods": ("naive", "balanced"), "audit.splits": ("train", "validation", "test")}
    made = run(config.load(None, shared | {"theory.max_iterations": 2}), out)
    assert len(calls) == 1
    key = "balanced 0.8"
    np.testing.assert_array_equal(
        made.results.audits[key, "test"].metrics.loss, added.results.audits[key, "test"].metrics.loss
    )


class Display(NoProgress):
    def __init__(self):
        self.lines = []

    def say(self, message):
        self.lines.append(message)


def test_a_training_that_diverges_does_not_end_the_comparison(tmp_path):
    """Multipliers without bound: said with the remedy, the last good state kept, the others compared."""
    settings, display = SMALL | {"retrain.methods": ("equal_loss",), "choice.dual_rates": (0.01, 3e38)}, Display()
    results = compare(config.load(None, settings), tmp_path / "run", progress=display).results
    troubles = [network.trouble for network in results.networks if network.trouble]
    assert len(troubles) == 1
    assert "leave 3e+38 out of choice.dual_rates" in troubles[0]
    assert "the last good state is kept in" in troubles[0]
    assert any("the other networks are measured" in line for line in display.lines)
    assert results.network("equal_loss", 0.8).values == {"dual_rate": 0.01}
    assert list((tmp_path / "run" / "stages").glob("*/checkpoints/epoch-*"))


@pytest.mark.slow
def test_the_settings_of_the_lagrangian_reach_the_training(tmp_path):
    """Every dual, scheme, penalty and memory of `jaxprune run` trains, and otherwise than the default."""
    common = SMALL | {"retrain.methods": ("fair_after",), "mitigation.dual_rate": 0.05}
    common |= {"mitigation.constraint": "accuracy_gap", "prune.sparsities": (0.8,), "seeds": 1}
    found = []
    for change in (
        {},
        {"mitigation.dual": "nu_pi", "mitigation.scheme": "alternating"},
        {"mitigation.dual": "restart", "mitigation.scheme": "extragradient"},
        {"mitigation.penalty": 2.0, "mitigation.buffer": 20},
    ):
        made = run(config.load(None, common | change), tmp_path / "run", until="prune").made
        with np.load(made["fair_after 0.8"] / "logs.npz") as logs:
            found.append(logs["multipliers"])
    assert all(np.isfinite(f).all() and f.min() >= 0 for f in found)
    assert all(not np.array_equal(a, b) for i, a in enumerate(found) for b in found[:i])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mitigation.dual": "ascend"}, "mitigation.dual: unknown dual 'ascend'; did you mean 'ascent'"),
        ({"mitigation.scheme": "x"}, "mitigation.scheme: unknown scheme"),
        ({"retrain.methods": ("equal_los",)}, "retrain.methods: unknown method 'equal_los'; did you mean 'equal_loss'"),
        ({"choice.dual_rates": (-0.1,)}, "choice.dual_rates"),
        ({"retrain.methods": ("naive", "naive")}, "retrain.methods: 'naive' is given twice"),
        ({"retrain.epochs": 0}, "retrain.epochs"),
        ({"prune.sparsities": (0.0,)}, "prune.sparsities"),
        ({"mitigation.constraint": "excess_accuracy"}, "mitigation.constraint: unknown constraint"),
        ({"retrain.methods": ("distilled", "ceag"), "train.flip": True}, "retrain.methods: distilled, ceag look at"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, change, says):
    with pytest.raises(UserError, match="(?s).*" + says.replace("(", r"\(").replace("?", r"\?")):
        compare(config.load(None, SMALL | change), tmp_path / "run")


def test_the_command_ends_with_the_table(finished, tmp_path, capsys):
    out, _ = finished
    path = tmp_path / "small.toml"
    path.write_text(config.to_toml(config.load(None, SMALL)))
    assert cli.main(["compare", str(path), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "Naive fine-tuning" in printed
    assert "compare/report.html" in printed.replace("\n", "")
