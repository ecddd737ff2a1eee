"""The theory's page: what `jaxprune theory` makes, from a config and from a run's folder, and what it says."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxprune import config, pipeline
from jaxprune.errors import UserError
from jaxprune.pipeline.addresses import theory_stage
from jaxprune.pipeline.build import resolve
from jaxprune.pipeline.explain import explain
from jaxprune.pipeline.plan import plan_theory
from jaxprune.pipeline.stage import Workspace
from jaxprune.pipeline.store import NoProgress, Store
from jaxprune.pipeline.theory_measures import MEASURES, measures
from jaxprune.reporting.reports import THEORY, sections_of
from jaxprune.results import COLUMNS, Results, load

SMALL = """
name = "small"
seeds = 2

[data]
name = "synthetic"
sizes = [200, 60]
margins = [1.5, 0.4]
noise = [0.0]

[model]
hidden = [6]

[train]
epochs = 3

[prune]
sparsities = [0.5, 0.9]

[theory]
output_examples = 12
density_steps = 12
products = 8
max_iterations = 30
"""


def run(folder: Path, *measures: str, until: str = "theory") -> pipeline.JobResult:
    path = folder / "small.toml"
    path.write_text(SMALL)
    overrides = {"theory.measures": measures} if measures else {}
    return pipeline.run(config.load(str(path), overrides), folder / "out", until=until)


def results_of(folder: Path) -> Results:
    return load(folder / "out" / "theory")


def figures_of(results: Results) -> set[str]:
    return {figure.name for section in sections_of(results, THEORY) for figure in section.figures}


def stages(folder: Path) -> dict[str, int]:
    return {p.name.rsplit("-", 1)[0]: p.stat().st_mtime_ns for p in (folder / "out" / "stages").iterdir()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with a few measures, which are those without long compilations."""
    folder = tmp_path_factory.mktemp("theory")
    return folder, run(folder, "cosines", "distances", "attribution")


def test_the_page_is_whole_and_needs_no_other_file(finished):
    folder, result = finished
    assert result.out == folder / "out" / "theory"
    page = (result.out / "report.html").read_text()
    for section in sections_of(results_of(folder), THEORY):
        assert f'id="{section.anchor}"' in page
    assert page.count("data:image/svg+xml") == len(figures_of(results_of(folder)))
    assert not re.search(r'(src|href)="(?!data:|#)', page)


def test_figures_and_numbers_lie_in_its_folder(finished):
    _, result = finished
    assert result.results is not None
    files = {path.name for path in (result.out / "figures").iterdir()}
    assert files == {f"{name}.{kind}" for name in figures_of(result.results) for kind in ("svg", "png")}
    heading, first = (result.out / "theory.csv").read_text().splitlines()[:2]
    assert heading == ",".join(COLUMNS["theory"])
    assert first.startswith("0,")


def test_another_measure_leaves_what_is_measured(finished):
    folder, _ = finished
    before = stages(folder)
    run(folder, "cosines", "distances", "attribution", "examples")
    after = stages(folder)
    assert {name for name in after if before.get(name) != after[name]} >= {"theory-examples"}
    assert {name for name in before if before[name] != after[name]} <= {"theory-page"}


@pytest.mark.parametrize(
    ("setting", "value"),
    [("examples", 10), ("tolerance", 0.1), ("max_iterations", 5), ("split", "test"), ("memory", 5), ("float64", True)],
)
def test_what_the_theory_is_measured_with_is_in_its_address(finished, setting, value):
    """Else numbers of other settings would be published under the new ones."""
    folder, _ = finished

    def address(**changed):
        settings = config.load(str(folder / "small.toml"), {f"theory.{n}": v for n, v in changed.items()})
        return theory_stage(resolve(settings), plan_theory(settings)).address

    assert address(**{setting: value}) != address()


@pytest.fixture(scope="module")
def in_float64(finished):
    """The same networks, measured in float64, to a tolerance that float32 cannot meet."""
    folder, _ = finished
    wide = {"theory.float64": True, "theory.tolerance": 1e-9, "theory.max_iterations": 200}
    settings = config.load(str(folder / "small.toml"), wide | {"theory.measures": ("cosines",)})
    experiment, plan = resolve(settings), plan_theory(settings)
    store = Store(Workspace(folder / "out"), NoProgress())
    return explain(experiment, store, plan), measures(experiment, store, plan)


def test_the_theory_is_measured_in_float64_on_request(finished, in_float64):
    narrow, (wide, measured) = results_of(finished[0]).theory, in_float64
    assert np.all(wide["converged"])
    assert np.max(np.array(wide["residual"]) / np.array(wide["eigenvalue"])) < 1e-9
    np.testing.assert_allclose(wide["eigenvalue"], narrow.eigenvalue, rtol=1e-3)
    np.testing.assert_allclose(wide["first_order"], narrow.first_order, rtol=1e-3, atol=1e-5)
    cosines = np.array(measured["cosines"]["cosines"])
    assert np.max(np.abs(np.diagonal(cosines, axis1=1, axis2=2) - 1)) < 1e-14, "float32 would be off by 1e-7"
    assert not jax.config.jax_enable_x64, "what follows is in float32 again"


def test_a_run_can_be_given_in_place_of_its_config(finished):
    folder, _ = finished
    run(folder, "cosines", "distances", "attribution")
    settings = config.load(str(folder / "out" / "config.toml"), {})
    assert set(settings.theory.measures) == {"cosines", "distances", "attribution"}, "those of the last run"
    before = stages(folder)
    pipeline.run(settings, folder / "out", until="theory")
    after = stages(folder)
    assert {name for name in before if name != "theory-page" and before[name] != after[name]} == set()


def test_the_parts_of_the_layers_sum_to_the_harm_that_was_audited(finished):
    """Two ways to the same number: the path integral of the theory, and the audit's losses."""
    found = results_of(finished[0])
    path, observed = (np.array(found.measures["attribution"][name]) for name in ("path", "observed"))
    for i, s in enumerate(found.theory.sparsities):
        harm = found.audit(found.network("pruned", float(s)), "train").impact.excessive_loss
        np.testing.assert_allclose(observed[i], harm, atol=1e-5)
        np.testing.assert_allclose(path[i].sum(-1), harm, rtol=0.01, atol=2e-5)  # though ReLU has kinks


def test_cosines_and_distances_are_what_they_are_called(finished):
    found = results_of(finished[0])
    cosines = np.array(found.measures["cosines"]["cosines"])
    np.testing.assert_allclose(np.diagonal(cosines, axis1=1, axis2=2), 1, atol=1e-5)
    np.testing.assert_allclose(cosines, cosines.swapaxes(1, 2), atol=1e-6)
    np.testing.assert_allclose(found.measures["distances"]["margin"], found.theory.margin, atol=1e-5)
    np.testing.assert_allclose(found.measures["distances"]["closeness"], found.theory.closeness, atol=1e-5)


def test_a_measure_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"theory\.measures"):
        run(tmp_path, "cosine")


@pytest.mark.slow
def test_every_measure_by_default(tmp_path):
    result = run(tmp_path)
    found = results_of(tmp_path)
    assert set(found.measures) == set(MEASURES)
    assert set(result.settings.theory.measures) == set(MEASURES)
    assert len(figures_of(found)) == 9
    ends = found.measures["spectra"]
    np.testing.assert_allclose(ends["largest"]["value"], found.theory.eigenvalue, rtol=5e-3)
    assert (np.array(ends["smallest"]["value"]) <= np.array(ends["largest"]["value"])).all()
    outputs = found.measures["outputs"]["statements"]
    assert np.all(outputs["Proposition 2"]["holds"])
    assert np.all(outputs["multiclass"]["holds"])
    sparing = found.measures["sparing"]
    assert (np.array(sparing["reached"]) >= found.theory.sparsities - 2e-3).all()
