"""Kill runs at changes of the file system, and run them again.

Usage: `python tests/support/killing.py FOLDER COPIES KILLS [SETTINGS]`, with settings in JSON beside those below.

A process that has imported everything forks one child for each run, which saves its imports. A hook of the interpreter
counts renames, removals, new folders and files opened to be written.
"""

import json
import os
import re
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
SETTINGS = {
    "data.name": "synthetic", "data.sizes": (90, 60), "data.margins": (1.0, 0.5), "data.noise": (0.0, 0.1),
    "model.hidden": (3,), "seeds": 1, "train.epochs": 3, "train.batch_size": 32, "prune.sparsities": (0.5,),
    "retrain.epochs": 2, "retrain.methods": ("none",), "theory.max_iterations": 3, "audit.splits": ("test",),
    "costs.speed": False,  # no two runs take the same time
}  # fmt: skip
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir")
TIME = re.compile(rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d[+-]\d{4})?")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def watch(out: Path, act: Callable[[int], None]) -> list[int]:
    """Count the changes of the file system from now on; `act` is told the number of each before it is made."""
    count, busy = [0], [False]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            writes = isinstance(flags, int) and flags & WRITES and isinstance(path, str | bytes)
            if not writes or not os.fsdecode(path).startswith(str(out)):
                return
        elif event not in CHANGES:
            return
        if not busy[0]:
            busy[0] = True
            count[0] += 1
            act(count[0])
            busy[0] = False

    sys.addaudithook(hook)
    return count


def in_child(work: Callable[[], None]) -> int:
    """What the wait for a forked child that does the work says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


def run(out: Path, act: Callable[[int], None] = lambda number: None, counted: Path | None = None) -> int:
    """One run in a child, with every epoch saved and one figure drawn: all others are written alike."""

    def work() -> None:
        from jaxprune import config, pipeline
        from jaxprune.reporting import page

        draw = page.save_figure
        page.save_figure = lambda name, *rest: name == "harm" and draw(name, *rest)
        count = watch(out, act)
        pipeline.run(config.load(None, SETTINGS), out, checkpoint_seconds=0)
        if counted is not None:
            counted.write_text(str(count[0]))

    return in_child(work)


def contents(out: Path) -> dict[str, bytes]:
    """Every file of a run, without times; of checkpoints and of digests of others only the names."""
    files = {}
    for path in out.rglob("*"):
        name = path.relative_to(out).as_posix()
        if path.is_file():
            skipped = "/network/" in name or path.name in ("environment.json", ".published", "sha256.json")
            files[name] = b"" if skipped else TIME.sub(b"", path.read_bytes())
    # Checkpoints name their files at random.
    return {re.sub(r"[0-9a-f]{32}$", "", name): content for name, content in files.items()}


def try_kills(folder: Path, kills: int, killed: int) -> dict[str, Any]:
    """Run from what kills would leave, and compare with a run that was never killed.

    What a kill leaves is the files as they are at that moment: one run is copied before each of the chosen changes.

    Args:
      folder: Where the runs are kept; those that fail stay.
      kills: How many changes are chosen, spread evenly over a run.
      killed: How many runs are in truth killed beside them.

    Returns:
      "changes" of a run, "kills" that were tried, and "failed": what is wrong, by the number of the change.
    """
    whole = folder / "whole"
    assert run(folder / "first", counted=folder / "count") == 0  # fills the cache of compiled programs, too
    changes = int((folder / "count").read_text())
    copied, ended = spread(changes, kills), spread(changes, killed + 2)[1:-1]

    def copy(number: int) -> None:
        if number in copied:
            there = folder / f"at-{number}"
            locks = shutil.ignore_patterns("*.__lock")  # of tensorstore's threads: they vanish while they are copied
            shutil.copytree(whole, there, ignore=locks) if whole.exists() else there.mkdir()

    assert run(whole, copy) == 0
    expected, failed = contents(whole), {}
    for number in ended:
        status = run(folder / f"killed-{number}", lambda n, last=number: os.kill(os.getpid(), 9) if n == last else None)
        if not os.WIFSIGNALED(status):
            failed[number] = "it was not killed"
    for out in [*(folder / f"at-{n}" for n in copied), *(folder / f"killed-{n}" for n in ended)]:
        if fault := wrong_after(out, expected):
            failed[out.name] = fault
        else:
            shutil.rmtree(out)
    return {"changes": changes, "kills": len(copied) + len(ended), "failed": failed}


def wrong_after(out: Path, expected: dict[str, bytes]) -> str:
    """Run again where a run was killed; what is then other than in an unbroken run."""
    if run(out) != 0:
        return "it does not run again"
    found = contents(out)
    differ = {name for name in expected.keys() & found.keys() if expected[name] != found[name]}
    wrong = sorted(differ | (expected.keys() ^ found.keys()))
    return f"other files: {wrong}" if wrong else ""


def spread(changes: int, count: int) -> list[int]:
    """So many of the changes, the first and the last among them."""
    return sorted({1 + (changes - 1) * i // max(count - 1, 1) for i in range(count)})


def main() -> None:
    folder, kills, killed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    more = json.loads(sys.argv[4]) if sys.argv[4:] else {}
    SETTINGS.update({name: tuple(value) if isinstance(value, list) else value for name, value in more.items()})
    folder.mkdir(parents=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "cache")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

    import jaxprune.pipeline
    import jaxprune.reporting.reports  # noqa: F401

    print(json.dumps(try_kills(folder, kills, killed)))


if __name__ == "__main__":
    main()
