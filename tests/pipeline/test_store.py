"""Artefacts that are read, computed once, or left by an interrupted attempt."""

import numpy as np
import pytest
from experiments import store

from jaxprune import checkpoints
from jaxprune.files import sealed_folder
from jaxprune.pipeline.checkpoint_writer import newest, save_logs
from jaxprune.pipeline.stage import Stage


def test_parts_of_values(tmp_path) -> None:
    """A kill costs the part under way; a damaged part is computed anew; none is left in the end."""
    here, computed, stage = store(tmp_path), [], Stage("measure", {})

    def part(name: str, value: float) -> dict[str, np.ndarray]:
        def compute() -> dict[str, np.ndarray]:
            computed.append(name)
            return {"value": np.float64(value), "counts": np.arange(3)}

        return here.part(stage, name, compute)

    def measure(stop: bool) -> dict:
        one = part("one", 1 / 3)
        if stop:
            raise KeyboardInterrupt
        return {"sum": float(one["value"] + part("two", 0.5)["value"]), "counts": one["counts"].tolist()}

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            here.values(stage, lambda: measure(stop=True))
    assert computed == ["one"]
    kept = here.workspace.part(stage, "one.npz")
    kept.write_bytes(kept.read_bytes()[:-30])
    assert here.values(stage, lambda: measure(stop=False)) == {"sum": 1 / 3 + 0.5, "counts": [0, 1, 2]}
    assert computed == ["one", "one", "two"]
    assert here.progress.lines == [f"warning: {kept} is truncated or altered; it is computed anew"]
    files = sorted(path.name for path in here.workspace.folder(stage).iterdir())
    assert files == ["sha256.json", "stage.json", "values.json"]


def test_values_are_computed_once_and_again_where_damaged(tmp_path) -> None:
    here, stage, calls = store(tmp_path), Stage("s", {"a": 1}), []

    def compute() -> dict:
        calls.append(1)
        return {"x": len(calls)}

    assert here.values(stage, compute) == here.values(stage, compute) == {"x": 1}
    (here.workspace.folder(stage) / "values.json").write_text("{")
    assert here.values(stage, compute) == {"x": 2}
    assert "computed anew" in here.progress.lines[0]
    assert here.remember("key", compute) == here.remember("key", compute) == {"x": 3}


def test_newest_checkpoint(tmp_path) -> None:
    """Not one that was half removed or half written, which goes unsaid, nor a damaged one, which is reported."""
    here, state = store(tmp_path), {"w": np.arange(3.0)}
    for done in (1, 2, 3, 4):
        with sealed_folder(tmp_path / "checkpoints" / f"epoch-{done:05d}") as folder:
            checkpoints.save(folder / "state", {"w": state["w"] + done})
            save_logs(folder, {"loss": np.full((1, done), done)})
    folders = sorted((tmp_path / "checkpoints").iterdir())
    (folders[3] / "sha256.json").unlink()  # as a kill while it was removed leaves it
    (folders[2] / "logs.npz").write_bytes(b"damaged")

    kept = newest(here, tmp_path, "epoch", state)
    assert kept.done == 2
    np.testing.assert_array_equal(kept.state["w"], state["w"] + 2)
    np.testing.assert_array_equal(kept.logs[0]["loss"], [[2, 2]])
    assert len(here.progress.lines) == 1
    assert here.progress.lines[0].startswith(f"warning: {folders[2] / 'logs.npz'} is truncated or altered")
    assert sorted((tmp_path / "checkpoints").iterdir()) == folders[:2]

    for folder in folders[:2]:
        (folder / "sha256.json").unlink()
    begun = newest(here, tmp_path, "epoch", state)
    assert (begun.done, begun.state, begun.logs) == (0, state, ())


def test_the_values_used_last_stay_in_memory(tmp_path) -> None:
    here, computed = store(tmp_path), []

    def value(name: str) -> str:
        return here.remember_recent(name, lambda: computed.append(name) or name)

    assert [value(name) for name in "abca"] == list("abca")
    assert computed == list("abc")
    value("d")  # in place of b, which was used the longest ago
    assert [value(name) for name in "acdb"] == list("acdb")
    assert computed == list("abcdb")
