"""Fixtures that many tests share. Nothing here, or in any test, uses the network."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Most of the tests' time is compiling: programs and the native kernel are kept from one session to the next, and shared
# by the processes of one, in a folder of the tests' own.
os.environ.setdefault("JAXPRUNE_TESTS_CACHE", os.path.expanduser("~/.cache/jaxprune-tests"))
os.environ["XDG_CACHE_HOME"] = os.environ["JAXPRUNE_TESTS_CACHE"]
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.environ["JAXPRUNE_TESTS_CACHE"] + "/xla"
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"

# Before jax is imported: no accelerator, and programs that are compiled in two thirds of the time, which most of the
# tests take. .ci/run tests the oldest and the newest versions with all optimisations.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune.compat import enable_x64
from jaxprune.data import Dataset, from_arrays
from jaxprune.types import Batch

# A job in the background, or under nohup, ignores these, and so would the processes that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

CACHE = Path(os.environ["JAXPRUNE_TESTS_CACHE"])
DAYS_KEPT = 14


def pytest_sessionstart(session: pytest.Session) -> None:
    """Delete programs that were compiled long ago, in one process of the session."""
    if hasattr(session.config, "workerinput"):
        return
    CACHE.mkdir(parents=True, exist_ok=True, mode=0o700)
    oldest = time.time() - DAYS_KEPT * 24 * 3600
    for path in (CACHE / "xla").glob("*"):
        if path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def everything_is_kept() -> None:
    """Keep short compilations too, which the command line leaves out once a test has called it."""
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


@pytest.fixture
def x64() -> Iterator[None]:
    """float64 for the length of a test."""
    with enable_x64(True):
        yield


@pytest.fixture(scope="session")
def people() -> Dataset:
    """Three groups of unlike size and difficulty, four inputs, three labels; 120 train, 45 validation, 60 test."""
    rng = np.random.default_rng(7)

    def split(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        group = np.arange(n) % 15  # 10 of 15 in group 0, 4 in group 1, 1 in group 2
        group = np.where(group < 10, 0, np.where(group < 14, 1, 2))
        y = rng.integers(0, 3, n)
        x = rng.normal(size=(n, 4)) + 1.5 * np.eye(4)[y] * (group != 2)[:, None]
        return x.astype(np.float32), y, group

    return from_arrays(split(120), split(45), split(60), label_names="abc", group_names=("big", "small", "rare"))


@pytest.fixture
def batch() -> Batch:
    """Seven examples, of which the last is padding; group 2 of 4 is absent."""
    rng = np.random.default_rng(3)
    return Batch(
        x=jnp.asarray(rng.normal(size=(7, 4)), jnp.float32),
        y=jnp.array([0, 1, 2, 0, 1, 2, 0]),
        group=jnp.array([0, 0, 1, 1, 3, 3, 2]),
        weight=jnp.array([1.0, 1, 1, 1, 1, 1, 0]),
    )


@pytest.fixture(scope="session")
def on_eight_devices() -> Callable[[str], Any]:
    """Runs a script in a process with eight pretended devices; gives the JSON that it prints."""

    def run(script: str) -> Any:
        environment = os.environ | {
            "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
            "JAX_PLATFORMS": "cpu",
        }
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=900, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found = json.loads(done.stdout)
        assert found["devices"] == 8
        return found

    return run


@pytest.fixture(scope="module", autouse=True)
def bounded_programs():
    """Forget compiled programs after each file: thousands of them exhaust the memory maps of a process."""
    yield
    jax.clear_caches()
