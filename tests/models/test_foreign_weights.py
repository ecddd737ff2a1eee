"""Checkpoints in every wrapping that people have, and what torch leaves beside the weights."""

import importlib

import jax
import ml_dtypes
import numpy as np
import pytest
from torch_format import Call, Name, write_torch

from jaxprune import models
from jaxprune.errors import UserError

SAMPLE = np.zeros((8, 8, 3), np.float32)


def drawn(sample=SAMPLE, classes=3, seed=0):
    """A small network of two convolutions, and its state dict of drawn numbers."""
    built = models.build("convnet", sample, classes, channels=(2, 3), hidden=(4,))
    params, stats = jax.eval_shape(built.init, jax.random.key(0))
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), params)
    return params, stats, models.to_state_dict(params, stats)


PARAMS, STATS, ENTRIES = drawn()
OTHERS = drawn(seed=1)[2]
ADAM = {"state": {0: {"exp_avg": ENTRIES["conv_0.weight"], "step": 3}}, "param_groups": [{"lr": 0.1, "params": [0]}]}


def named(prefix, entries):
    return {prefix + name: value for name, value in entries.items()}


def load(path, params=PARAMS, stats=STATS, **options):
    return models.load_weights(path, params, stats, **options)[0]


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def module(entries):
    """A pickled torch.nn.Module: modules of modules, whose parameters are in their attributes."""
    tree = {}
    for name, value in entries.items():
        *way, last = name.split(".")
        inner = tree
        for key in way:
            inner = inner.setdefault(key, {})
        inner[last] = value

    def built(part):
        leaves = {key: value for key, value in part.items() if not isinstance(value, dict)}
        inner = {key: built(value) for key, value in part.items() if isinstance(value, dict)}
        return Call(Name("train", "Net"), (), {"training": True, "_parameters": leaves, "_modules": inner})

    return built(tree)


WRAPPINGS = {
    "plain": ENTRIES,
    "data parallel": named("module.", ENTRIES),
    "compiled": named("_orig_mod.", ENTRIES),
    "of Lightning": {"state_dict": named("model.", ENTRIES), "optimizer_states": [ADAM], "epoch": 3},
    "both, with an optimiser": {"net": named("module._orig_mod.", ENTRIES), "optimizer": ADAM},
    "nested deep": {"a": {"b": [1, {"c": {"d": ENTRIES}}]}, "acc": 0.9},
    "a part of a larger network": {**named("backbone.", ENTRIES), "projector.0.weight": np.ones((2, 2), np.float32)},
    "a list": [ADAM, named("encoder.", ENTRIES)],
    "a whole module": module(ENTRIES),
    "a whole module in a dict": {"model": module(ENTRIES), "optimizer": ADAM},
    "averaged beside": {"state_dict_ema": OTHERS, "state_dict": ENTRIES},
    "averaged inside": {"state_dict": {**named("ema_model.module.", OTHERS), **named("model.", ENTRIES)}},
    "averaged alone": {"ema": ENTRIES, "updates": 5},
    "the best and the last": {"best": OTHERS, "model": ENTRIES},
    "twice the same": {"student": ENTRIES, "teacher": ENTRIES},
    "a teacher of another size": {"teacher": {**OTHERS, "conv_2.weight": np.ones(2, np.float32)}, "student": ENTRIES},
    "a teacher of other shapes": {"teacher": drawn(classes=7)[2], "student": ENTRIES},
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "older form"])
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_the_network_is_found_in_every_wrapping(wrapping, legacy, tmp_path):
    assert_equal(load(write_torch(tmp_path / "x.pt", WRAPPINGS[wrapping], legacy=legacy)), PARAMS)


@pytest.mark.parametrize("key", [*"abc", "model_state_dict", "params", "weights", "module", "state_dict_ema"])
def test_any_key_will_do(key, tmp_path):
    assert_equal(load(write_torch(tmp_path / "x.pt", {key: ENTRIES, "epoch": 3})), PARAMS)


def test_two_networks_that_differ_are_an_error_that_lists_them(tmp_path):
    content = {"encoder_q": ENTRIES, "encoder_k": OTHERS}
    with pytest.raises(UserError, match=r"2 times with different values, under encoder_k, encoder_q; save the one"):
        load(write_torch(tmp_path / "x.pt", content))


@pytest.mark.parametrize(
    "beside",
    [
        Call(Name("argparse", "Namespace"), (), {"lr": 0.1}),
        Call(Name("numpy._core.multiarray", "scalar"), (Call(Name("numpy", "dtype"), ("f8", False, True)), "x")),
        Call(Name("collections", "defaultdict"), (Name("builtins", "list"),)),
        Name("torch", "float32"),
        Call(Name("torch", "device"), ("cpu",)),
        Call(Name("torch", "Size"), ((1, 2),)),
        Call(Name("__builtin__", "set"), (["a"],)),
        Call(Name("os", "system"), ("echo run",)),
        {(1, 2): 3, None: {1.5: "x"}},
    ],
    ids=lambda value: getattr(getattr(value, "name", None), "name", "keys"),
)
def test_other_objects_are_passed_over_and_never_run(beside, tmp_path, capfd):
    assert_equal(load(write_torch(tmp_path / "x.pt", {"model": ENTRIES, "beside": beside})), PARAMS)
    assert capfd.readouterr().out == ""


def split(name, **parts):
    """The state dict with one entry in parts, `_` for the dots in their names."""
    entries = {key: value for key, value in ENTRIES.items() if key != name}
    layer, _, kind = name.rpartition(".")
    return entries | {part.format(layer=layer, kind=kind): value for part, value in parts.items()}


def test_pruned_weights_are_the_product_with_their_mask(tmp_path):
    kernel = ENTRIES["conv_1.weight"]
    mask = (np.abs(kernel) > np.median(np.abs(kernel))).astype(np.float32)
    expected = models.from_state_dict({**ENTRIES, "conv_1.weight": kernel * mask}, PARAMS, STATS)[0]
    for original, kept in (
        ("{layer}.{kind}_orig", "{layer}.{kind}_mask"),
        ("{layer}.parametrizations.{kind}.original", "{layer}.parametrizations.{kind}.0.mask"),
    ):
        for stored in (mask, mask.astype(bool)):
            content = split("conv_1.weight", **{original: kernel, kept: stored})
            assert_equal(load(write_torch(tmp_path / "x.pt", {"model": named("module.", content)})), expected)
    assert 0 < mask.mean() < 1


def test_a_mask_of_another_shape_is_an_error(tmp_path):
    content = split(
        "conv_1.weight",
        **{"{layer}.{kind}_orig": ENTRIES["conv_1.weight"], "{layer}.{kind}_mask": np.ones(2, np.float32)},
    )
    with pytest.raises(UserError, match=r"mask of float32 \[2\] for conv_1.weight \[3, 2, 3, 3\]"):
        load(write_torch(tmp_path / "x.pt", content))


@pytest.mark.parametrize(
    "parts",
    [
        ["{layer}.{kind}_g", "{layer}.{kind}_v"],
        ["{layer}.{kind}_orig", "{layer}.{kind}_u"],
        ["{layer}.parametrizations.{kind}.original0", "{layer}.parametrizations.{kind}.original1"],
    ],
)
def test_weights_that_torch_computes_from_others_are_refused_with_the_remedy(parts, tmp_path):
    content = split("conv_0.weight", **{part: np.ones(2, np.float32) for part in parts})
    with pytest.raises(UserError, match=r"holds conv_0.weight in parts .*remove_parametrizations"):
        load(write_torch(tmp_path / "x.pt", content))


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_weights_of_other_widths_become_float32(dtype, tmp_path):
    content = {name: value.astype(dtype) for name, value in ENTRIES.items()}
    params = load(write_torch(tmp_path / "x.pt", content))
    assert_equal(params, jax.tree.map(lambda leaf: leaf.astype(dtype).astype(np.float32), PARAMS))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}


def test_weights_beyond_float32_are_refused(tmp_path):
    content = {**ENTRIES, "conv_0.bias": np.full(2, 1e300)}
    with pytest.raises(UserError, match=r"NaN or infinite values in conv_0\.bias"):
        load(write_torch(tmp_path / "x.pt", content))


@pytest.mark.parametrize("dtype", ["int8", "int64", "bool", "complex64", "uint8"])
def test_weights_that_are_no_fractions_are_refused_by_name(dtype, tmp_path):
    content = {**ENTRIES, "conv_0.bias": ENTRIES["conv_0.bias"].astype(dtype)}
    with pytest.raises(UserError, match=rf"has {dtype} values in conv_0\.bias; save floating-point weights"):
        load(write_torch(tmp_path / "x.pt", content))
    counters = {**ENTRIES, "conv_0.num_batches_tracked": np.array(7)}
    assert_equal(load(write_torch(tmp_path / "x.pt", counters)), PARAMS)


def test_a_network_for_features_alone_is_given_a_new_head(tmp_path):
    body = {name: value for name, value in ENTRIES.items() if not name.startswith("head.dense_1.")}
    path = write_torch(tmp_path / "x.pt", {"state_dict": named("backbone.", body)})
    params = load(path, drawn(seed=2)[0], new_head=True)
    assert_equal(params["head"]["dense_1"], drawn(seed=2)[0]["head"]["dense_1"])
    assert_equal(params["head"]["dense_0"], PARAMS["head"]["dense_0"])
    with pytest.raises(UserError, match=r"x\.pt, under backbone, lacks head\.dense_1\.bias, head\.dense_1\.weight;"):
        load(path)


def test_what_is_under_the_prefix_and_not_in_the_network_is_listed(tmp_path):
    content = {**ENTRIES, "aux.weight": np.ones((2, 2), np.float32), "aux.bias": np.ones(2, np.float32)}
    with pytest.raises(UserError, match=r"has aux\.bias, aux\.weight, which the network lacks"):
        load(write_torch(tmp_path / "x.pt", {"net": named("module.", content)}))


def test_the_digest_is_of_the_entries_of_the_network():
    plain = models.digest(models.select_entries(ENTRIES, PARAMS, STATS))
    wrapped = {**named("state_dict.module.", ENTRIES), "optimizer.state.0.exp_avg": np.ones(3)}
    assert plain == models.digest(ENTRIES) == models.digest(models.select_entries(wrapped, PARAMS, STATS))


def torch_network(torch):
    """The network in PyTorch, with the same numbers."""
    inner = torch.nn.ModuleDict({"dense_0": torch.nn.Linear(12, 4), "dense_1": torch.nn.Linear(4, 3)})
    parts = {"conv_0": torch.nn.Conv2d(3, 2, 3), "conv_1": torch.nn.Conv2d(2, 3, 3), "head": inner}
    network = torch.nn.ModuleDict(parts)
    network.load_state_dict({name: torch.tensor(np.array(value)) for name, value in ENTRIES.items()})
    return network


def pruned(torch, network):
    prune = importlib.import_module("torch.nn.utils.prune")
    for part in PRUNED:
        prune.l1_unstructured(network.get_submodule(part), "weight", 0.5)
    return network


def averaged(torch, network):
    copy = torch.optim.swa_utils.AveragedModel(network)
    for weight in network.parameters():
        weight.data.mul_(2)
    return copy


PRUNED = ("conv_0", "head.dense_1")
OF_TORCH = {
    "a state dict": lambda torch, network: network.state_dict(),
    "a module": lambda torch, network: network,
    "a module in parallel": lambda torch, network: {"net": torch.nn.DataParallel(network), "best": np.float64(0.9)},
    "pruned": lambda torch, network: pruned(torch, network).state_dict(),
    "a pruned module": pruned,
    "an average": lambda torch, network: averaged(torch, network).state_dict(),
    "the best average": lambda torch, network: {"model": network, "ema": averaged(torch, network)},
    "an optimiser": lambda torch, network: [torch.optim.Adam(network.parameters()), network.state_dict()],
    "transposed": lambda torch, network: (
        {k: v.mT.contiguous().mT for k, v in network.state_dict().items() if v.ndim > 1}
        | {k: v for k, v in network.state_dict().items() if v.ndim < 2}
    ),
}


@pytest.mark.parametrize("modern", [True, False], ids=["zip", "older form"])
@pytest.mark.parametrize("form", OF_TORCH)
def test_what_torch_itself_writes_is_read(form, modern, tmp_path):
    torch = pytest.importorskip("torch")
    network = torch_network(torch)
    torch.save(OF_TORCH[form](torch, network), tmp_path / "x.pt", _use_new_zipfile_serialization=modern)
    expected = dict(ENTRIES)
    if "pruned" in form:
        expected |= {f"{part}.weight": network.get_submodule(part).weight.detach().numpy() for part in PRUNED}
    if "best" in form:
        expected = {name: 2 * value for name, value in ENTRIES.items()}
    assert_equal(load(tmp_path / "x.pt"), models.from_state_dict(expected, PARAMS, STATS)[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_torch_compiles_is_read(tmp_path):
    torch = pytest.importorskip("torch")
    convolution = torch.nn.Conv2d(3, 2, 3, padding=1)
    torch.jit.script(torch.nn.Sequential(convolution)).save(tmp_path / "x.pt")
    params = {"kernel": np.zeros((3, 3, 3, 2), np.float32), "bias": np.zeros(2, np.float32)}
    found = load(tmp_path / "x.pt", params, {})
    np.testing.assert_array_equal(found["kernel"].transpose(3, 2, 0, 1), convolution.weight.detach().numpy())
