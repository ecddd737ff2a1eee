"""Addresses of stages, and the experiment that settings become."""

import dataclasses
import errno

import filelock
import jax
import numpy as np
import pytest
from compilations import compiles

from jaxprune import checkpoints, config, models, pipeline, pruning
from jaxprune.errors import UserError
from jaxprune.files import seal, sealed_folder
from jaxprune.pipeline.audits import audit_stage, networks
from jaxprune.pipeline.context import Context, Silent, json_once, part_once
from jaxprune.pipeline.experiment import resolve
from jaxprune.pipeline.keeping import newest, save_logs
from jaxprune.pipeline.networks import dense, dense_stage, pruned_stage, retrained_stage
from jaxprune.pipeline.stage import Stage, Workspace
from jaxprune.pipeline.theories import theory_stage
from jaxprune.pipeline.workspaces import open_workspace

SMALL = {"data.name": "digits", "model.hidden": (8,), "seeds": 2, "prune.sparsities": (0.5, 0.9)}


def context(tmp_path, **changes) -> Context:
    overrides = SMALL | {name.replace("__", "."): value for name, value in changes.items()}
    return Context(resolve(config.load(None, overrides)), Workspace(tmp_path), Silent(), 30)


def addresses(c: Context) -> dict[str, str]:
    return {
        "dense": dense_stage(c, False).address,
        "fair_dense": dense_stage(c, True).address,
        "pruned": pruned_stage(c, False, 0.5).address,
        "fair_after": retrained_stage(c, "fair_after", 0.5).address,
        "none": retrained_stage(c, "none", 0.5).address,
        "audit": audit_stage(c).address,
        "theory": theory_stage(c).address,
    }


EVERYTHING = {"dense", "fair_dense", "pruned", "fair_after", "none", "audit", "theory"}


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        ({"name": "other"}, set()),
        ({"audit__confidence": 0.9}, set()),
        ({"data__group": "digit"}, set()),  # the default by its name
        ({"model__hidden": (9,)}, EVERYTHING),
        ({"train__epochs": 16}, EVERYTHING),
        ({"first_seed": 1}, EVERYTHING),
        ({"data__imbalance": 2.0}, EVERYTHING),
        ({"prune__scope": "layerwise"}, EVERYTHING - {"dense", "fair_dense"}),
        ({"prune__sparsities": (0.5, 0.7)}, {"audit", "theory"}),
        ({"retrain__epochs": 6}, {"fair_after", "none", "audit"}),
        ({"mitigation__dual_rate": 0.1}, {"fair_dense", "fair_after", "audit"}),
        ({"mitigation__scheme": "extragradient"}, {"fair_dense", "fair_after", "audit"}),
        ({"mitigation__methods": ("none",)}, {"audit"}),
        ({"audit__splits": ("test",)}, {"audit"}),
        ({"theory__split": "test"}, {"theory"}),
    ],
)
def test_a_stage_moves_exactly_when_its_settings_or_those_before_it_change(tmp_path, change, moved) -> None:
    before, after = addresses(context(tmp_path)), addresses(context(tmp_path, **change))
    assert {name for name in before if before[name] != after[name]} == moved


CONVOLUTIONS = {"model__name": "convnet", "model__channels": (2,)}


@pytest.mark.parametrize(("change", "moved"), [({}, set()), (CONVOLUTIONS, EVERYTHING)], ids=["mlp", "convnet"])
def test_networks_with_convolutions_move_with_the_convolution_in_native_code(change, moved, tmp_path, monkeypatch):
    found = []
    for native in (True, False):
        monkeypatch.setattr(models, "in_native_code", lambda native=native: native)
        found.append(addresses(context(tmp_path, **change)))
    assert {name for name in EVERYTHING if found[0][name] != found[1][name]} == moved


class Begun(Exception):
    """A training begins."""


class Told(Silent):
    """Keeps what is said before a training."""

    def __init__(self):
        self.said = []

    def start(self, description, total):
        raise Begun

    def say(self, message):
        self.said.append(message)


def test_a_network_that_another_convolution_has_made_is_made_anew_and_said(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "in_native_code", lambda: True)
    there = context(tmp_path, **CONVOLUTIONS)
    before = there.workspace.folder(dense_stage(there, False))
    before.mkdir(parents=True)
    seal(before)
    monkeypatch.setattr(models, "in_native_code", lambda: False)
    now = context(tmp_path, **CONVOLUTIONS)
    told = Told()
    with pytest.raises(Begun):
        dense(dataclasses.replace(now, progress=told), False)
    assert [before.name in line for line in told.said] == [True]
    assert "was made with the convolution in C++" in told.said[0]


def test_the_address_follows_the_data_not_the_file(tmp_path) -> None:
    rng = np.random.default_rng(0)
    arrays = {"x": rng.normal(size=(60, 3)), "y": np.arange(60) % 2, "town": np.arange(60) % 3}
    np.savez(tmp_path / "a.npz", **arrays)
    first = addresses(context(tmp_path, data__name=str(tmp_path / "a.npz")))
    arrays["x"][0, 0] += 1
    np.savez(tmp_path / "a.npz", **arrays)
    assert addresses(context(tmp_path, data__name=str(tmp_path / "a.npz")))["dense"] != first["dense"]


def test_every_network_is_listed_once(tmp_path) -> None:
    listed = [(model, sparsity) for model, sparsity, _, _ in networks(context(tmp_path))]
    methods = ("pruned", "none", "fair_before", "fair_after", "fair_both")
    assert listed == [("dense", 0.0), ("fair_dense", 0.0), *((m, s) for s in (0.5, 0.9) for m in methods)]
    without = context(tmp_path, retrain__epochs=0)
    assert {model for model, *_ in networks(without)} == {"dense", "fair_dense", "pruned"}


def test_replicas_are_pruned_each_by_its_own_threshold(tmp_path) -> None:
    experiment = resolve(config.load(None, SMALL))
    params, _ = experiment.initialise()
    pruned, masks = experiment.prune(params, 0.9)
    for r in range(2):
        mine = jax.tree.map(lambda leaf, r=r: leaf[r], (params, masks, pruned))
        alone = pruning.global_masks(pruning.magnitude(mine[0]), 0.9, experiment.prunable)
        jax.tree.map(np.testing.assert_array_equal, alone, mine[1])
        jax.tree.map(np.testing.assert_array_equal, pruning.apply_masks(mine[0], alone), mine[2])


def test_seeds_do_not_depend_on_how_many_run_together(tmp_path) -> None:
    """Seed 1 of two starts with the same parameters as seed 1 alone."""
    both = resolve(config.load(None, SMALL)).initialise()[0]
    alone = resolve(config.load(None, SMALL | {"seeds": 1, "first_seed": 1})).initialise()[0]
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[1], b[0]), both, alone)


def test_the_same_steps_serve_every_sparsity(tmp_path) -> None:
    """One compilation for the dense phase and one for the retraining of all sparsities."""
    settings = config.load(None, SMALL | {"train.epochs": 2, "retrain.epochs": 2, "mitigation.methods": ("none",)})
    with compiles(2, of="epoch"):
        pipeline.run(settings, tmp_path / "run", until="prune")


def test_a_workspace_is_for_one_run_at_a_time(tmp_path) -> None:
    with open_workspace(tmp_path / "run"), pytest.raises(UserError, match="in use by another run"):
        open_workspace(tmp_path / "run").__enter__()
    with open_workspace(tmp_path / "run") as again:
        assert again.root == tmp_path / "run"


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EOPNOTSUPP, "Operation not supported"), NotImplementedError(), UserWarning("falling back")],
    ids=["no locks", "not implemented", "a file in place of a lock"],
)
def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, error) -> None:
    """It is not taken for a folder in use."""
    said = []

    def acquire(*_, **__):
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    with open_workspace(tmp_path / "run", said.append) as workspace:
        assert workspace.root == tmp_path / "run"
    assert len(said) == 1
    assert said[0].startswith(f"warning: {tmp_path / 'run'} cannot be locked (")
    assert said[0].endswith("let no other run write to it at the same time")


def test_the_next_run_removes_what_a_killed_one_left(tmp_path) -> None:
    with open_workspace(tmp_path / "run"):
        pass
    left = [tmp_path / "run" / ".results.json.4.tmp", tmp_path / "run" / "stages" / "x" / ".values.json.5.tmp"]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_text("half")
    with open_workspace(tmp_path / "run"):
        with pytest.raises(UserError, match="in use"):  # whose holder may be writing
            open_workspace(tmp_path / "run").__enter__()
        assert not any(path.exists() for path in left)


def test_a_run_begins_from_the_weights_of_a_file(tmp_path):
    """Every replica begins with the file's body, and with a head of its own where the file's is for other classes."""
    few = {"data.name": "digits", "model.name": "convnet", "model.channels": (2,), "model.hidden": (), "seeds": 2}
    fresh = resolve(config.load(None, few))
    params, stats = fresh.initialise()
    one = jax.tree.map(lambda leaf: leaf[0] + 1, (params, stats))
    models.save_weights(tmp_path / "ten.safetensors", *one)
    begun = resolve(config.load(None, few | {"model.weights": str(tmp_path / "ten.safetensors")}))
    for r in range(2):
        jax.tree.map(lambda a, b, r=r: np.testing.assert_array_equal(a[r], b), begun.initialise(), one)
    assert begun.fingerprint != fresh.fingerprint, "other weights are another run"

    head = one[0]["head"]["dense_0"]
    other = one[0] | {"head": {"dense_0": {name: leaf[..., :7] for name, leaf in head.items()}}}
    models.save_weights(tmp_path / "seven.safetensors", other, one[1])
    settings = few | {"model.weights": str(tmp_path / "seven.safetensors")}
    with pytest.raises(UserError, match=r"head\.dense_0\.weight .* model\.new_head"):
        resolve(config.load(None, settings))
    found, _ = resolve(config.load(None, settings | {"model.new_head": True})).initialise()
    np.testing.assert_array_equal(found["head"]["dense_0"]["kernel"], params["head"]["dense_0"]["kernel"])
    np.testing.assert_array_equal(found["conv_0"]["kernel"][1], one[0]["conv_0"]["kernel"])


def test_a_new_head_without_weights_is_an_error():
    with pytest.raises(UserError, match=r"model\.new_head.*model\.weights"):
        config.load(None, {"model.new_head": True})


def test_parts_of_a_measure_are_kept_while_the_others_are_computed(tmp_path):
    """A kill costs the part under way; a damaged part is computed anew; none is left in the end."""
    workspace, said, computed = Workspace(tmp_path), [], []
    around = Context(None, workspace, Silent(), 30)
    around.progress.say = said.append
    stage = Stage("measure", {})

    def part(name: str, value: float) -> dict[str, np.ndarray]:
        def compute() -> dict[str, np.ndarray]:
            computed.append(name)
            return {"value": np.float64(value), "counts": np.arange(3)}

        return part_once(around, stage, name, compute)

    def measure(stop: bool) -> dict:
        one = part("one", 1 / 3)
        if stop:
            raise KeyboardInterrupt
        return {"sum": float(one["value"] + part("two", 0.5)["value"]), "counts": one["counts"].tolist()}

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            json_once(around, stage, lambda: measure(stop=True))
    assert computed == ["one"]
    kept = workspace.part(stage, "one.npz")
    kept.write_bytes(kept.read_bytes()[:-30])
    assert json_once(around, stage, lambda: measure(stop=False)) == {"sum": 1 / 3 + 0.5, "counts": [0, 1, 2]}
    assert computed == ["one", "one", "two"]
    assert said == [f"warning: {kept} is truncated or altered; it is computed anew"]
    files = sorted(path.name for path in workspace.folder(stage).iterdir())
    assert files == ["sha256.json", "stage.json", "values.json"]


def test_the_newest_whole_checkpoint_is_taken(tmp_path):
    """Not one that was half removed or half written, which goes unsaid, nor a damaged one, which is said."""
    said, state = [], {"w": np.arange(3.0)}
    around = Context(None, Workspace(tmp_path), Silent(), 30)
    around.progress.say = said.append
    for done in (1, 2, 3, 4):
        with sealed_folder(tmp_path / "checkpoints" / f"epoch-{done:05d}") as folder:
            checkpoints.save(folder / "state", {"w": state["w"] + done})
            save_logs(folder, {"loss": np.full((1, done), done)})
    folders = sorted((tmp_path / "checkpoints").iterdir())
    (folders[3] / "sha256.json").unlink()  # as a kill while it was removed leaves it
    (folders[2] / "logs.npz").write_bytes(b"damaged")

    kept = newest(around, tmp_path, "epoch", state)
    assert kept.done == 2
    np.testing.assert_array_equal(kept.state["w"], state["w"] + 2)
    np.testing.assert_array_equal(kept.logs[0]["loss"], [[2, 2]])
    assert len(said) == 1
    assert said[0].startswith(f"warning: {folders[2] / 'logs.npz'} is truncated or altered")
    assert sorted((tmp_path / "checkpoints").iterdir()) == folders[:2]

    for folder in folders[:2]:
        (folder / "sha256.json").unlink()
    begun = newest(around, tmp_path, "epoch", state)
    assert (begun.done, begun.state, begun.logs) == (0, state, ())
