"""The output folder: locked for one job, and cleared of left-overs."""

import errno

import filelock
import pytest

from jaxprune.errors import UserError
from jaxprune.pipeline.workspaces import open_workspace


def test_a_workspace_is_for_one_run_at_a_time(tmp_path) -> None:
    with open_workspace(tmp_path / "run"), pytest.raises(UserError, match="in use by another run"):
        open_workspace(tmp_path / "run").__enter__()
    with open_workspace(tmp_path / "run") as again:
        assert again.root == tmp_path / "run"


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EOPNOTSUPP, "Operation not supported"), NotImplementedError(), UserWarning("falling back")],
    ids=["no locks", "not implemented", "a file in place of a lock"],
)
def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, error) -> None:
    """It is not taken for a folder in use."""
    said = []

    def acquire(*_, **__):
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    with open_workspace(tmp_path / "run", said.append) as workspace:
        assert workspace.root == tmp_path / "run"
    assert len(said) == 1
    assert said[0].startswith(f"warning: {tmp_path / 'run'} cannot be locked (")
    assert said[0].endswith("let no other run write to it at the same time")


def test_the_next_run_removes_what_a_killed_one_left(tmp_path) -> None:
    with open_workspace(tmp_path / "run"):
        pass
    left = [tmp_path / "run" / ".results.json.4.tmp", tmp_path / "run" / "stages" / "x" / ".values.json.5.tmp"]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_text("half")
    with open_workspace(tmp_path / "run"):
        with pytest.raises(UserError, match="in use"):  # whose holder may be writing
            open_workspace(tmp_path / "run").__enter__()
        assert not any(path.exists() for path in left)
