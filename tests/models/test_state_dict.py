"""State dicts: read without running them, mapped to our networks, and the logits of torchvision."""

import pickle
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from jaxprune import models
from jaxprune.errors import UserError
from jaxprune.models.layers import Dropout
from jaxprune.models.state_dict import read_state_dict, write_state_dict

SAMPLE = np.zeros((8, 8, 1), np.float32)


def network(classes=3, **options):
    """A ResNet-20 of four channels, with drawn parameters and statistics."""
    built = models.build("resnet20", SAMPLE, classes, width=0.25, **options)
    shapes = jax.eval_shape(built.init, jax.random.key(0))
    rng = np.random.default_rng(classes)
    params, stats = jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), leaf.dtype), shapes)
    return built, params, stats


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_what_is_written_is_read_again(tmp_path):
    _, params, stats = network()
    path = tmp_path / "weights.safetensors"
    models.save_weights(path, params, stats)
    zeros = jax.tree.map(jnp.zeros_like, (params, stats))
    assert_equal(models.load_weights(path, *zeros), (params, stats))
    assert [p.name for p in tmp_path.iterdir()] == ["weights.safetensors"]


def test_names_and_layouts_are_those_of_pytorch():
    _, params, stats = network()
    entries = models.to_state_dict(params, stats)
    kernel = params["layer1"]["0"]["conv1"]["kernel"]
    assert entries["layer1.0.conv1.weight"].shape == (4, 4, 3, 3)
    np.testing.assert_array_equal(entries["layer1.0.conv1.weight"][1, 2], kernel[:, :, 2, 1])
    np.testing.assert_array_equal(entries["fc.weight"], params["fc"]["kernel"].T)
    np.testing.assert_array_equal(entries["bn1.weight"], params["bn1"]["scale"])
    np.testing.assert_array_equal(entries["bn1.running_var"], stats["bn1"]["var"])


def test_a_new_head_keeps_the_body_and_its_own_last_layer():
    _, params, stats = network(3)
    _, fresh, _ = network(5)
    entries = models.to_state_dict(params, stats)
    found, moments = models.from_state_dict(entries, fresh, stats, new_head=True)
    assert_equal(found["fc"], fresh["fc"])
    assert_equal({k: v for k, v in found.items() if k != "fc"}, {k: v for k, v in params.items() if k != "fc"})
    assert_equal(moments, stats)


def without(entries):
    del entries["layer2.1.bn2.running_mean"]


def surplus(entries):
    entries["layer9.conv.weight"] = np.zeros(3)


def misshapen(entries):
    entries["conv1.weight"] = np.zeros((4, 3, 7, 7))


def renamed(entries):
    entries["linear.weight"] = entries.pop("fc.weight")


def broken(entries):
    entries["fc.bias"] = entries["fc.bias"] * np.nan


@pytest.mark.parametrize(
    ("spoil", "new_head", "said"),
    [
        (without, False, ["model.weights", "x.pt", "lacks layer2.1.bn2.running_mean"]),
        (surplus, False, ["has layer9.conv.weight", "the network lacks"]),
        (misshapen, False, ["conv1.weight [4, 3, 7, 7] for [4, 1, 3, 3]", "width and stem", "new_head"]),
        (renamed, False, ["lacks fc.weight"]),
        (broken, False, ["NaN", "fc.bias"]),
        (lambda entries: None, True, ["model.new_head", "fits as it is"]),
        (without, True, ["fits as it is"]),
    ],
)
def test_a_state_dict_that_does_not_fit_is_an_error_that_names_the_entry(spoil, new_head, said):
    _, params, stats = network()
    entries = dict(models.to_state_dict(params, stats))
    spoil(entries)
    with pytest.raises(UserError) as error:
        models.from_state_dict(entries, params, stats, new_head=new_head, where="x.pt")
    assert "\n" not in str(error.value)
    for words in said:
        assert words in str(error.value)


def test_a_new_head_does_not_hide_another_misfit():
    _, params, stats = network(3)
    _, fresh, _ = network(5)
    entries = dict(models.to_state_dict(params, stats))
    misshapen(entries)
    with pytest.raises(UserError, match=r"conv1, fc .* differ in shape"):
        models.from_state_dict(entries, fresh, stats, new_head=True)


# --- files ---------------------------------------------------------------------------------------------------------


class Evil:
    def __reduce__(self):
        return print, ("run",)


def zipped(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(content))
    return path


def test_nothing_in_a_file_is_run(tmp_path, capsys):
    with pytest.raises(UserError, match=r"would run builtins.print, which is refused"):
        read_state_dict(zipped(tmp_path / "evil.pt", {"a": Evil()}))
    (tmp_path / "old.pth").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match="refused"):
        read_state_dict(tmp_path / "old.pth")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 cut off", pickle.dumps({"a": 1})])
@pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
def test_a_file_that_is_no_state_dict_is_an_error(content, name, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=r"model\.weights: ") as error:
        read_state_dict(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_another_kind_of_object_are_errors(tmp_path):
    with pytest.raises(UserError, match="there is no file"):
        read_state_dict(tmp_path / "none.pt")
    with pytest.raises(UserError, match="something else than a state dict"):
        read_state_dict(zipped(tmp_path / "list.pt", [1, 2]))
    with pytest.raises(UserError, match=r"weights\.safetensors"):
        write_state_dict(tmp_path / "weights.pt", {})


def test_files_of_pytorch_in_both_forms_are_read(tmp_path):
    torch = pytest.importorskip("torch")
    base = torch.arange(24.0).reshape(4, 6)
    entries = {
        "view": base.T[1:4, ::2],  # with strides and an offset
        "half": torch.ones(3, dtype=torch.float16),
        "brain": torch.full((2,), 1.5, dtype=torch.bfloat16),
        "count": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    for modern in (True, False):
        torch.save({"state_dict": {f"module.{k}": v for k, v in entries.items()}}, tmp_path / "x.pt",
                   _use_new_zipfile_serialization=modern)  # fmt: skip
        found = read_state_dict(tmp_path / "x.pt")
        assert set(found) == set(entries)
        for name, value in entries.items():
            np.testing.assert_array_equal(found[name].astype(np.float64), value.detach().to(torch.float64).numpy())


def test_safetensors_are_read_as_they_are(tmp_path):
    save_file({"a": np.arange(6.0).reshape(2, 3)}, tmp_path / "x.safetensors")
    np.testing.assert_array_equal(read_state_dict(tmp_path / "x.safetensors")["a"], np.arange(6.0).reshape(2, 3))


def randomised(module):
    """With running moments that are not those of the start, which would hide a wrong order; logits of order 1."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(2, 6)
            part.weight.data.uniform_(0.5, 1.5)
            part.bias.data.normal_(0, 0.1)
    return module.eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ours", "theirs", "size"),
    [
        ("resnet18", "resnet18", (64, 64)),
        ("resnet34", "resnet34", (65, 71)),
        ("resnet50", "resnet50", (96, 64)),
        ("vgg19", "vgg19_bn", (160, 128)),
        ("mobilenet_v2", "mobilenet_v2", (64, 96)),
    ],
)
def test_logits_are_those_of_torchvision(ours, theirs, size, tmp_path):
    torch = pytest.importorskip("torch")
    torchvision = pytest.importorskip("torchvision", exc_type=(ImportError, RuntimeError))
    reference = randomised(getattr(torchvision.models, theirs)(num_classes=11))
    torch.save(reference.state_dict(), tmp_path / "x.pt")
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    built = models.build(ours, x[0], 11)
    params, stats = models.load_weights(tmp_path / "x.pt", *jax.eval_shape(built.init, jax.random.key(0)))
    logits = jax.jit(built.freeze(stats))(params, x)
    expected = reference(torch.tensor(x).permute(0, 3, 1, 2)).detach().numpy()
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(logits, expected, atol=1e-4)

    models.save_weights(tmp_path / "back.safetensors", params, stats)
    back = {name: torch.tensor(value) for name, value in load_file(tmp_path / "back.safetensors").items()}
    again = getattr(torchvision.models, theirs)(num_classes=11).eval()
    again.load_state_dict(back, strict=False)
    np.testing.assert_array_equal(again(torch.tensor(x).permute(0, 3, 1, 2)).detach().numpy(), expected)


def test_generators_are_not_weights(tmp_path):
    """The state of dropout belongs to the run: it is neither written nor asked for, whatever it is called."""

    class Network(nnx.Module):
        def __init__(self, rngs):
            self.state = nnx.Linear(3, 2, rngs=rngs)  # a name that the state of a generator may have too
            self.ours, self.theirs = Dropout(0.5, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            return self.theirs(self.ours(self.state(x)))

    _, params, stats = models.from_nnx(Network(nnx.Rngs(0)))
    assert set(models.to_state_dict(params, stats)) == {"state.weight", "state.bias"}
    models.save_weights(tmp_path / "x.safetensors", params, stats)
    found, kept = models.load_weights(tmp_path / "x.safetensors", jax.tree.map(jnp.zeros_like, params), stats)
    assert_equal(found, params)
    assert kept["ours"]["state"] is stats["ours"]["state"]


def test_the_digest_follows_every_kind_of_entry():
    entries = {"a": np.ones((2, 3), np.float32).T, "b": np.ones(2, jnp.bfloat16)}
    assert models.digest(entries) == models.digest(dict(reversed(entries.items())))
    for other in (entries | {"b": np.zeros(2, jnp.bfloat16)}, {"c": entries["a"], "b": entries["b"]}):
        assert models.digest(other) != models.digest(entries)
