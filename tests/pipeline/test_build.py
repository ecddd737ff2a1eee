"""The experiment that settings become: replicas, pruning, weights from files."""

import jax
import numpy as np
import pytest
from compilations import compiles
from experiments import experiment, store

from jaxprune import config, models, pipeline, pruning
from jaxprune.config.options import Part
from jaxprune.errors import UserError
from jaxprune.pipeline.build import resolve
from jaxprune.pipeline.compress import compress
from jaxprune.pipeline.nodes import DENSE, Compress
from jaxprune.pipeline.train import Networks

SMALL = {"data.name": "digits", "model.hidden": (8,), "seeds": 2, "prune.sparsities": (0.5, 0.9)}


def test_replicas_are_pruned_each_by_its_own_threshold(tmp_path) -> None:
    made = experiment(SMALL)
    params, stats = made.initialise()
    node = Compress(DENSE, Part("magnitude"), 0.9)
    pruned, _, masks, _ = compress(made, store(tmp_path), node, Networks(params, stats, made.all_kept(params)))
    for r in range(2):
        mine = jax.tree.map(lambda leaf, r=r: leaf[r], (params, masks, pruned))
        alone = pruning.global_masks(pruning.magnitude().score(mine[0]), 0.9, made.prunable)
        jax.tree.map(np.testing.assert_array_equal, alone, mine[1])
        jax.tree.map(np.testing.assert_array_equal, pruning.apply_masks(mine[0], alone), mine[2])


def test_seeds_do_not_depend_on_how_many_run_together(tmp_path) -> None:
    """Seed 1 of two starts with the same parameters as seed 1 alone."""
    both = resolve(config.load(None, SMALL)).initialise()[0]
    alone = resolve(config.load(None, SMALL | {"seeds": 1, "first_seed": 1})).initialise()[0]
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[1], b[0]), both, alone)


def test_the_same_steps_serve_every_sparsity(tmp_path) -> None:
    """One compilation for the dense phase and one for the retraining of all sparsities."""
    settings = config.load(None, SMALL | {"train.epochs": 2, "retrain.epochs": 2, "retrain.methods": ("none",)})
    with compiles(2, of="epoch"):
        pipeline.run(settings, tmp_path / "run", until="prune")


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
