"""What every benchmark writes: its figures, with the versions, the device and the commit that they were taken with.

Not a benchmark itself. Call `out_file` before the work, so that a folder that cannot be written is told at once.
"""

import importlib.metadata
import json
import platform
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "results"
PACKAGES = ("jax", "jaxlib", "flax", "numpy", "jaxprune")


def out_file(name: str, folder: Path | None = None) -> Path:
    """The file of a benchmark, in a folder that is there and can be written; ends the process with one line if not."""
    folder = folder or FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SystemExit(f"{folder}: cannot be written ({error.strerror}); nothing was measured") from None
    return folder / f"{name}.json"


def spread(values: Sequence[float]) -> dict[str, float]:
    """Smallest, median, 90th percentile and largest of several measurements, and how many they are."""
    low, middle, high, most = np.quantile(np.asarray(values, float), (0, 0.5, 0.9, 1)).tolist()
    return {"min": low, "median": middle, "p90": high, "max": most, "n": len(values)}


def write(path: Path, figures: Mapping[str, Any]) -> None:
    """Writes the figures of a benchmark beside what they were taken with, whole or not at all."""
    text = json.dumps({"measured": circumstances(), "figures": figures}, indent=2, default=float)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(text + "\n")
    unfinished.replace(path)
    print(f"written to {path}")


def circumstances() -> dict[str, Any]:
    """Versions, device, commit and time."""
    import jax  # here, so that a benchmark of whole processes begins without it

    devices = jax.devices()
    return {
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
        "device": {"platform": devices[0].platform, "kind": devices[0].device_kind, "count": len(devices)},
        "machine": platform.platform(),
        "commit": commit(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def commit(folder: Path = FOLDER.parent) -> str:
    """The commit, with a plus where files differ from it; empty outside of a repository."""
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
