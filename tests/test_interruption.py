"""Signals: each ends a process once, with one line and its own exit code, whatever the process is doing."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxprune import interruption

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

BEGIN = "import gc, os, signal, sys, time\nfrom jaxprune import interruption\n"
END = "print('went on')\n"


def started(script: str, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    printed, errors = process.communicate(timeout=120)
    return process.returncode, printed, errors


def in_program(body: str) -> tuple[int, str, str]:
    """What a program says whose command line is this body."""
    body = "\n".join(f"    {line}" for line in body.splitlines())
    script = (
        f"{BEGIN}import types\nfrom jaxprune.__main__ import program\nHERE = os.getpid()\n"
        f"def main():\n{body}\n    {END}    return 0\n"
        "sys.modules['jaxprune.cli'] = types.SimpleNamespace(main=main)\nprogram()\n"
    )
    return ended(started(script))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_with_one_line_and_its_code(name) -> None:
    code, printed, errors = in_program(f"os.kill(HERE, signal.{name})\ntime.sleep(9)")
    assert code == 128 + getattr(signal, name)
    assert printed == ""
    assert errors == f"jaxprune: interrupted ({name}); the same command continues\n"


def test_a_signal_that_was_raised_in_a_callback_is_not_lost() -> None:
    """Python drops what is raised there: the callbacks of its collector, destructors."""
    body = (
        "def callback(phase, info):\n    gc.callbacks.clear()\n    os.kill(HERE, signal.SIGINT)\n    sum(range(10))\n"
        "gc.callbacks.append(callback)\ngc.collect()\ntime.sleep(9)"
    )
    code, printed, errors = in_program(body)
    assert (code, printed, errors.count("\n")) == (130, "", 1)


def test_caught_signal() -> None:
    """A signal that was caught by somebody is raised at the next check."""
    body = "try:\n    os.kill(HERE, signal.SIGINT)\n    time.sleep(9)\nexcept BaseException:\n    pass\n"
    assert in_program(f"{body}interruption.check()")[:2] == (130, "")
    assert in_program(body)[:2] == (0, "went on\n")


def test_signal_turned_into_another_error() -> None:
    """A signal of which a library makes another error is still one line."""
    script = (
        f"{BEGIN}from jaxprune.cli import configs\nfrom jaxprune.__main__ import program\n"
        "def work(*_):\n    try:\n        os.kill(os.getpid(), signal.SIGTERM)\n        time.sleep(9)\n"
        "    except KeyboardInterrupt:\n        raise RuntimeError('INTERNAL: CpuCallback') from None\n"
        "configs.show_configs.__code__ = work.__code__\nconfigs.os, configs.time, configs.signal = os, time, signal\n"
        "sys.argv[1:] = ['configs']\nprogram()\n"
    )
    code, printed, errors = ended(started(script))
    assert (code, printed) == (143, "")
    assert errors == "jaxprune: interrupted (SIGTERM); the same command continues\n"


def test_a_section_that_is_shielded_is_finished_first() -> None:
    body = "with interruption.shielded():\n    os.kill(HERE, signal.SIGTERM)\n    print('saved', flush=True)\n"
    assert in_program(body)[:2] == (143, "saved\n")


def test_a_second_signal_ends_at_once() -> None:
    """Also where the first cannot be raised, as in a compiled program; those that come together are one."""
    section = "with interruption.shielded():\n    print('in', flush=True)\n    time.sleep(60)\n"
    script = f"{BEGIN}interruption.listen()\n{section}"
    process = started(script)
    assert process.stdout.readline() == "in\n"
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    time.sleep(1.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    code, _, errors = ended(process)
    assert code == 143
    assert errors == "jaxprune: ended at the second signal; the same command continues\n"


def test_what_a_process_was_started_to_ignore_stays_ignored() -> None:
    script = f"{BEGIN}signal.signal(signal.SIGHUP, signal.SIG_IGN)\ninterruption.listen()\n"
    assert ended(started(f"{script}os.kill(os.getpid(), signal.SIGHUP)\n{END}"))[:2] == (0, "went on\n")


def test_a_signal_while_modules_load_ends_in_one_line() -> None:
    script = (
        f"{BEGIN}import importlib.abc\nfrom jaxprune.__main__ import program\n"
        "class Finder(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'jaxprune.config.sections':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\nsys.argv[1:] = ['configs']\nprogram()\n"
    )
    code, printed, errors = ended(started(script))
    assert (code, printed) == (130, "")
    assert errors == "jaxprune: interrupted (SIGINT); the same command continues\n"


def test_importing_the_library_changes_no_handler() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    import jaxprune.cli
    import jaxprune.pipeline  # noqa: F401

    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    with interruption.shielded():
        interruption.check()


def test_terminated_training(tmp_path) -> None:
    """A training that is terminated saves its last epoch and says which."""
    out = tmp_path / "run"
    settings = [
        "--data.name", "synthetic", "--model.hidden", "3", "--seeds", "1", "--train.epochs", "100000",
        "--data.sizes", "90", "60", "--data.margins", "1", "0.5", "--data.noise", "0", "0.1",
    ]  # fmt: skip
    command = [sys.executable, "-m", "jaxprune", "train", "--out", str(out), "--checkpoint-seconds", "0.5", *settings]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(out.glob("stages/dense-*/checkpoints/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    code, _, errors = ended(process)
    assert code == 143
    said = re.fullmatch(r"jaxprune: interrupted \(SIGTERM\); the same command continues after epoch (\d+)\n", errors)
    assert said, errors
    kept = [path.name for path in Path(next(out.glob("stages/dense-*"))).glob("checkpoints/*")]
    assert kept == [f"epoch-{int(said[1]):05d}"]
