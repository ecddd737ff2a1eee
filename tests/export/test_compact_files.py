"""Compact networks in files: restored exactly, and read by PyTorch's modules of those widths."""

import json
import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxprune import export, models, pruning
from jaxprune.errors import UserError

pytestmark = pytest.mark.slow  # in every run of CI

SAMPLE = jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32)


def drawn(name="resnet18", width=0.0625, classes=5):
    """A network with drawn parameters and statistics, the moments of BatchNorm too."""
    built = models.build(name, np.zeros(SAMPLE.shape[1:]), classes, width=width)
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(built.init, jax.random.key(0))
    draw = lambda leaf: jnp.asarray(rng.uniform(-0.4, 0.6, leaf.shape), leaf.dtype)  # noqa: E731
    params, stats = jax.tree.map(draw, shapes)
    return built, params, jax.tree.map(lambda leaf: jnp.abs(leaf) + 0.5, stats)


@pytest.fixture(scope="module")
def made():
    """A ResNet-18 of which every coupling lost its channels 1, 4, 7, ..."""
    network, params, stats = drawn()
    found = pruning.couplings(network, params, stats, sample=SAMPLE)
    keep = {coupling.name: np.arange(coupling.size) % 3 != 1 for coupling in found}
    smaller = pruning.compact(network, params, stats, found.masks(keep, params), sample=SAMPLE, couplings=found)
    return network, params, stats, smaller


def logits(network, params, stats, x):
    return jax.jit(network.freeze(stats))(params, x)


def test_a_compact_network_is_restored_exactly(made, tmp_path):
    network, params, stats, smaller = made
    path = tmp_path / "compact.safetensors"
    export.save_compact(path, smaller, {"seed": 1})
    blank = jax.tree.map(jnp.ones_like, (params, stats))
    restored = export.load_compact(path, network, *blank, sample=SAMPLE)
    jax.tree.map(np.testing.assert_array_equal, restored.params, smaller.params)
    jax.tree.map(np.testing.assert_array_equal, restored.stats, smaller.stats)
    assert restored.kept.keys() == smaller.kept.keys()
    for name, indices in smaller.kept.items():
        np.testing.assert_array_equal(restored.kept[name], indices)
    x = np.random.default_rng(0).normal(size=SAMPLE.shape).astype(np.float32)
    np.testing.assert_array_equal(
        logits(restored.network, restored.params, restored.stats, x),
        logits(smaller.network, smaller.params, smaller.stats, x),
    )
    assert export.read_description(path)["seed"] == 1


def test_a_compact_file_has_smaller_arrays_under_torchvisions_names(made, tmp_path):
    _, params, _, smaller = made
    export.save_compact(tmp_path / "compact.safetensors", smaller)
    arrays = load_file(tmp_path / "compact.safetensors")
    assert arrays["layer1.0.conv1.weight"].shape == (3, 3, 3, 3)  # of 4 channels each
    assert arrays["layer4.1.bn2.running_var"].shape == (21,)  # 32 less 11
    assert arrays["fc.weight"].shape == (5, 21)
    assert sum(a.size for a in arrays.values()) < 0.5 * sum(leaf.size for leaf in jax.tree.leaves(params))
    whole = np.asarray(params["layer4"]["1"]["conv2"]["kernel"])
    kept = np.flatnonzero(np.arange(32) % 3 != 1)
    expected = whole[:, :, kept][..., kept].transpose(3, 2, 0, 1)
    np.testing.assert_array_equal(arrays["layer4.1.conv2.weight"], expected)


def test_pytorchs_modules_of_those_widths_take_the_file_strictly(made, tmp_path):
    """A ResNet-18 by hand, its widths read from the file, gives the logits of the masked network."""
    torch = pytest.importorskip("torch")
    from compact_resnet import ResNet18  # in tests/support; needs torch

    _, _, _, smaller = made
    export.save_compact(tmp_path / "compact.safetensors", smaller)
    entries = {name: torch.from_numpy(array) for name, array in load_file(tmp_path / "compact.safetensors").items()}
    module = ResNet18({name: tuple(array.shape) for name, array in entries.items()})
    module.load_state_dict(entries, strict=True)
    x = np.random.default_rng(2).normal(size=(3, 16, 16, 3)).astype(np.float32)
    with torch.no_grad():
        theirs = module.eval()(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    ours = logits(smaller.network, smaller.params, smaller.stats, x)
    np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


def test_a_compact_network_becomes_a_program_for_any_number_of_examples(made):
    pytest.importorskip("flatbuffers")
    _, _, _, smaller = made
    told = []
    sample = np.zeros(SAMPLE.shape[1:], np.float32)
    exported = export.to_stablehlo(smaller.network, smaller.params, smaller.stats, sample=sample, warn=told.append)
    assert told == []
    assert set(re.findall(r"custom_call @(\w+)", exported.mlir_module())) <= {"shape_assertion"}
    assert exported.platforms == export.PLATFORMS
    assert str(exported.in_avals[0].shape[0]) == "batch"
    x = np.random.default_rng(3).normal(size=SAMPLE.shape).astype(np.float32)
    expected = logits(smaller.network, smaller.params, smaller.stats, x)
    np.testing.assert_allclose(exported.call(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        lambda kept: {"couplings": {name: dict(each, channels=[3, 1]) for name, each in kept["couplings"].items()}},
        lambda kept: {"couplings": {name: dict(each, channels=[99]) for name, each in kept["couplings"].items()}},
        lambda kept: {"couplings": {name: dict(each, channels=[]) for name, each in kept["couplings"].items()}},
        lambda kept: {"couplings": []},
        lambda kept: [],
    ],
)
def test_damaged_headers_are_told(made, tmp_path, change):
    network, params, stats, smaller = made
    path = tmp_path / "compact.safetensors"
    export.save_compact(path, smaller)
    kept = {
        name: {"of": smaller.couplings.sizes[name], "channels": indices.tolist()}
        for name, indices in smaller.kept.items()
    }
    save_file(load_file(path), path, {"jaxprune.kept": json.dumps(change({"version": 1, "couplings": kept}))})
    with pytest.raises(UserError, match=r"compact\.safetensors is no compact network, or is damaged"):
        export.load_compact(path, network, params, stats, sample=SAMPLE)


def test_other_networks_and_other_files_are_refused(made, tmp_path):
    network, params, stats, smaller = made
    export.save_compact(tmp_path / "compact.safetensors", smaller)
    wider = drawn(width=0.125)
    with pytest.raises(UserError, match=r"was made of a network with 4 channels .*, which this one has not"):
        export.load_compact(tmp_path / "compact.safetensors", *wider, sample=SAMPLE)
    models.save_weights(tmp_path / "dense.safetensors", params, stats)
    with pytest.raises(UserError, match="is no compact network"):
        export.load_compact(tmp_path / "dense.safetensors", network, params, stats, sample=SAMPLE)


@pytest.fixture(scope="module")
def further(made):
    """The compact network with its small weights at 0, and their masks."""
    *_, smaller = made
    masks = jax.tree.map(
        lambda leaf: jnp.abs(leaf) > 0.35 if leaf.ndim > 1 else jnp.ones(leaf.shape, bool), smaller.params
    )
    params = jax.tree.map(lambda leaf, mask: jnp.where(mask, leaf, 0), smaller.params, masks)
    return replace(smaller, params=params), masks


@pytest.mark.parametrize("form", ["packed", "bcoo"])
def test_sparse_forms_of_a_compact_network_are_restored_exactly(made, further, tmp_path, form):
    network, params, stats, _ = made
    smaller, masks = further
    path, told = tmp_path / "compact.safetensors", []
    export.save_compact(path, smaller, {"seed": 1}, form=form, masks=masks, warn=told.append)
    restored = export.load_compact(path, network, params, stats, sample=SAMPLE)
    jax.tree.map(np.testing.assert_array_equal, restored.params, smaller.params)
    jax.tree.map(np.testing.assert_array_equal, restored.stats, smaller.stats)
    assert restored.kept.keys() == smaller.kept.keys()
    export.save_compact(tmp_path / "plain.safetensors", smaller, {"seed": 1})
    assert told == []
    assert path.stat().st_size < 0.8 * (tmp_path / "plain.safetensors").stat().st_size
    if form == "packed":
        assert_equal = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)  # noqa: E731
        assert_equal(export.load_packed(path, smaller.params, smaller.stats)[:2], (smaller.params, smaller.stats))
        with pytest.raises(UserError, match=r"is a compact network, .*; read it with export\.load_compact"):
            export.load_packed(path, params, stats)
    else:
        found = export.load_bcoo(path)["params/layer4/1/conv2/kernel"]
        np.testing.assert_array_equal(found.todense(), smaller.params["layer4"]["1"]["conv2"]["kernel"])


@pytest.mark.parametrize("form", ["packed", "bcoo"])
def test_a_sparse_form_that_saves_nothing_says_so(made, tmp_path, form):
    network, params, stats, smaller = made
    paths = [tmp_path / f"{name}.safetensors" for name in ("plain", form)]
    export.save_compact(paths[0], smaller)
    told = []
    export.save_compact(paths[1], smaller, form=form, warn=told.append)
    plain, sparse = (path.stat().st_size for path in paths)
    if sparse > plain:
        assert told == [
            f"{paths[1]} has {sparse:,} bytes, and would have {plain:,} as plain safetensors: "
            "there are too few zeros to leave out"
        ]
    else:
        assert told == []
    assert (sparse > plain) == (form == "bcoo")  # the header of its shapes; nothing is left out of packed ones
    restored = export.load_compact(paths[1], network, params, stats, sample=SAMPLE)
    jax.tree.map(np.testing.assert_array_equal, restored.params, smaller.params)


def test_the_description_has_the_channels_and_the_widths(made, tmp_path):
    *_, smaller = made
    export.save_compact(tmp_path / "compact.safetensors", smaller, {"seed": 1})
    found = export.read_description(tmp_path / "compact.safetensors")
    assert found["seed"] == 1
    assert found["compact"]["layer4/0/conv2/kernel[3]"] == {
        "of": 32, "kept": 21, "channels": [i for i in range(32) if i % 3 != 1],
    }  # fmt: skip
    assert found["compact"].keys() == smaller.kept.keys()


def test_readers_of_weights_say_what_reads_a_compact_network(made, tmp_path):
    _, params, stats, smaller = made
    export.save_compact(tmp_path / "compact.safetensors", smaller)
    with pytest.raises(UserError, match=r"compact\.safetensors is a compact network, .*3 of 4 .* kept") as caught:
        models.load_weights(tmp_path / "compact.safetensors", params, stats)
    assert "read it with export.load_compact, from the dense network" in str(caught.value)
    read = models.load_weights(tmp_path / "compact.safetensors", smaller.params, smaller.stats)  # of those widths
    jax.tree.map(np.testing.assert_array_equal, read[0], smaller.params)
    export.save_compact(tmp_path / "bcoo.safetensors", smaller, form="bcoo", warn=lambda line: None)
    with pytest.raises(UserError, match=r"bcoo\.safetensors is a compact network"):
        models.load_weights(tmp_path / "bcoo.safetensors", params, stats)
    export.save_bcoo(tmp_path / "dense.safetensors", params, stats, warn=lambda line: None)
    with pytest.raises(UserError, match=r"dense\.safetensors holds positions and values, .*export\.load_bcoo"):
        models.load_weights(tmp_path / "dense.safetensors", params, stats)
    with pytest.raises(UserError, match="unknown form 'onnx'; known: bcoo, packed, safetensors"):
        export.save_compact(tmp_path / "x.safetensors", smaller, form="onnx")


@pytest.mark.parametrize("form", ["safetensors", "packed", "bcoo"])
def test_networks_without_heads_are_restored(tmp_path, form):
    """From values to logits: a vision transformer that lost a head of two, written in each form."""
    x = np.random.default_rng(4).normal(size=(3, 8, 8, 1)).astype(np.float32)
    options = {"patch": 4, "features": 8, "depth": 1, "heads": 2}
    network, params, stats = models.create("vit", jax.random.key(0), x[0], num_classes=3, **options)
    found = pruning.couplings(network, params, stats, sample=x)
    heads = next(coupling for coupling in found if coupling.kind == "heads")
    masks = found.masks({heads.name: np.array([False, True])}, params)
    smaller = pruning.compact(network, params, stats, masks, sample=x, couplings=found)
    export.save_compact(tmp_path / "v.safetensors", smaller, form=form, warn=lambda line: None)
    blank = jax.tree.map(jnp.ones_like, params)
    restored = export.load_compact(tmp_path / "v.safetensors", network, blank, stats, sample=x)
    assert export.read_description(tmp_path / "v.safetensors")["compact"] == {
        heads.name: {"of": 2, "kept": 1, "channels": [1]}
    }
    masked = jax.tree.map(lambda leaf, mask: jnp.where(mask, leaf, 0), params, masks)
    expected = logits(network, masked, stats, x)
    assert not np.allclose(expected, logits(network, params, stats, x), atol=1e-3)
    found = logits(restored.network, restored.params, restored.stats, x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
