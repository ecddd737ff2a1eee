"""Criteria, structures, allocations and schedules in the pipeline: what a node of a plan makes."""

import jax
import numpy as np
import pytest
from experiments import experiment, store
from safetensors.numpy import save_file

from jaxprune import config, models, pruning
from jaxprune.errors import UserError
from jaxprune.pipeline.compress import compress
from jaxprune.pipeline.networks import networks_of, start_of
from jaxprune.pipeline.nodes import DENSE, Compress, Train
from jaxprune.pipeline.plan import plan_run
from jaxprune.pipeline.pruning_checks import check_pruning
from jaxprune.pipeline.run import build, run_plan
from jaxprune.pipeline.spared_levels import exactly
from jaxprune.trees import named_leaves

SMALL = {
    "data.name": "synthetic", "data.sizes": (300, 60), "model.hidden": (8, 8), "seeds": 2, "train.epochs": 3,
    "train.batch_size": 64, "prune.sparsities": (0.5,), "retrain.epochs": 2, "retrain.methods": ("naive",),
    "prune.examples": 40,
}  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One folder for all: the same dense networks are trained once."""
    return store(tmp_path_factory.mktemp("axes"))


def dotted(changes):
    return SMALL | {name.replace("__", "."): value for name, value in changes.items()}


def made(shared, name="pruned", **changes):
    """The networks of an entry of a run's plan, and the experiment."""
    settings, plan = run_plan(config.load(None, dotted(changes)), "report")
    one = build(settings, plan)
    node = next(entry.node for entry in plan.entries if entry.network.name == name)
    return one, networks_of(one, type(shared)(shared.workspace, shared.progress), node)


def shares(one, networks):
    """[R] the share of prunable weights that is pruned."""
    replicas = [jax.tree.map(lambda leaf, r=r: leaf[r], networks.masks) for r in range(2)]
    return [pruning.sparsity_of(masks, one.prunable) for masks in replicas]


def assert_sparse(one, networks, share=0.5):
    size = sum(
        leaf.size // 2
        for leaf, prune in zip(jax.tree.leaves(networks.params), jax.tree.leaves(one.prunable), strict=True)
        if prune
    )
    assert shares(one, networks) == [round(share * size) / size] * 2
    pairs = zip(jax.tree.leaves(networks.params), jax.tree.leaves(networks.masks), strict=True)
    assert all(np.all(np.asarray(leaf)[~np.asarray(mask)] == 0) for leaf, mask in pairs)


@pytest.mark.parametrize(
    "schedule", ["iterative", "before_training", "gradual", "straight_through", "static", "set", "rigl"]
)
def test_every_schedule_reaches_the_sparsity_and_retraining_holds_it(shared, schedule):
    options = {"gradual": ("epochs=3", "every=2"), "straight_through": ("epochs=3", "every=2")}
    options |= {"set": ("every=3",), "rigl": ("every=3",), "iterative": ("rounds=2",)}
    changes = {"prune__schedule": schedule, "prune__schedule_options": options.get(schedule, ())}
    one, pruned = made(shared, **changes)
    assert_sparse(one, pruned)
    _, retrained = made(shared, "naive", **changes)
    jax.tree.map(np.testing.assert_array_equal, retrained.masks, pruned.masks)
    assert_sparse(one, retrained)
    assert any(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (pruned.params, retrained.params)), strict=True))


def test_rigl_moves_its_masks_and_static_does_not(shared):
    masks = [
        made(shared, prune__schedule=name, prune__schedule_options=options)[1].masks
        for name, options in (("static", ()), ("rigl", ("every=3",)))
    ]
    assert any(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, masks), strict=True))


def test_gradual_pruning_does_not_regrow_from_one_sparsity_of_the_schedule_to_the_next(shared):
    """It begins with the dense networks, and its largest weights are kept."""
    one, pruned = made(shared, prune__schedule="gradual", prune__schedule_options=("epochs=3", "every=2"))
    dense = networks_of(one, shared, DENSE)
    kept = [
        np.abs(np.asarray(leaf))[np.asarray(mask)].mean() > np.abs(np.asarray(leaf))[~np.asarray(mask)].mean()
        for leaf, mask, prune in zip(*map(jax.tree.leaves, (dense.params, pruned.masks, one.prunable)), strict=True)
        if prune
    ]
    assert all(kept)


@pytest.mark.slow
@pytest.mark.parametrize("criterion", pruning.CRITERIA)
def test_every_criterion_prunes_the_exact_share(shared, criterion):
    options = {"synflow": ("rounds=3",), "obd": ("probes=4",)}
    one, pruned = made(shared, prune__criterion=criterion, prune__criterion_options=options.get(criterion, ()))
    size = [leaf[0].size for leaf, p in zip(*map(jax.tree.leaves, (pruned.params, one.prunable)), strict=True) if p]
    exact = sum(round(n / 2) for n in size) if one.settings.prune.allocation == "layerwise" else round(sum(size) / 2)
    assert shares(one, pruned) == [exact / sum(size)] * 2
    pairs = zip(jax.tree.leaves(pruned.params), jax.tree.leaves(pruned.masks), strict=True)
    assert all(np.all(np.asarray(leaf)[~np.asarray(mask)] == 0) for leaf, mask in pairs)


@pytest.mark.parametrize("allocation", ["global", "layerwise", "erk", "levels", "spared"])
def test_every_allocation_prunes_the_exact_share(shared, allocation):
    options = {"levels": ("levels=Dense_0/kernel=0.25",)}.get(allocation, ())
    options = tuple(text.replace("Dense_0", first_layer()) for text in options)
    one, pruned = made(shared, prune__allocation=allocation, prune__allocation_options=options)
    assert_sparse(one, pruned)


def first_layer():
    one = experiment(SMALL)
    params, _ = jax.eval_shape(one.initialise)
    return next(name for name, _ in named_leaves(params) if name.endswith("kernel")).rpartition("/")[0]


def test_n_of_m_runs_along_the_axis_that_is_summed_over(shared):
    one, pruned = made(shared, prune__structure="n_m", prune__structure_options=("m=2",))
    for mask, prune in zip(*map(jax.tree.leaves, (pruned.masks, one.prunable)), strict=True):
        if prune:
            groups = np.asarray(mask).reshape(2, -1, 2, mask.shape[-1])
            assert (groups.sum(2) == 1).all()


def test_blocks(shared):
    changes = {"prune__structure": "blocks", "prune__structure_options": ("height=2", "width=2")}
    one, pruned = made(shared, **changes)
    masks = [np.asarray(m) for m, p in zip(*map(jax.tree.leaves, (pruned.masks, one.prunable)), strict=True) if p]
    for mask in masks:
        tiles = mask.reshape(2, mask.shape[1] // 2, 2, mask.shape[2] // 2, 2).sum((2, 4))
        assert set(np.unique(tiles)) <= {0, 4}
    units = sum(mask[0].size // 4 for mask in masks)
    assert sum(int(mask[0].sum()) for mask in masks) == 4 * (units - round(0.5 * units))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prune__structure": "n_m", "prune__structure_options": ("m=3",)}, r"prune\.sparsities: 0\.5 .*m=3"),
        ({"prune__structure": "n_m", "prune__structure_options": ("m=1",)}, r"prune\.structure_options: m: 1"),
        ({"prune__structure": "blocks", "prune__structure_options": ("height=5",)}, r"prune\.structure: .*kernel"),
        ({"prune__structure": "n_m", "prune__allocation": "erk"}, r"prune\.allocation: the structure n_m is"),
        ({"prune__criterion": "fairgrape", "prune__allocation": "erk"}, r"prune\.allocation: the criterion fairgrape"),
        ({"prune__schedule": "gradual", "prune__criterion": "curvature"}, r"prune\.criterion: curvature needs batch"),
        ({"prune__allocation": "levels", "prune__allocation_options": ("levels=nothing=0.5",)}, r"prune\.allocation: "),
        ({"prune__schedule": "rigl", "prune__criterion": "random"}, r"prune\.criterion: rigl begins with random masks"),
        ({"prune__schedule": "rigl"}, r"prune\.schedule_options\.every: rigl lasts \d+ of the \d+ steps"),
        ({"prune__criterion_options": ("fairprune.beta=1",)}, r"prune\.criterion_options: nothing is pruned by .*beta"),
        ({"prune__reestimate": True}, r"prune\.reestimate: mlp has no statistics"),
        ({"prune__exclude": ("nothing",)}, r"prune\.exclude: unknown parameter 'nothing'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_any_work(changes, message):
    with pytest.raises(UserError, match=message) as error:
        build(*run_plan(config.load(None, dotted(changes)), "report"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("setting", [{"prune__reestimate": True}, {"prune__schedule": "gradual"}])
def test_the_theory_is_about_pruning_at_once(setting):
    with pytest.raises(UserError, match=r"prune\.(reestimate|schedule): the theory is about"):
        run_plan(config.load(None, dotted(setting)), "theory")


def test_first_and_last_layer_are_kept_dense(shared):
    one, pruned = made(shared, prune__keep_dense=("first", "last"))
    chosen = [name for name, prune in named_leaves(one.prunable) if prune]
    kernels = [name for name, leaf in named_leaves(pruned.params) if leaf.ndim == 3]
    assert len(kernels) == 3
    assert len(chosen) == 1
    dims = {name: leaf.shape[1:] for name, leaf in named_leaves(pruned.params)}
    assert dims[chosen[0]] == (8, 8), "the layer in the middle"


def test_rewinding_begins_with_the_weights_of_an_epoch(shared):
    one, early = made(shared, **{"retrain__rewind": 0})[0], None
    early = networks_of(one, shared, Train(until=0))
    params, _ = one.initialise()
    jax.tree.map(np.testing.assert_array_equal, early.params, params)


def test_corrections_before_training_are_trained_on(shared):
    """SparseGPT changes the kept weights; the sparse training begins with those."""
    changes = {"prune__schedule": "before_training", "prune__criterion": "sparsegpt"}
    one = made(shared, **changes)[0]
    fresh = Compress(Train(until=0), config.options.Part("sparsegpt"), 0.5, allocation=config.options.Part("global"))
    corrected, params = networks_of(one, shared, fresh).params, one.initialise()[0]
    assert any(
        np.any((np.asarray(a) != np.asarray(b)) & (np.asarray(a) != 0))
        for a, b in zip(*map(jax.tree.leaves, (corrected, params)), strict=True)
    )
    node = next(
        e.node for e in run_plan(config.load(None, dotted(changes)), "report")[1].entries if e.network.name == "pruned"
    )
    jax.tree.map(np.testing.assert_array_equal, start_of(one, shared, node).params, corrected)


def test_rewinding_the_learning_rate_repeats_the_dense_training_of_a_network_that_is_not_pruned(shared):
    """With masks that keep all, the end is the same to the bit: the order of examples is repeated as well."""
    changes = {
        "prune__sparsities": (0.0, 0.5), "retrain__rewind": 1, "retrain__rewind_learning_rate": True,
        "train__schedule": "cosine", "train__optimizer": "sgd",
    }  # fmt: skip
    one, again = made(shared, "naive", **changes)
    dense = networks_of(one, shared, DENSE)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), again.params, dense.params)


def test_zeros_of_the_weights_are_held_and_count(shared, tmp_path):
    """A network that somebody else pruned to 25 % is pruned on to 50 %, and nothing grows again."""
    one = experiment(SMALL)
    params, stats = (jax.tree.map(lambda leaf: leaf[0], tree) for tree in one.initialise())
    masks = pruning.global_masks(pruning.magnitude().score(params), 0.25, one.prunable)
    sparse = pruning.apply_masks(params, masks)
    path = tmp_path / "sparse.safetensors"
    save_file({name: np.ascontiguousarray(a) for name, a in models.to_state_dict(sparse, stats).items()}, path)
    changes = {"model__weights": str(path), "model__keep_zeros": True}
    one, pruned = made(shared, **changes)
    dense = networks_of(one, shared, DENSE)
    for r in range(2):
        mine = jax.tree.map(lambda leaf, r=r: np.asarray(leaf[r]), (dense.params, dense.masks))
        jax.tree.map(lambda leaf, mask: np.testing.assert_array_equal(leaf[~np.asarray(mask)], 0), mine[0], masks)
        jax.tree.map(np.testing.assert_array_equal, mine[1], masks)
    assert_sparse(one, pruned)
    jax.tree.map(
        lambda new, old: np.testing.assert_array_equal(new & ~np.asarray(old), False), pruned.masks, dense.masks
    )
    gradual = {"prune__schedule": "gradual", "prune__schedule_options": ("epochs=3", "every=2")}
    one, pruned = made(shared, **gradual, **changes)
    assert_sparse(one, pruned)
    jax.tree.map(
        lambda new, old: np.testing.assert_array_equal(new & ~np.asarray(old), False), pruned.masks, dense.masks
    )
    with pytest.raises(UserError, match=r"prune\.sparsities: 0\.1 is below the 25 % of the weights that are 0 already"):
        made(shared, prune__sparsities=(0.1,), **changes)


@pytest.mark.long
def test_statistics_measured_anew_are_of_the_pruned_network(shared):
    """The weights and masks stay; the moments are those of the training split."""
    small = {
        "data.name": "digits", "model.name": "resnet20", "model.width": 0.125, "seeds": 2, "train.epochs": 1,
        "train.batch_size": 256, "prune.sparsities": (0.5,), "retrain.epochs": 0, "prune.reestimate": True,
    }  # fmt: skip
    settings, plan = run_plan(config.load(None, small), "report")
    one = build(settings, plan)
    bare, again = (
        networks_of(one, shared, next(e.node for e in plan.entries if e.network.name == name))
        for name in ("pruned", "pruned_reestimated")
    )
    jax.tree.map(np.testing.assert_array_equal, (bare.params, bare.masks), (again.params, again.masks))
    for r in range(2):
        params, stats = jax.tree.map(lambda leaf, r=r: leaf[r], (bare.params, bare.stats))
        expected = pruning.reestimate_statistics(one.network, params, stats, one.train_data, batch_size=256)
        mine = jax.tree.map(lambda leaf, r=r: leaf[r], again.stats)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), mine, expected)
    assert any(
        np.any(np.abs(a - b) > 1e-3) for a, b in zip(*map(jax.tree.leaves, (bare.stats, again.stats)), strict=True)
    )


def test_exact_levels():
    sizes = np.array([10, 100, 1000])
    levels = exactly(np.array([0.5, 0.9, 0.3]), sizes, 0.35)
    assert round(float(levels @ sizes)) == round(0.35 * 1110)
    assert levels[0] == 0.5
    assert levels[1] == 0.9


@pytest.mark.parametrize(
    ("levels", "sizes", "sparsity"),
    [([0.375, 0.98], [64, 16], 0.5), ([0.98, 0.98], [10, 20], 0.9), ([0.0, 0.0], [7, 9], 0.4)],
)
def test_exact_levels_leave_a_weight_in_every_layer(levels, sizes, sparsity):
    found = exactly(np.array(levels), np.array(sizes), sparsity) * sizes
    assert round(float(found.sum())) == round(sparsity * sum(sizes))
    assert (found <= np.array(sizes) - 1).all()


def test_scores_that_are_not_finite_are_an_error(shared):
    one = experiment(SMALL)
    dense = networks_of(one, shared, DENSE)
    broken = dense._replace(params=jax.tree.map(lambda leaf: leaf * np.nan, dense.params))
    with pytest.raises(UserError, match="NaN"):
        compress(one, shared, Compress(DENSE, config.options.Part("magnitude"), 0.5), broken)


def test_plans_are_checked_before_training():
    settings = config.load(None, SMALL)
    one = experiment(SMALL)
    check_pruning(one, plan_run(settings))
