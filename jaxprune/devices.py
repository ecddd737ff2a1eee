"""The devices that JAX uses, and accelerators that it should be using."""

import glob
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import jax

from jaxprune.errors import UserError

_TPU_NAMES = ("COLAB_TPU_ADDR", "TPU_NAME", "TPU_ACCELERATOR_TYPE")  # which Colab, Kaggle and Google Cloud set
_BUSY = ("already in use", "libtpu multi-process lockfile", "Device or resource busy")
_PATIENCE = "in a notebook, call jaxprune.run(...) in the kernel that has it, or end that process"


def check_devices(
    environment: Mapping[str, str] = os.environ, find: Callable[[str], list[str]] = glob.glob
) -> str | None:
    """Check that JAX has devices and uses the machine's accelerators.

    Args:
      environment: The environment variables.
      find: Pattern -> paths that are there.

    Returns:
      A warning about an accelerator that JAX does not use, on one line; None where there is none.

    Raises:
      UserError: JAX cannot start its devices; for example, another process uses the TPU.
    """
    try:
        with _unlogged():
            devices = jax.devices()
    except RuntimeError as error:
        raise _explain(str(error)) from None
    chosen = getattr(jax.config, "jax_platforms", None) or environment.get("JAX_PLATFORMS")
    if devices[0].platform != "cpu" or chosen == "cpu":  # asked for by name
        return None
    for platform, name, signs, package in (
        ("tpu", "a TPU", [*find("/dev/accel[0-9]*"), *(n for n in _TPU_NAMES if environment.get(n))], "jax[tpu]"),
        ("cuda", "an NVIDIA GPU", find("/dev/nvidia[0-9]*"), "jax[cuda12]"),
        ("rocm", "an AMD GPU", find("/dev/kfd"), "a JAX for ROCm"),
    ):
        if signs:
            reason = _reason(platform)
            if any(words in reason for words in _BUSY):
                raise _explain(reason)
            install = f"pip install '{package}'" if package.startswith("jax[") else f"install {package}"
            because = f" ({_one_line(reason)})" if reason else ""
            return (
                f"this machine has {name} ({signs[0]}), but JAX uses the CPU{because}; "
                f"{install}, or set JAX_PLATFORMS=cpu where that is meant"
            )
    return None


def describe_devices() -> str:
    """Say in words what JAX runs on, such as "4 TPU v5 lite devices"."""
    devices = jax.devices()
    kind = "CPU" if devices[0].platform == "cpu" else devices[0].device_kind
    return f"1 {kind} device" if len(devices) == 1 else f"{len(devices)} {kind} devices"


def _reason(platform: str) -> str:
    """JAX's own reason for not using a platform; empty if unknown."""
    try:
        jax.devices(platform)
    except RuntimeError as error:
        found = str(error)
        return found.partition("failed to initialize: ")[2].partition(". Available backends")[0]
    return ""


def _explain(message: str) -> UserError:
    if any(words in message for words in _BUSY):
        process = re.search(r"process with pid (\d+)", message)
        by = f"process {process[1]}" if process else "another process"
        return UserError(f"the TPU is in use by {by}; {_PATIENCE}; or set JAX_PLATFORMS=cpu to compute on the CPU")
    cause = _one_line(re.sub(r"\((set|you may need) [^)]*\)\s*$", "", message))  # JAX's own advice
    return UserError(f"JAX cannot start its devices: {cause}; set JAX_PLATFORMS to what this machine has, such as cpu")


def _one_line(message: str) -> str:
    return " ".join(message.split()).rstrip(".")


@contextmanager
def _unlogged() -> Iterator[None]:
    """Keep JAX's own warning away: ours says more, once."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
