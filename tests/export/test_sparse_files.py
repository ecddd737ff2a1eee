"""Packed masks and coordinates: exact round trips, sizes, and damaged files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.sparse import BCOO
from safetensors.numpy import load_file, save_file

from jaxprune import export, models, pruning
from jaxprune.errors import UserError
from jaxprune.trees import named_leaves


@pytest.fixture(scope="module")
def sparse():
    """A ResNet-20 with drawn parameters and statistics, 90 % pruned, one kept weight being 0."""
    built = models.build("resnet20", np.zeros((8, 8, 1)), 3, width=0.5)
    shapes = jax.eval_shape(built.init, jax.random.key(0))
    rng = np.random.default_rng(0)
    params, stats = jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), leaf.dtype), shapes)
    params, masks = pruning.prune(params, 0.9, criterion=pruning.magnitude())
    kept = np.argwhere(masks["layer3"]["1"]["conv1"]["kernel"])[3]
    kernel = params["layer3"]["1"]["conv1"]["kernel"]
    params["layer3"]["1"]["conv1"]["kernel"] = kernel.at[tuple(kept)].set(0)
    return params, stats, masks


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_packed_networks_are_restored_exactly_with_their_masks(sparse, tmp_path):
    params, stats, masks = sparse
    path = tmp_path / "packed.safetensors"
    export.save_packed(path, params, stats, masks, {"seed": 3})
    like = jax.tree.map(jnp.zeros_like, (params, stats))
    assert_equal(export.load_packed(path, *like), (params, stats, masks))
    assert_equal(models.load_weights(path, *like), (params, stats))
    assert export.read_description(path) == {"seed": 3}
    assert [p.name for p in tmp_path.iterdir()] == ["packed.safetensors"]


def test_a_packed_file_is_masks_and_values_as_numpy_packs_them(sparse, tmp_path):
    params, stats, masks = sparse
    export.save_packed(tmp_path / "packed.safetensors", params, stats, masks)
    arrays = load_file(tmp_path / "packed.safetensors")
    name = "layer3.1.conv1.weight"
    mask = np.asarray(masks["layer3"]["1"]["conv1"]["kernel"]).transpose(3, 2, 0, 1)
    value = np.asarray(params["layer3"]["1"]["conv1"]["kernel"]).transpose(3, 2, 0, 1)
    np.testing.assert_array_equal(arrays[f"{name}:bits"], np.packbits(mask))
    np.testing.assert_array_equal(arrays[f"{name}:values"], value[mask])
    np.testing.assert_array_equal(arrays["bn1.weight"], params["bn1"]["scale"])  # nothing of it is pruned


def test_sizes_are_those_of_the_kept_weights(sparse, tmp_path):
    """A bit for each weight and four bytes for each kept one; four more, or two, where positions are kept."""
    params, stats, masks = sparse
    models.save_weights(tmp_path / "dense.safetensors", params, stats)
    export.save_packed(tmp_path / "packed.safetensors", params, stats, masks)
    export.save_bcoo(tmp_path / "bcoo.safetensors", params, stats, masks)
    dense, packed, bcoo = (
        sum(a.nbytes for a in load_file(tmp_path / f"{name}.safetensors").values())
        for name in ("dense", "packed", "bcoo")
    )
    kernels = sum(leaf.size for name, leaf in named_leaves(params) if name.endswith("kernel"))
    kept = sum(int(leaf.sum()) for name, leaf in named_leaves(masks) if name.endswith("kernel"))
    others = dense - 4 * kernels
    assert packed == pytest.approx(others + kernels / 8 + 4 * kept, rel=0.01)
    assert packed < bcoo <= others + 8 * kept + 100
    assert packed < dense / 5


def test_without_masks_every_zero_is_pruned(sparse, tmp_path):
    params, stats, _ = sparse
    export.save_packed(tmp_path / "packed.safetensors", params, stats)
    restored, _, masks = export.load_packed(tmp_path / "packed.safetensors", params, stats)
    assert_equal(restored, params)
    assert_equal(masks["conv1"]["kernel"], params["conv1"]["kernel"] != 0)


def test_coordinates_are_bcoo_matrices_of_the_same_values(sparse, tmp_path):
    params, stats, masks = sparse
    export.save_bcoo(tmp_path / "bcoo.safetensors", params, stats, masks, {"network": "pruned 0.9"})
    found = export.load_bcoo(tmp_path / "bcoo.safetensors")
    expected = dict(named_leaves({"params": params, "stats": stats}))
    assert found.keys() == expected.keys()
    sparse_names = {name for name, array in found.items() if isinstance(array, BCOO)}
    for name, array in found.items():
        whole = array
        if isinstance(array, BCOO):
            whole = np.zeros(array.shape, np.float32)
            whole[tuple(np.asarray(array.indices).T)] = array.data
        np.testing.assert_array_equal(whole, expected[name])
    assert "params/layer3/1/conv1/kernel" in sparse_names
    kernel = found["params/layer3/1/conv1/kernel"]
    np.testing.assert_array_equal(kernel.todense(), expected["params/layer3/1/conv1/kernel"])
    assert kernel.nse == int(masks["layer3"]["1"]["conv1"]["kernel"].sum())
    assert export.read_description(tmp_path / "bcoo.safetensors") == {"network": "pruned 0.9"}


def test_a_sparse_matrix_multiplies(tmp_path):
    kernel = np.zeros((64, 48), np.float32)
    kernel[[3, 60], [40, 7]] = [2.0, -1.5]
    export.save_bcoo(tmp_path / "one.safetensors", {"kernel": jnp.asarray(kernel)}, {})
    found = export.load_bcoo(tmp_path / "one.safetensors")["params/kernel"]
    x = np.random.default_rng(1).normal(size=(5, 64)).astype(np.float32)
    np.testing.assert_allclose(jax.jit(lambda x: x @ found)(x), x @ kernel, rtol=1e-6)


@pytest.mark.parametrize("save", [export.save_packed, export.save_bcoo])
def test_masks_that_do_not_hold_are_refused(sparse, save, tmp_path):
    params, stats, masks = sparse
    wrong = jax.tree.map(jnp.zeros_like, masks)
    with pytest.raises(UserError, match=r"masks: .* has values other than 0 where it is pruned; apply the masks first"):
        save(tmp_path / "x.safetensors", params, stats, wrong)
    with pytest.raises(UserError, match=r"call the file x\.safetensors"):
        save(tmp_path / "x.pt", params, stats, masks)
    assert list(tmp_path.iterdir()) == []


def damage(path, change):
    arrays = load_file(path)
    header = {"jaxprune.packed": '{"version": 1, "shapes": {"fc.weight": [3, 32]}}'}
    arrays["fc.weight:bits"], arrays["fc.weight:values"] = np.packbits(np.ones(96, bool)), np.ones(96, np.float32)
    arrays, header = change({name: array for name, array in arrays.items() if name != "fc.weight"}, header)
    save_file(arrays, path, header)


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays, header: ({n: a for n, a in arrays.items() if n != "fc.weight:values"}, header),
        lambda arrays, header: (arrays | {"fc.weight:values": np.ones(95, np.float32)}, header),
        lambda arrays, header: (arrays | {"fc.weight:bits": np.zeros(3, np.uint8)}, header),
        lambda arrays, header: (arrays, {"jaxprune.packed": '{"shapes": {"fc.weight": [3, -32]}}'}),
        lambda arrays, header: (arrays, {"jaxprune.packed": '{"shapes": {"fc.weight": [1000000, 1000000]}}'}),
        lambda arrays, header: (arrays, {"jaxprune.packed": "[]"}),
        lambda arrays, header: (arrays, {"jaxprune.packed": "{"}),
    ],
)
def test_damaged_packed_files_are_named(sparse, tmp_path, change):
    params, stats, _ = sparse
    path = tmp_path / "damaged.safetensors"
    models.save_weights(path, params, stats)
    damage(path, change)
    for read in (export.load_packed, models.load_weights):
        with pytest.raises(UserError, match=r"damaged\.safetensors") as caught:
            read(path, params, stats)
        assert "\n" not in str(caught.value)


def test_other_files_are_not_coordinates(sparse, tmp_path):
    params, stats, _ = sparse
    models.save_weights(tmp_path / "dense.safetensors", params, stats)
    with pytest.raises(UserError, match=r"is not one of save_bcoo \(it has no jaxprune\.bcoo\)"):
        export.load_bcoo(tmp_path / "dense.safetensors")
    with pytest.raises(UserError, match=r"none\.safetensors cannot be read"):
        export.load_bcoo(tmp_path / "none.safetensors")
    layout = {"jaxprune.bcoo": '{"shapes": {"w": [2, 2]}}'}
    save_file({"w:positions": np.array([1, 9]), "w:values": np.ones(2)}, tmp_path / "far.safetensors", layout)
    with pytest.raises(UserError, match=r"outside of \[2, 2\]"):
        export.load_bcoo(tmp_path / "far.safetensors")
