"""Channels through the pipeline: masks, compact networks, their equality, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from experiments import store
from safetensors.numpy import save_file

from jaxprune import config, models, pruning
from jaxprune.errors import UserError
from jaxprune.pipeline import audit as audit_module
from jaxprune.pipeline import compacting
from jaxprune.pipeline.addresses import compact_stage
from jaxprune.pipeline.audit import audit
from jaxprune.pipeline.compacting import compact_of, equality_of, kept_places
from jaxprune.pipeline.networks import networks_of
from jaxprune.pipeline.run import build, run_plan
from jaxprune.pipeline.train import Networks
from jaxprune.trees import named_leaves

pytestmark = pytest.mark.slow  # in every run of CI

SMALL = {
    "data.name": "synthetic", "data.sizes": (300, 60), "model.hidden": (8, 6), "seeds": 2, "train.epochs": 2,
    "train.batch_size": 64, "prune.sparsities": (0.5,), "retrain.epochs": 2, "retrain.methods": ("naive",),
    "prune.structure": "channels",
}  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One folder for all: the same dense networks are trained once."""
    return store(tmp_path_factory.mktemp("channels"))


def planned(**changes):
    """The experiment of a run and its nodes by name."""
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    settings, plan = run_plan(config.load(None, SMALL | dotted), "report")
    return build(settings, plan), plan, {entry.network.name: entry.node for entry in plan.entries}


def again(shared):
    """A store of the same folder that remembers nothing."""
    return type(shared)(shared.workspace, shared.progress)


def replicas_of(tree):
    host = jax.tree.map(np.asarray, tree)
    return [jax.tree.map(lambda leaf, r=r: leaf[r], host) for r in range(2)]


def logits_of(network, of, one):
    """[R, N, C]"""
    x = jnp.asarray(one.dataset.test.x)
    return jax.vmap(lambda params, stats: network.freeze(stats)(params, x))(of.params, of.stats)


def channels_kept(one, networks):
    """The channels left of each replica; raises unless they are whole."""
    return [sum(int(v.sum()) for v in one.couplings.keep(masks).values()) for masks in replicas_of(networks.masks)]


@pytest.mark.parametrize(
    ("schedule", "options"),
    [
        ("one_shot", ()),
        ("iterative", ("rounds=2",)),
        pytest.param("before_training", (), marks=pytest.mark.slow),
        pytest.param("gradual", ("epochs=2", "every=2"), marks=pytest.mark.slow),
        pytest.param("straight_through", ("epochs=2", "every=2"), marks=pytest.mark.slow),
    ],
)
def test_every_schedule_prunes_whole_channels_and_retraining_holds_them(shared, schedule, options):
    one, _, nodes = planned(prune__schedule=schedule, prune__schedule_options=options)
    pruned, retrained = (networks_of(one, again(shared), nodes[name]) for name in ("pruned", "naive"))
    assert channels_kept(one, pruned) == [7, 7]
    jax.tree.map(np.testing.assert_array_equal, retrained.masks, pruned.masks)
    biases = [mask for path, mask in named_leaves(pruned.masks) if path.endswith("bias")]
    assert any(np.any(~np.asarray(mask)) for mask in biases), "masks span biases"
    for networks in (pruned, retrained):
        pairs = zip(*map(jax.tree.leaves, (networks.params, networks.masks)), strict=True)
        assert all(np.all(np.asarray(leaf)[~np.asarray(mask)] == 0) for leaf, mask in pairs)


def test_compact_networks_equal_the_masked_ones_and_come_back_from_disk(shared):
    one, _, nodes = planned()
    for name in ("pruned", "naive"):
        compact, networks = compact_of(one, again(shared), nodes[name]), networks_of(one, again(shared), nodes[name])
        sizes = {name: places.shape[1] for name, places in compact.kept.items()}
        assert [leaf.shape[1:] for path, leaf in named_leaves(compact.params) if path.endswith("bias")] == [
            (sizes.get(f"dense_{i}/kernel[1]", size),) for i, size in enumerate((8, 6, one.dataset.num_classes))
        ]
        logits = [logits_of(one.network, networks, one), logits_of(compact.network, compact, one)]
        np.testing.assert_allclose(*logits, rtol=1e-5, atol=1e-5 * float(jnp.max(jnp.abs(logits[0]))))
        restored = compact_of(one, again(shared), nodes[name])
        jax.tree.map(np.testing.assert_array_equal, restored.params, compact.params)
        assert {n: p.tolist() for n, p in restored.kept.items()} == {n: p.tolist() for n, p in compact.kept.items()}
        equality = equality_of(one, again(shared), nodes[name])
        assert equality.people == len(one.dataset.test.y)
        assert (equality.difference <= 1e-5 * equality.largest).all()
        assert (equality.largest > 0).all()


def test_networks_of_the_same_channels_share_one_program(shared):
    one, _, nodes = planned()
    same = again(shared)
    first, second = (compact_of(one, same, nodes[name]) for name in ("pruned", "naive"))
    assert first.network is second.network


def test_replicas_keep_as_many_places_and_the_surplus_is_0():
    one, _, _ = planned()
    params, _ = one.initialise()
    keep = {"dense_0/kernel[1]": np.array([[1, 1, 0, 0, 0, 0, 0, 1], [0, 1, 0, 0, 1, 0, 0, 0]], bool)}
    masks = jax.vmap(lambda keep, params: one.couplings.masks(keep, params))(keep, params)
    kept = kept_places(one.couplings, masks, 2)
    assert list(kept) == ["dense_0/kernel[1]"], "the other coupling is whole"
    assert kept["dense_0/kernel[1]"].tolist() == [[0, 1, 7], [0, 1, 4]]


def test_channels_that_live_by_their_bias_alone_are_kept(shared, tmp_path):
    """As in weights that came with whole filters at 0, whose biases are not."""
    one, _, _ = planned()
    params, stats = (jax.tree.map(lambda leaf: leaf[0], tree) for tree in one.initialise())
    params["dense_0"]["kernel"] = params["dense_0"]["kernel"].at[:, 5].set(0)
    params["dense_0"]["bias"] = params["dense_0"]["bias"] + 1
    params["dense_1"]["kernel"] = params["dense_1"]["kernel"].at[5].mul(10)
    models.save_weights(tmp_path / "sparse.safetensors", params, stats)
    zeros = {"model__weights": str(tmp_path / "sparse.safetensors"), "model__keep_zeros": True}
    one, _, nodes = planned(**zeros)
    kept = compact_of(one, again(shared), nodes["pruned"]).kept["dense_0/kernel[1]"]
    assert all(5 in places for places in kept)


def test_networks_that_are_not_equal_are_an_error(shared, monkeypatch):
    one, _, nodes = planned(prune__sparsities=(0.25,))
    real = compacting.cut
    monkeypatch.setattr(compacting, "cut", lambda *args: jax.tree.map(lambda leaf: leaf * 1.01, real(*args)))
    with pytest.raises(UserError, match=r"the compact network of seed \d+ differs from the masked .*: a cut is wrong"):
        compact_of(one, again(shared), nodes["pruned"])
    assert not shared.workspace.done(compact_stage(one, nodes["pruned"]))


def test_other_structures_and_dense_networks_have_none(shared):
    one, _, nodes = planned()
    assert compact_of(one, again(shared), nodes["dense"]) is None
    one, _, nodes = planned(prune__structure="weights")
    assert compact_of(one, again(shared), nodes["pruned"]) is None
    one, _, nodes = planned(prune__sparsities=(0.01,))  # rounds to no channel
    for _ in range(2):
        assert compact_of(one, again(shared), nodes["pruned"]) is None


@pytest.mark.parametrize("options", [("cost=flops",), ("cost=parameters", "at_least=2")])
def test_the_audit_says_what_was_removed(shared, options):
    one, plan, _ = planned(prune__structure_options=options, retrain__epochs=0)
    values = audit(one, again(shared), plan)
    dense, pruned = values["networks"]
    assert dense["channels"] is None
    found = pruned["channels"]
    assert [(c["name"], c["kind"], c["size"]) for c in found["couplings"]] == [
        ("dense_0/kernel[1]", "channels", 8), ("dense_1/kernel[1]", "channels", 6),
    ]  # fmt: skip
    for r in range(2):
        counts = {c["name"]: c["kept"][r] for c in found["couplings"]}
        assert min(counts.values()) >= (2 if len(options) > 1 else 1)
        for measure, share in (("parameters", one.couplings.parameters), ("flops", one.couplings.flops)):
            assert found["removed"][measure][r] == pytest.approx(1 - share(counts) / share({}), abs=1e-6)
        assert found["removed"]["channels"][r] == pytest.approx(1 - sum(counts.values()) / 14)
    cost = options[0].partition("=")[2]
    assert np.abs(np.array(found["removed"][cost]) - 0.5).max() < 0.1
    assert found["equality"]["people"] == len(one.dataset.test.y)


def test_outcomes_are_those_of_the_compact_network(shared, monkeypatch):
    one, plan, _ = planned(prune__sparsities=(0.3,), retrain__epochs=0)
    measured, real = [], audit_module.outcomes_of_compact

    def counted(*args):
        measured.append(args[2])
        return real(*args)

    monkeypatch.setattr(audit_module, "outcomes_of_compact", counted)
    audit_module.measure(one, again(shared), plan)
    assert len(measured) == 1
    assert measured[0].params["dense_0"]["bias"].shape[1] < 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prune__structure": "heads"}, r"^prune\.structure: this network has no heads of attention"),
        ({"prune__allocation": "erk"}, r"^prune\.allocation: ERK goes by the shapes of layers"),
        ({"prune__allocation": "spared"}, r"^prune\.allocation: spared goes by the harm of layers"),
        ({"prune__sparsities": (0.95,)}, r"^prune\.sparsities: 0\.95 of the channels is out of reach: "),
        (
            {"prune__structure_options": ("round_to=9",)},
            r"^prune\.structure_options: round_to: 9 is above every width that may be cut, 8 at most",
        ),
        ({"prune__schedule": "rigl"}, r"^prune\.structure: rigl begins with random masks"),
        ({"prune__structure_options": ("cost=flop",)}, r"^prune\.structure_options: cost: unknown cost 'flop'"),
        ({"prune__structure_options": ("couplings=a",)}, r"^prune\.structure_options.*couplings"),
        ({"prune__structure_options": ("round_to=two",)}, r"^prune\.structure_options: round_to: unknown rule 'two'"),
        ({"prune__structure_options": ("at_least=9",)}, r"^prune\.sparsities: 0\.5 of the channels .*at_least = 9"),
        ({"theory__measures": ("sparing",)}, r"^theory\.measures: sparing prunes one layer at a time, and channels"),
        ({"prune__exclude": ("dense_0/*", "dense_1/*")}, r"^prune\.structure: no channels can be cut"),
        (
            {"prune__allocation": "levels", "prune__allocation_options": ("levels=dense_9*=0.5",)},
            r"^prune\.allocation: levels: unknown prunable layer 'dense_9\*'",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_any_work(changes, message):
    with pytest.raises(UserError, match=message) as error:
        planned(**changes)
    assert "\n" not in str(error.value)


def test_levels_are_given_by_the_names_of_couplings(shared):
    options = ("levels=dense_0/kernel[1]=0.25",)
    one, _, nodes = planned(prune__allocation="levels", prune__allocation_options=options, prune__sparsities=(0.4,))
    pruned = networks_of(one, again(shared), nodes["pruned"])
    for masks in replicas_of(pruned.masks):
        counts = {name: int(v.sum()) for name, v in one.couplings.keep(masks).items()}
        assert counts == {"dense_0/kernel[1]": 6, "dense_1/kernel[1]": 2}


@pytest.mark.long
@pytest.mark.parametrize(
    ("structure", "model"),
    [
        ("channels", {"model.name": "resnet20", "model.width": 0.25, "prune.reestimate": True}),
        ("heads", {"model.name": "vit", "model.patch": 4, "model.features": 12, "model.depth": 2, "model.heads": 3}),
        ("channels", {"model.name": "vit", "model.patch": 4, "model.features": 12, "model.depth": 1, "model.heads": 3}),
    ],
)
def test_networks_of_images(tmp_path, structure, model):
    small = {"data.name": "digits", "data.sizes": None, "model.hidden": None, "train.epochs": 1, "retrain.epochs": 1}
    settings = {**SMALL, **small, **model, "prune.structure": structure}
    settings = {name: value for name, value in settings.items() if value is not None}
    settings, plan = run_plan(config.load(None, settings), "report")
    one, here = build(settings, plan), store(tmp_path)
    for entry in plan.entries[1:]:
        equality = equality_of(one, here, entry.node)
        assert (equality.difference <= 1e-5 * np.maximum(equality.largest, 1)).all()
        assert isinstance(networks_of(one, here, entry.node), Networks)
    if structure == "heads":
        compact = compact_of(one, here, entry.node)
        assert all(places.shape[1] < 3 for places in compact.kept.values())


def test_zeros_of_the_weights_are_held_and_whole_channels_count(shared, tmp_path):
    """Two of eight channels are gone already, and single zeros in the others stay."""
    one, _, _ = planned()
    params, stats = (jax.tree.map(lambda leaf: leaf[0], tree) for tree in one.initialise())
    masks = one.couplings.masks({"dense_0/kernel[1]": np.arange(8) > 1}, params)
    masks["dense_0"]["kernel"] = masks["dense_0"]["kernel"].at[0, 5].set(False)
    path = tmp_path / "sparse.safetensors"
    sparse = models.to_state_dict(pruning.apply_masks(params, masks), stats)
    save_file({name: np.ascontiguousarray(array) for name, array in sparse.items()}, path)
    zeros = {"model__weights": str(path), "model__keep_zeros": True}
    one, _, nodes = planned(**zeros)
    pruned = networks_of(one, again(shared), nodes["pruned"])
    assert channels_kept(one, pruned) == [7, 7]
    for mine in replicas_of(pruned.masks):
        assert not mine["dense_0"]["kernel"][:, :2].any()
        assert not mine["dense_0"]["kernel"][0, 5]
    assert compact_of(one, again(shared), nodes["pruned"]).params["dense_0"]["bias"].shape[1] <= 6
    with pytest.raises(UserError, match=r"^prune\.sparsities: 0\.05 is below the 14 % of the channels that are pruned"):
        planned(prune__sparsities=(0.05,), **zeros)


@pytest.mark.slow
def test_rewinding_goes_back_to_early_weights_of_the_channels_that_are_left(shared):
    one, _, nodes = planned(retrain__rewind=1, retrain__epochs=1)
    pruned, retrained = (networks_of(one, again(shared), nodes[name]) for name in ("pruned", "naive"))
    jax.tree.map(np.testing.assert_array_equal, retrained.masks, pruned.masks)
    equality = equality_of(one, again(shared), nodes["naive"])
    assert (equality.difference <= 1e-5 * equality.largest).all()
