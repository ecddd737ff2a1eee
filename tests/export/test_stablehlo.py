"""Programs of `jax.export`: they run without jaxprune, for any number of examples, on three platforms."""

import json
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune import export, models
from jaxprune.errors import UserError
from jaxprune.networks import Network

pytestmark = pytest.mark.slow  # in every run of CI

pytest.importorskip("flatbuffers")

ALONE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("jaxprune", "flax"):
            raise ImportError(name)

sys.meta_path.insert(0, Blocked())
import numpy as np
from jax import export

program = export.deserialize(open("network.stablehlo", "rb").read())
x = np.load("x.npy")
np.save("y.npy", np.concatenate([program.call(x[:2]), program.call(x[2:])]))
assert not {"jaxprune", "flax"} & sys.modules.keys()
"""


def drawn(name, shape, classes=4, **options):
    """A network with drawn parameters and statistics."""
    built = models.build(name, np.zeros(shape), classes, **options)
    rng = np.random.default_rng(5)
    shapes = jax.eval_shape(built.init, jax.random.key(0))
    draw = lambda leaf: jnp.asarray(rng.uniform(-0.3, 0.5, leaf.shape), leaf.dtype)  # noqa: E731
    params, stats = jax.tree.map(draw, shapes)
    return built, params, jax.tree.map(jnp.abs, stats)


def custom_calls(exported):
    return set(re.findall(r"custom_call @(\w+)", exported.mlir_module()))


@pytest.mark.versions
def test_a_program_runs_where_jaxprune_is_not(tmp_path):
    """The convolutions included, which on this machine may be native code."""
    network, params, stats = drawn("resnet20", (8, 8, 1), width=0.25)
    x = np.random.default_rng(0).normal(size=(7, 8, 8, 1)).astype(np.float32)
    expected = jax.jit(network.freeze(stats))(params, x)  # first, so that all that jax keeps is of native code
    exported = export.to_stablehlo(network, params, stats, sample=x[0])
    export.save_stablehlo(tmp_path / "network.stablehlo", exported, {"seed": 2})
    np.save(tmp_path / "x.npy", x)
    command = [sys.executable, "-c", ALONE]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, rtol=1e-5, atol=1e-5)
    description = export.read_description(tmp_path / "network.stablehlo")
    assert description["inputs"] == [{"shape": ["batch", 8, 8, 1], "dtype": "float32"}]
    assert description["outputs"] == [{"shape": ["batch", 4], "dtype": "float32"}]
    assert (description["platforms"], description["seed"]) == (list(export.PLATFORMS), 2)
    assert description["jax"] == jax.__version__
    assert {path.suffix for path in tmp_path.iterdir()} == {".stablehlo", ".json", ".npy"}


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("mlp", (6,), {"hidden": [8]}),
        ("convnet", (8, 8, 1), {"channels": [4, 4], "hidden": [8]}),
        pytest.param("resnet18", (16, 16, 3), {"width": 0.0625, "norm": "group"}, marks=pytest.mark.slow),
        ("vgg19", (32, 32, 3), {"width": 0.0625}),
        pytest.param("mobilenet_v2", (32, 32, 3), {"width": 0.125}, marks=pytest.mark.long),
        ("vit", (8, 8, 1), {"patch": 4, "features": 8, "depth": 1, "heads": 2}),
    ],
)
def test_every_family_is_lowered_for_any_number_and_every_platform(name, shape, options):
    network, params, stats = drawn(name, shape, **options)
    exported = export.to_stablehlo(network, params, stats, sample=np.zeros(shape, np.float32))
    assert exported.platforms == export.PLATFORMS
    assert str(exported.in_avals[0].shape[0]) == "batch"
    assert custom_calls(exported) <= {"shape_assertion"}  # that the batch has an example; resolved by jax
    x = np.random.default_rng(1).normal(size=(3, *shape)).astype(np.float32)
    y = network.freeze(stats)(params, x)
    np.testing.assert_allclose(exported.call(x), y, rtol=2e-4, atol=2e-4 * float(jnp.abs(y).max()))


def test_a_program_for_one_size_has_no_custom_call_at_all():
    network, params, stats = drawn("resnet20", (8, 8, 1), width=0.25)
    exported = export.to_stablehlo(network, params, stats, sample=np.zeros((8, 8, 1), np.float32), batch=5)
    assert exported.in_avals[0].shape == (5, 8, 8, 1)
    assert custom_calls(exported) == set()
    assert "stablehlo.convolution" in exported.mlir_module()
    with pytest.raises(ValueError, match=r"[Ss]hape"):
        exported.call(np.zeros((4, 8, 8, 1), np.float32))


def test_images_of_bytes_are_normalised_inside():
    network, params, stats = drawn("convnet", (8, 8, 1), channels=[4], hidden=[8])
    after = network.after(lambda x: (x.astype(jnp.float32) - 30) / 50)
    exported = export.to_stablehlo(after, params, stats, sample=np.zeros((8, 8, 1), np.uint8))
    x = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 1), np.uint8)
    assert exported.in_avals[0].dtype == np.uint8
    np.testing.assert_allclose(
        exported.call(x), network.freeze(stats)(params, (x.astype(np.float32) - 30) / 50), rtol=1e-4, atol=1e-4
    )


def test_a_function_that_needs_numbers_is_lowered_for_one_example_aloud():
    told = []

    def apply(params, x):
        return jnp.stack([row @ params for row in x])  # as many steps as there are examples

    exported = export.to_stablehlo(apply, jnp.ones((3, 2)), sample=np.zeros(3, np.float32), warn=told.append)
    assert exported.in_avals[0].shape == (1, 3)
    assert len(told) == 1
    assert told[0].startswith("the network cannot be lowered for any number of examples (")
    assert told[0].endswith("; a call takes 1")
    told.clear()
    exported = export.to_stablehlo(apply, jnp.ones((3, 2)), sample=np.zeros(3, np.float32), batch=4, warn=told.append)
    np.testing.assert_allclose(exported.call(np.ones((4, 3), np.float32)), np.full((4, 2), 3))
    assert told == []


def test_platforms_that_fail_are_left_out_aloud():
    def apply(params, x):
        kernel = jax.ffi.ffi_call("mine", jax.ShapeDtypeStruct(x.shape, x.dtype))
        return jax.lax.platform_dependent(x, cpu=lambda x: x * params, default=kernel)

    told = []
    exported = export.to_stablehlo(apply, jnp.ones(3), sample=np.zeros(3, np.float32), warn=told.append)
    assert exported.platforms == ("cpu",)
    assert any("cannot be lowered for cuda, tpu (" in line and line.endswith("; left out") for line in told)


def test_what_cannot_be_lowered_is_one_line(tmp_path):
    def broken(params, x):
        raise RuntimeError("no\nsuch thing")

    with pytest.raises(UserError, match=r"network: it cannot be lowered for cpu, cuda, tpu \(RuntimeError: no such"):
        export.to_stablehlo(broken, {}, sample=np.zeros(3))
    with pytest.raises(UserError, match="batch: 0 examples are none"):
        export.to_stablehlo(broken, {}, sample=np.zeros(3), batch=0)
    with pytest.raises(UserError, match=r"none\.stablehlo\.json cannot be read"):
        export.read_description(tmp_path / "none.stablehlo")


def test_a_missing_package_is_named_and_nothing_is_written(tmp_path):
    class Unserialisable:
        def serialize(self):
            raise ImportError("flatbuffers")

    with pytest.raises(UserError, match=r"stablehlo needs the package flatbuffers, .*; pip install flatbuffers"):
        export.save_stablehlo(tmp_path / "f.stablehlo", Unserialisable())
    assert list(tmp_path.iterdir()) == []


def test_statistics_are_frozen():
    """BatchNorm's moments are those of training, whatever the batch."""
    network = Network(None, lambda params, stats, x, train: ((x - stats) * params, stats + 1))
    exported = export.to_stablehlo(network, jnp.full(2, 3.0), jnp.full(2, 5.0), sample=np.zeros(2, np.float32))
    np.testing.assert_allclose(exported.call(np.full((4, 2), 7, np.float32)), np.full((4, 2), 6))


def test_the_description_is_json_of_plain_values(tmp_path):
    exported = export.to_stablehlo(lambda p, x: x @ p, jnp.ones((2, 2)), sample=np.zeros(2, np.float32), batch=3)
    export.save_stablehlo(tmp_path / "f.stablehlo", exported)
    written = json.loads((tmp_path / "f.stablehlo.json").read_text())
    assert written["inputs"] == [{"shape": [3, 2], "dtype": "float32"}]


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("mlp", (6,), {"hidden": [8]}),
        ("convnet", (8, 8, 1), {"channels": [4], "hidden": [8]}),
        ("resnet20", (8, 8, 1), {"width": 0.25}),
        ("vit", (8, 8, 1), {"patch": 4, "features": 8, "depth": 1, "heads": 2}),
    ],
)
def test_a_batch_for_one_example_is_refused(name, shape, options):
    network, params, stats = drawn(name, shape, **options)
    with pytest.raises(UserError) as caught:
        export.to_stablehlo(network, params, stats, sample=np.zeros((16, *shape), np.float32))
    batch = [16, *shape]
    assert str(caught.value) == (
        f"sample: {batch} is a batch of examples {list(shape)}; give one of them, such as sample[0]"
    )


def test_a_batch_for_a_function_that_maps_any_axes_is_refused():
    """Its products take further axes without a fault, and would give logits [B, 8, 3]."""

    def apply(params, x):
        return jnp.maximum(x @ params["a"], 0) @ params["b"]

    params = {"a": jnp.ones((16, 4)), "b": jnp.ones((4, 3))}
    with pytest.raises(UserError, match=r"sample: \[8, 16\] is a batch of examples \[16\]; give one"):
        export.to_stablehlo(apply, params, sample=np.zeros((8, 16), np.float32))
    exported = export.to_stablehlo(apply, params, sample=np.zeros(16, np.float32))
    np.testing.assert_allclose(exported.call(np.ones((2, 16), np.float32)), np.full((2, 3), 64))


def test_a_batch_of_one_that_fits_both_ways_is_told():
    network, params, stats = drawn("mlp", (6,), hidden=[8])  # it flattens, so that [1, 6] is an example as well
    told = []
    export.to_stablehlo(
        network, params, stats, sample=np.zeros((1, 6), np.float32), platforms=["cpu"], warn=told.append
    )
    assert told == [
        "sample: examples of [1, 6] and of [6] fit the network, and the program takes the former; "
        "if the sample is a batch of one, give sample[0]"
    ]


def test_logits_of_other_forms_are_left_alone():
    def apply(params, x):
        return x * params  # [B, 4, 5], and only for examples of that shape

    exported = export.to_stablehlo(apply, jnp.full((4, 5), 2.0), sample=np.zeros((4, 5), np.float32), batch=2)
    assert exported.out_avals[0].shape == (2, 4, 5)
