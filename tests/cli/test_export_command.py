"""`jaxprune export`: a network of a finished run in a file of its own, and refusals on one line."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxprune
from jaxprune import data, export, models
from jaxprune.cli import main
from jaxprune.components import EXPORT_FORMATS, STRUCTURES

pytestmark = pytest.mark.slow  # in every run of CI

CONFIG = """
name = "little"
seeds = 2
first_seed = 4
[data]
name = "digits"
[model]
hidden = [12]
[train]
epochs = 1
batch_size = 128
[prune]
sparsities = [0.5, 0.9]
[retrain]
epochs = 0
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The folder of a finished run of two seeds, 4 and 5."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "little.toml").write_text(CONFIG)
    assert main(["run", str(folder / "little.toml"), "--out", str(folder / "little"), "--quiet"]) == 0
    return folder / "little"


@pytest.fixture(scope="module")
def trees(run):
    """Params of the two seeds of the pruned networks."""
    return arrays_of(run, "pruned-magnitude-0.9-*")


def arrays_of(run, stage):
    """Params of all seeds of a stage, read with orbax alone."""
    import orbax.checkpoint as ocp

    folder = next((run / "stages").glob(stage)) / "network" / "arrays"
    arrays = {k: np.asarray(v) for k, v in ocp.StandardCheckpointer().restore(folder.absolute()).items()}
    return {name.removeprefix("params/"): array for name, array in arrays.items() if name.startswith("params/")}


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


@pytest.mark.versions
def test_the_weights_of_one_seed_are_those_of_the_run(run, trees, here, capsys) -> None:
    before = files(run)
    assert main(["export", str(run), "pruned", "0.9", "--seed", "5", "--out", "p.safetensors"]) == 0
    assert capsys.readouterr().out.startswith("pruned 0.9, seed 5: p.safetensors (")
    entries = models.read_state_dict("p.safetensors")
    np.testing.assert_array_equal(entries["dense_0.weight"], trees["dense_0/kernel"][1].T)
    description = export.read_description("p.safetensors")
    assert (description["network"], description["seed"], description["data"]) == ("pruned 0.9", 5, "digits")
    assert description["model"]["name"] == "mlp"
    assert description["gives"]["labels"] == [str(n) for n in range(10)]
    assert files(run) == before
    assert [path.name for path in here.iterdir()] == ["p.safetensors"]


@pytest.mark.parametrize("form", ["packed", "bcoo"])
def test_sparse_forms_hold_the_same_weights_in_fewer_bytes(run, trees, here, form) -> None:
    made = jaxprune.export_network(run, "pruned 0.9", here / "s.safetensors", format=form)
    assert made.size == (here / "s.safetensors").stat().st_size
    assert (made.network, made.seed) == ("pruned 0.9", 4)
    assert made.dense_size == sum(array[0].nbytes for array in trees.values())
    if form == "packed":
        found = models.read_state_dict("s.safetensors")["dense_0.weight"].T
    else:
        found = export.load_bcoo("s.safetensors")["params/dense_0/kernel"].todense()
    np.testing.assert_array_equal(found, trees["dense_0/kernel"][0])


def test_a_program_takes_the_images_as_they_are_in_the_data(run, trees, here) -> None:
    pytest.importorskip("flatbuffers")
    assert main(["export", str(run), "pruned", "0.9", "--format", "stablehlo", "--out", "p.stablehlo"]) == 0
    program = jax.export.deserialize(Path("p.stablehlo").read_bytes())
    digits = data.load("digits")
    x = np.reshape(digits.normalise(digits.test.x[:9]), (9, -1))
    hidden = np.maximum(x @ trees["dense_0/kernel"][0] + trees["dense_0/bias"][0], 0)
    logits = hidden @ trees["dense_1/kernel"][0] + trees["dense_1/bias"][0]
    np.testing.assert_allclose(program.call(digits.test.x[:9]), logits, rtol=1e-4, atol=1e-4)
    description = json.loads(Path("p.stablehlo.json").read_text())
    assert description["inputs"] == [{"shape": ["batch", 8, 8, 1], "dtype": "uint8"}]
    assert description["takes"]["shift"] == pytest.approx(digits.normalise.shift)
    assert main(["export", str(run), "dense", "--format", "stablehlo", "--batch", "3", "--out", "d.stablehlo"]) == 0
    assert json.loads(Path("d.stablehlo.json").read_text())["inputs"][0]["shape"] == [3, 8, 8, 1]


def test_the_networks_of_a_run_are_listed(run, here, capsys) -> None:
    assert main(["export", str(run)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "dense       Dense",
        "pruned 0.5  Pruned, not retrained",
        "pruned 0.9  Pruned, not retrained",
    ]
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("words", [["Pruned, not retrained", "0.9"], ["PRUNED,", "not", "Retrained", "90", "%"]])
def test_the_name_in_the_reports_tables_is_taken(run, trees, here, capsys, words) -> None:
    assert main(["export", str(run), *words, "--seed", "5", "--out", "p.safetensors"]) == 0
    assert capsys.readouterr().out.startswith("pruned 0.9, seed 5: p.safetensors (")
    found = models.read_state_dict("p.safetensors")["dense_0.weight"]
    np.testing.assert_array_equal(found, trees["dense_0/kernel"][1].T)


@pytest.fixture(scope="module")
def channels(run) -> Path:
    """The folder of a finished run of the same networks, pruned by channels."""
    if "channels" not in STRUCTURES:
        pytest.skip("needs the structure of channels")
    folder = run.parent / "channels"
    arguments = ["--prune.structure", "channels", "--prune.sparsities", "0.5", "--quiet"]
    assert main(["run", str(run.parent / "little.toml"), "--out", str(folder), *arguments]) == 0
    return folder


def test_networks_without_channels_are_written_compact(channels, here, capsys) -> None:
    """From weights to logits: each compact file, and the program, say what the masked network says."""
    pytest.importorskip("flatbuffers")
    forms = {"safetensors": "c.safetensors", "packed": "p.safetensors", "bcoo": "b.safetensors", "stablehlo": "c.hlo"}
    for form, name in forms.items():
        assert main(["export", str(channels), "pruned", "--seed", "5", "--format", form, "--out", name]) == 0
    printed = capsys.readouterr()
    digits = data.load("digits")
    raw, x = digits.test.x[:9], digits.normalise(digits.test.x[:9])
    network, params, stats = models.create("mlp", jax.random.key(0), x[0], num_classes=10, hidden=(12,))
    trained = arrays_of(channels, "pruned-*")
    params = {layer: {leaf: trained[f"{layer}/{leaf}"][1] for leaf in leaves} for layer, leaves in params.items()}
    expected = network.freeze(stats)(params, x)  # masked: pruned weights are 0
    for name in list(forms.values())[:3]:
        options = dict(export.read_description(name)["dense_model"])  # as docs/networks.md has it
        network, params, stats = models.create(options.pop("name"), jax.random.key(7), x[0], num_classes=10, **options)
        smaller = export.load_compact(name, network, params, stats, sample=x)
        logits = smaller.network.freeze(smaller.stats)(smaller.params, x)
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    program = jax.export.deserialize(Path("c.hlo").read_bytes())
    np.testing.assert_allclose(program.call(raw), expected, rtol=1e-4, atol=1e-5)

    alive = np.flatnonzero((trained["dense_0/kernel"][1] != 0).any(0))
    width = len(alive)
    assert 0 < width < 12
    for name in forms.values():
        description = export.read_description(name)
        kept = {"of": 12, "kept": width, "channels": alive.tolist()}
        assert description["compact"] == {"dense_0/kernel[1]": kept}
        assert description["dense_model"]["hidden"] == [12]
        assert "model" not in description
    parameters = (64 + 1) * width + (width + 1) * 10
    whole = (64 + 1) * 12 + 13 * 10
    for line, name in zip(printed.out.splitlines(), forms.values(), strict=True):
        size = Path(name).stat().st_size
        assert line == (
            f"pruned 0.5, seed 5: {name} (compact, {parameters:,} of {whole:,} parameters, {size:,} bytes; "
            f"{4 * whole:,} in the arrays of the dense network)"
        )
    sizes = {form: Path(name).stat().st_size for form, name in forms.items()}
    larger = [line for line in printed.err.splitlines() if "too few zeros to leave out" in line]
    assert len(larger) == sum(sizes[form] > sizes["safetensors"] for form in ("packed", "bcoo"))
    narrow, *like = models.create("mlp", jax.random.key(0), x[0], num_classes=10, hidden=(width,))
    read = models.load_weights("c.safetensors", *like)  # as a network of that width
    np.testing.assert_allclose(narrow.freeze(read[1])(read[0], x), expected, rtol=1e-4, atol=1e-5)


def test_a_compact_network_for_model_weights_is_one_line(channels, here, capsys) -> None:
    assert main(["export", str(channels), "pruned", "--out", "c.safetensors"]) == 0
    capsys.readouterr()
    arguments = ["--data.name", "digits", "--model.hidden", "12", "--model.weights", "c.safetensors", "--quiet"]
    assert main(["train", *arguments, "--out", "again"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "c.safetensors is a compact network, whose pruned channels are cut out (" in told
    assert "of 12 dense_0/kernel[1] kept); read it with export.load_compact" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN", "--out", "x.safetensors"], "network: none is named; give one of: dense, pruned 0.5, pruned 0.9"),
        (["RUN", "prune", "0.9", "--out", "x.safetensors"], "unknown network 'prune 0.9'; did you mean 'pruned 0.9'"),
        (["RUN", "pruned", "--out", "x.safetensors"], "pruned is not one network; give one of: pruned 0.5, pruned 0.9"),
        (["RUN", "dense"], "export: --out is missing; name the file to write"),
        (["RUN", "dense", "--out", "x.safetensors", "--seed", "0"], "--seed: unknown seed '0'; known: 4, 5"),
        (["RUN", "dense", "--out", "x.onnx", "--format", "onnx"], "--format: unknown format 'onnx'; known: bcoo, "),
        (["RUN", "dense", "--out", "x.pt"], "--out x.pt: the name must end in .safetensors; call the file x."),
        (["RUN", "dense", "--out", "x.safetensors", "--format", "stablehlo"], "call the file x.stablehlo"),
        (["RUN", "dense", "--out", "there", "--format", "stablehlo"], "--out there.json is there already"),
        (["RUN", "prune", "0.9", "--out", "x"], "unknown network 'prune 0.9'; did you mean 'pruned 0.9'"),
        (["RUN", "prune", "0.9"], "unknown network 'prune 0.9'; did you mean 'pruned 0.9'"),
        (["RUN", "pruned", "--out", "x"], "pruned is not one network; give one of: pruned 0.5, pruned 0.9"),
        (["RUN", "dense", "--out", "x", "--seed", "0"], "--seed: unknown seed '0'; known: 4, 5"),
        (["RUN", "dense", "--out", "x", "--format", "onnx"], "--format: unknown format 'onnx'; known: bcoo, "),
        (["RUN", "Pruned, not retraned", "0.9", "--out", "x"], "did you mean 'Pruned, not retrained 0.9'"),
        (["RUN", "PRUNED, not retrained", "--out", "x"], "is not one network; give one of: pruned 0.5, pruned 0.9"),
        (["RUN", "dense", "--out", "there.safetensors"], "there.safetensors is there already; name another file"),
        (["RUN", "dense", "--out", "no/x.safetensors"], "there is no folder no; make it"),
        (["RUN", "dense", "--out", "gs://x/x.safetensors"], "is not on this machine; write the file here"),
        (["RUN", "dense", "--out", "x.safetensors", "--batch", "2"], "--batch: the weights of safetensors are for any"),
        (["RUN", "dense", "--out", "x", "--format", "stablehlo", "--batch", "0"], "--batch 0: give at least 1"),
        (["RUN", "dense", "--seed", "one"], "argument --seed: invalid int value: 'one'"),
        (["RUN", "dense", "--fromat", "packed"], "unknown flag 'fromat'; did you mean 'format'?"),
        (["RUN", "--out", "x.safetensors", "dense", "0"], "unknown network 'dense 0'"),
        (["little", "dense", "--out", "x.safetensors"], "unknown config 'little'"),
        (["runs/little", "dense", "--out", "x"], "there is no file or folder runs/little; give the folder of a run"),
        (["digits", "dense", "--out", "x.safetensors"], "there is no such folder of a run; run it first"),
        ([], "the following arguments are required: RUN"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_and_write_nothing(run, here, capsys, arguments, message) -> None:
    (here / "there.safetensors").write_text("mine")
    (here / "there.json").write_text("mine")
    assert main(["export", *(str(run) if word == "RUN" else word for word in arguments)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("jaxprune: error: ")
    assert printed.err.count("\n") == 1
    assert message in printed.err
    left = sorted((path.name, path.read_text()) for path in here.iterdir())
    assert left == [("there.json", "mine"), ("there.safetensors", "mine")]


def test_damaged_and_unmade_networks_are_told(run, here, capsys) -> None:
    copy = Path(shutil.copytree(run, here / "copy"))
    stage = next((copy / "stages").glob("pruned-magnitude-0.9-*"))
    victim = max((stage / "network").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    victim.write_bytes(victim.read_bytes()[:-7])
    assert main(["export", str(copy), "pruned", "0.9", "--out", "x.safetensors"]) == 2
    told = capsys.readouterr().err
    assert str(victim) in told
    assert "is truncated or altered; run the command of the run again, which makes it anew" in told
    assert victim.exists()  # nothing is removed by reading
    shutil.rmtree(stage)
    assert main(["export", str(copy), "pruned", "0.9", "--out", "x.safetensors"]) == 2
    assert "unknown network 'pruned 0.9'" in capsys.readouterr().err
    assert [path.name for path in here.iterdir()] == ["copy"]


def test_formats_are_completed_and_explained(capsys) -> None:
    for shell in ("bash", "fish"):
        assert main(["completion", shell]) == 0
        assert " ".join(EXPORT_FORMATS) in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name, about in EXPORT_FORMATS.items():
        assert f"{name} ({about})" in text
