"""Output in an object store, tried on one in memory that cannot rename; `~`; addresses where none can be."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from etils.epath import backend
from fsspec.implementations.memory import MemoryFileSystem

from jaxprune import config, pipeline, storage
from jaxprune.cli import main
from jaxprune.errors import UserError
from jaxprune.files import SEAL, check_seal
from jaxprune.pipeline.store import NoProgress
from jaxprune.reporting import page
from jaxprune.results.store import to_json

SETTINGS = {
    "data.name": "synthetic", "data.sizes": (90, 60), "data.margins": (1.0, 0.5), "data.noise": (0.0, 0.1),
    "model.hidden": (3,), "seeds": 1, "train.epochs": 3, "train.batch_size": 32, "prune.sparsities": (0.5,),
    "retrain.epochs": 0, "retrain.methods": ("none",), "theory.max_iterations": 3, "audit.splits": ("test",),
    "costs.speed": False,
}  # fmt: skip


class Bucket(MemoryFileSystem):
    """Objects by name, as gs:// has them: written whole, never renamed."""

    protocol = ("gcs", "gs")
    store: dict = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    written: list[str] = []  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + str(path).removeprefix("gs://").strip("/") if str(path).strip("/") else ""

    def _open(self, path, mode="rb", **options):
        if "w" in mode:
            self.written.append(path)
        return super()._open(path, mode, **options)

    def mv(self, *_, **__):
        raise NotImplementedError("an object store cannot rename")

    rename = move = mv


@pytest.fixture
def bucket(monkeypatch) -> Iterator[type[Bucket]]:
    """A fake gs://, empty."""
    monkeypatch.setattr(Bucket, "store", {})
    monkeypatch.setattr(Bucket, "pseudo_dirs", [""])
    monkeypatch.setattr(Bucket, "written", [])
    registered = dict(fsspec.registry.target if hasattr(fsspec.registry, "target") else {})
    fsspec.register_implementation("gcs", Bucket, clobber=True)
    backend.fsspec_backend._get_filesystem.cache_clear()
    yield Bucket
    backend.fsspec_backend._get_filesystem.cache_clear()
    if "gcs" in registered:
        fsspec.register_implementation("gcs", registered["gcs"], clobber=True)


class Killed(NoProgress):
    """Ends the process, as it were, in an epoch; nothing is saved then but what is in the bucket."""

    def __init__(self):
        self.said, self.left = [], 3

    def say(self, message: str) -> None:
        self.said.append(message)

    def advance(self, note: str = "") -> None:
        self.left -= 1
        if self.left == 0:
            raise SystemExit


def test_run_in_bucket(bucket, tmp_path, monkeypatch) -> None:
    """A run in a bucket continues there and ends as one on disk."""
    draw = page.save_figure
    monkeypatch.setattr(page, "save_figure", lambda name, *rest: name == "harm" and draw(name, *rest))
    monkeypatch.chdir(tmp_path)
    settings, out = config.load(None, SETTINGS), "gs://bucket/runs/one"
    with pytest.raises(SystemExit):
        pipeline.run(settings, out, progress=(killed := Killed()), checkpoint_seconds=0)
    assert any("cannot be locked" in message for message in killed.said)
    kept = [name for name in bucket.store if "/checkpoints/" in name and name.endswith(f"/{SEAL}")]
    assert {name.split("/checkpoints/")[1].split("/")[0] for name in kept} == {"epoch-00002"}

    again = Killed()
    again.left = 10**6
    found = pipeline.run(settings, out, progress=again, checkpoint_seconds=0)
    assert "continuing after epoch 2 of 3" in again.said
    assert str(found.out) == out
    plain = pipeline.run(settings, tmp_path / "disk")
    names = {str(path.relative_to(tmp_path / "disk")) for path in (tmp_path / "disk").iterdir() if path.is_file()}
    for name in names - {"environment.json", "report.html", ".published", ".jaxprune-lock"}:
        assert storage.to_path(f"{out}/{name}").read_bytes() == (tmp_path / "disk" / name).read_bytes(), name
    assert to_json(found.results) == to_json(plain.results)
    assert [path.name for path in tmp_path.iterdir()] == ["disk"], "nothing is made on this machine"
    assert not [name for name in bucket.store if "/checkpoints/" in name or name.endswith(".tmp")]
    for stage in {name.split("/")[5] for name in bucket.store if "/stages/" in name}:
        check_seal(storage.to_path(f"{out}/stages/{stage}"))
        of_stage = [name for name in bucket.written if f"/{stage}/" in name and "/checkpoints/" not in name]
        assert of_stage[-1].endswith(f"{stage}/{SEAL}"), "the seal comes last"

    # A damaged object is found and computed anew; a published one is written anew.
    stage = storage.to_path(str(plain.made["report"]))
    report = next(name for name in bucket.store if "/stages/report-" in name and name.endswith("/groups.csv"))
    storage.to_path(f"gs:/{report}").write_bytes(b"damaged")
    storage.to_path(f"{out}/summary.csv").write_bytes(b"damaged")
    again.said.clear()
    pipeline.run(settings, out, progress=again)
    assert any("groups.csv is truncated or altered; report is computed anew" in message for message in again.said)
    assert storage.to_path(f"{out}/summary.csv").read_bytes() == (stage / "summary.csv").read_bytes()


def test_a_bucket_that_holds_something_else_is_refused(bucket) -> None:
    storage.to_path("gs://bucket/mine/letter.txt").write_text("mine")
    with pytest.raises(UserError, match="full of something else"):
        pipeline.run(config.load(None, SETTINGS), "gs://bucket/mine")


@pytest.mark.parametrize("command", ["run", "compare"])
def test_unreachable_address(command, tmp_path, monkeypatch, capsys) -> None:
    """An address that cannot be reached is one line before any work."""
    monkeypatch.chdir(tmp_path)
    backend.fsspec_backend._get_filesystem.cache_clear()

    def missing(*_, **__):
        raise ImportError("Please install gcsfs")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    assert main([command, "--out", "gs://bucket/run"]) == 2
    assert capsys.readouterr().err == (
        "jaxprune: error: --out gs://bucket/run: gs:// needs a package that is not installed; "
        "pip install gcsfs, or give a local folder\n"
    )
    assert main([command, "--out", "hdfs://bucket/run"]) == 2
    assert "error: hdfs://bucket/run: hdfs:// is not known" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--data.name", "gs://bucket/people.npz"],
        ["run", "--data.directory", "s3://bucket/sets"],
        ["compare", "--model.weights", "https://example.org/w.safetensors"],
        ["datasets", "prepare", "mine", "--directory", "gs://bucket/images", "--table", "t.csv"],
        ["datasets", "prepare", "mine", "--directory", "images", "--table", "gs://bucket/t.csv"],
    ],
)
def test_data_and_weights_are_of_this_machine(arguments, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    line = capsys.readouterr().err
    assert "is not on this machine" in line
    assert line.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_home_folder_is_put_for_its_sign_everywhere(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "my.toml").write_text('[data]\nname = "~/people.npz"\n[model]\nweights = "~/w.safetensors"\n')
    settings = config.load("~/my.toml", {"data.directory": "~/sets"})
    assert settings.data.name == str(tmp_path / "people.npz")
    assert settings.data.directory == str(tmp_path / "sets")
    assert settings.model.weights == str(tmp_path / "w.safetensors")
    assert storage.to_path("~/runs/a") == tmp_path / "runs" / "a"
    assert config.load(None, {}).data.name == "adult"


def test_an_unknown_home_folder_is_one_line() -> None:
    with pytest.raises(UserError, match="write the path in full"):
        storage.to_path("~nobody-of-this-name/run")


def test_a_local_folder_with_a_colon_stays_local(tmp_path) -> None:
    assert storage.to_path("C:/runs") == Path("C:/runs")
    assert storage.to_path(str(tmp_path / "a:b")) == tmp_path / "a:b"
    assert str(storage.to_path(Path("gs://bucket/run"))) == "gs://bucket/run"
