"""The costs of a run's networks: what is measured, beside what, and what is kept."""

import json
from itertools import pairwise

import jax
import numpy as np
import pytest
from experiments import experiment, store

from jaxprune import costs, export_network, pipeline
from jaxprune.config import load
from jaxprune.pipeline import costs as pipeline_costs
from jaxprune.pipeline import exporting
from jaxprune.pipeline.addresses import costs_stage, network_costs_stage, stage_of
from jaxprune.pipeline.channel_shares import channel_shares, channels_left
from jaxprune.pipeline.networks import networks_of
from jaxprune.pipeline.nodes import structure_of
from jaxprune.pipeline.plan import plan_run
from jaxprune.results.costs import costs_from_json

pytestmark = pytest.mark.slow  # in every run of CI

SMALL = {
    "data.name": "synthetic", "data.sizes": (90, 60), "data.margins": (1.0, 0.5), "data.noise": (0.0, 0.1),
    "model.hidden": (8,), "seeds": 2, "train.epochs": 1, "train.batch_size": 32, "prune.sparsities": (0.5,),
    "retrain.epochs": 1, "retrain.methods": ("none",), "theory.max_iterations": 3, "audit.splits": ("test",),
    "costs.batch": 200,
}  # fmt: skip


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A run with its speed measured, in as little time as can be."""
    return pipeline.run(load(None, SMALL | {"costs.seconds": 1e-9}), tmp_path_factory.mktemp("costs") / "run")


def test_every_compressed_network_is_measured_beside_the_dense_one(job):
    found = job.results.costs
    assert set(found) == {"pruned 0.5", "none 0.5"}
    for key, measured in found.items():
        dense, masked = measured.forms["dense"], measured.forms["masked"]
        assert list(measured.forms) == ["dense", "masked"], key
        assert [program.batch for program in masked.programs] == [1, 200]
        assert masked.flops == dense.flops > 0
        assert [p.memory for p in masked.programs] == [p.memory for p in dense.programs]
        assert (masked.parameters, dense.nonzeros >= 0.9 * dense.parameters) == (dense.parameters, True)
        assert masked.nonzeros < 0.7 * dense.nonzeros
        assert masked.bytes < 0.8 * dense.bytes
        assert all(p.seconds.value > 0 and p.rounds == 1 for p in masked.programs)
        assert dense.single.ratio.value == 1


def test_sizes_are_those_of_the_first_seed(job, tmp_path):
    made = experiment(SMALL)
    here = store(job.out)
    entry = next(entry for entry in plan_run(made.settings).entries if entry.network.key == "none 0.5")
    networks = networks_of(made, here, entry.node)
    first = jax.tree.map(lambda leaf: np.asarray(leaf)[0], (networks.params, networks.stats))
    masked = job.results.costs["none 0.5"].forms["masked"]
    assert (masked.parameters, masked.nonzeros) == costs.sizes_of(*first)[:2]


def arrays_of(path):
    """The bytes of a safetensors file after its header."""
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    return path.stat().st_size - 8 - header


@pytest.mark.filterwarnings("ignore:.*plain safetensors")  # the header of so small a network is longer than its arrays
def test_bytes_are_those_of_the_exported_arrays(job, tmp_path):
    made = export_network(str(job.out), "none 0.5", tmp_path / "packed.safetensors", format="packed")
    assert job.results.costs["none 0.5"].forms["masked"].bytes == arrays_of(made.path)


def test_the_times_are_kept_when_a_run_is_run_again(job):
    before = {path: path.stat().st_mtime_ns for path in job.out.glob("stages/costs-*/values.json")}
    assert len(before) == 3, "of each network, and of both"
    report = json.loads((job.out / "results.json").read_text())["costs"]
    again = pipeline.run(load(None, SMALL | {"costs.seconds": 1e-9}), job.out, write_again=True)
    assert {path: path.stat().st_mtime_ns for path in job.out.glob("stages/costs-*/values.json")} == before
    assert json.loads((again.out / "results.json").read_text())["costs"] == report


def test_without_speed_nothing_is_timed(job):
    quiet = pipeline.run(load(None, SMALL | {"costs.speed": False}), job.out.parent / "quiet")
    for key, measured in quiet.results.costs.items():
        assert not measured.timed
        assert measured.forms["masked"].bytes == job.results.costs[key].forms["masked"].bytes
        assert {program.rounds for form in measured.forms.values() for program in form.programs} == {0}


def test_addresses_move_with_the_settings_of_costs_alone():
    def addresses(**changes):
        made = experiment(SMALL, **changes)
        plan = plan_run(made.settings)
        node = plan.compressed[0].node
        return stage_of(made, node).address, network_costs_stage(made, node).address, costs_stage(made, plan).address

    network, of_network, of_all = addresses()
    changed = addresses(costs__batch=64)
    assert changed[0] == network
    assert changed[1] != of_network
    assert changed[2] != of_all
    untimed = [addresses(costs__speed=False, costs__seconds=seconds)[1] for seconds in (1.0, 3.0)]
    assert untimed[0] == untimed[1] != of_network
    assert addresses(audit__confidence=0.9)[1:] == (of_network, of_all)


CHANNELS = {
    "model.hidden": (24, 12), "prune.structure": "channels", "retrain.epochs": 0, "costs.speed": False,
}  # fmt: skip


def test_a_compact_network_has_the_widths_of_the_first_seed(tmp_path):
    """Of two seeds that keep other numbers of channels: it is the network that is exported."""
    made, here = experiment(SMALL | CHANNELS), store(tmp_path)
    plan = plan_run(made.settings)
    audited = {"networks": [{"key": entry.network.key, "chosen": True, "trouble": ""} for entry in plan.entries]}
    [values] = pipeline_costs.measure_costs(made, here, plan, audited).values()
    forms = costs_from_json(values).forms

    [entry] = plan.compressed
    masks = networks_of(made, here, entry.node).masks
    names = tuple(coupling.name for coupling in made.couplings)
    first, second = channels_left(made, names, masks).values()
    widths = [(int(first[r].sum()), int(second[r].sum())) for r in range(2)]
    assert widths[0] != widths[1], "else the test shows nothing"
    layers = list(pairwise((made.dataset.train.x.shape[1], *widths[0], made.dataset.num_classes)))
    parameters = sum((n + 1) * m for n, m in layers)
    assert (forms["compact"].parameters, forms["compact"].bytes) == (parameters, 4 * parameters)
    biases = sum(m for _, m in layers)
    assert forms["compact"].flops == sum(2 * n * m for n, m in layers) + biases + sum(widths[0]), "and relus"
    assert forms["compact"].nonzeros == forms["masked"].nonzeros

    removed = channel_shares(made, structure_of(entry.node), masks)
    assert 1 - removed["parameters"][0] == pytest.approx(parameters / forms["dense"].parameters, rel=1e-6)
    file = exporting.export_network(made.settings, tmp_path, entry.network.key, tmp_path / "compact.safetensors")
    assert forms["compact"].bytes == arrays_of(file.path)


def test_candidates_that_lost_are_not_measured(tmp_path):
    made, here = experiment(SMALL | {"retrain.epochs": 0, "costs.speed": False}), store(tmp_path)
    plan = plan_run(made.settings)
    lost = [{"key": entry.network.key, "chosen": False, "trouble": ""} for entry in plan.entries]
    assert pipeline_costs.measure_costs(made, here, plan, {"networks": lost}) == {}
