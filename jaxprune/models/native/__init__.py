"""The convolution for CPUs in C++, built once on the machine that it runs on.

XLA's own forms of a 3x3 convolution are slow in compiled loops on a CPU. Where there is a C++ compiler, convolution.cc
is built for the very processor at its first use, some five seconds, and kept in the user's cache directory; where there
is none, or the build fails, the forms in XLA's terms are taken. `JAXPRUNE_NATIVE=0` asks for those.
"""

import ctypes
import functools
import hashlib
import logging
import os
import shutil
import subprocess
import sysconfig
import tempfile
import threading
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxprune.types import Array

SOURCES = Path(__file__).parent  # convolution.cc and the headers beside it
FLAGS = ("-std=c++17", "-O3", "-ffp-contract=fast", "-fPIC", "-shared", "-w")
# The first that the compiler knows: for the very processor, in vectors of full width where gcc prefers half of it, and
# with products and sums fused in every loop, as the number of threads decides in which of several a tile is computed.
_WIDE = ("-march=native", "-mprefer-vector-width=512")
TARGETS = ((*_WIDE, "--param=avoid-fma-max-bits=0"), _WIDE, ("-march=native",), ("-mcpu=native",), ())
_TARGET = "jaxprune_{}"
_log = logging.getLogger(__name__)
_lock = threading.Lock()


def available() -> bool:
    """Whether the convolution in C++ can be called; builds and loads it when first asked."""
    with _lock:
        return _registered()


def call(name: str, shape: tuple[int, ...], left: Array, right: Array, *, stride: int, padding: int) -> Array:
    """One of `convolution`, `image_transpose` and `kernel_transpose`, as defined at the top of convolution.cc.

    Args:
      name: Which of the three.
      shape: The shape of the result.
      left: [R, ...], float32.
      right: [R, ...], float32.
      stride: Pixels from one window to the next.
      padding: Rows and columns of zeros on each side.

    Returns:
      [R, ...], float32.
    """
    kernel = jax.ffi.ffi_call(_TARGET.format(name), jax.ShapeDtypeStruct(shape, left.dtype))
    result: Any = kernel(left, right, stride=np.int64(stride), padding=np.int64(padding))
    return result


@functools.cache
def _registered() -> bool:
    if os.environ.get("JAXPRUNE_NATIVE", "1") == "0":
        return False
    try:
        library = ctypes.CDLL(str(built(cache_directory())))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:  # RuntimeError: nobody has a home here
        _log.info("convolutions go by XLA's own forms, as the C++ one could not be built: %s", error)
        return False
    for name in ("convolution", "image_transpose", "kernel_transpose"):
        symbol = _TARGET.format(name)
        jax.ffi.register_ffi_target(symbol, jax.ffi.pycapsule(getattr(library, symbol)), platform="cpu")
    return True


def cache_directory() -> Path:
    """Where what was built is kept: `$XDG_CACHE_HOME/jaxprune/native`, by default in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxprune" / "native"


def built(directory: Path) -> Path:
    """The shared library in a directory, built if it is not there for this source, compiler, processor and jaxlib.

    Raises:
      OSError: if there is no compiler, or the directory cannot be written.
      subprocess.SubprocessError: if the compiler fails.
    """
    compiler = _compiler()
    target, macros = _target(compiler)
    headers = Path(jax.ffi.include_dir())
    told = "\0".join((compiler, *FLAGS, *target)).encode()
    files = sorted([*SOURCES.glob("*.cc"), *SOURCES.glob("*.h"), *headers.rglob("*.h")])
    name = hashlib.sha256(b"\0".join((*(file.read_bytes() for file in files), macros, told))).hexdigest()[:24]
    path = directory / f"{name}{sysconfig.get_config_var('SHLIB_SUFFIX') or '.so'}"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory) as aside:
            made = Path(aside) / path.name
            _run(compiler, *FLAGS, *target, "-isystem", str(headers), str(SOURCES / "convolution.cc"), "-o", str(made))
            made.replace(path)  # whole or not there, whoever else builds it
    return path


def _compiler() -> str:
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    for name in names:
        if path := shutil.which(name):
            return path
    raise FileNotFoundError(f"no C++ compiler ({', '.join(names)}) was found")


def _target(compiler: str) -> tuple[tuple[str, ...], bytes]:
    """The flags for this processor, and the macros by which the compiler says what it builds for."""
    for target in TARGETS:
        try:
            return target, _run(compiler, *target, "-dM", "-E", "-x", "c++", os.devnull)
        except subprocess.CalledProcessError:
            continue
    raise FileNotFoundError(f"{compiler} does not work")


def _run(*command: str) -> bytes:
    return subprocess.run(command, check=True, capture_output=True, timeout=300).stdout
