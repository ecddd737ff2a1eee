"""The one spelling of parameter paths."""

import jax
import numpy as np

from jaxprune.trees import leaf_names, leaf_path, named_leaves
from jaxprune.types import Batch


def test_paths_of_dictionaries_sequences_and_named_tuples():
    tree = {"dense_0": {"kernel": 1, "bias": 2}, "layers": [3, Batch(4, 5, 6, 7)]}
    names = [
        "dense_0/bias",
        "dense_0/kernel",
        "layers/0",
        "layers/1/x",
        "layers/1/y",
        "layers/1/group",
        "layers/1/weight",
    ]
    assert leaf_names(tree) == names
    assert [leaf for _, leaf in named_leaves(tree)] == jax.tree.leaves(tree)
    assert [leaf_path(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)] == names
    assert leaf_names(np.zeros(2)) == [""]
