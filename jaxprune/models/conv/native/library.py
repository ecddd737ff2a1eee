"""Builds, caches, verifies and loads the C++ convolution library."""

import ctypes
import hashlib
import logging
import os
import shutil
import signal
import subprocess
import sysconfig
import tempfile
from pathlib import Path

import jax

from jaxprune.cache import cache_folder, check_owner

SOURCES = Path(__file__).parent  # convolution.cc and the headers beside it
FLAGS = ("-std=c++17", "-O3", "-ffp-contract=fast", "-fPIC", "-shared", "-w")
# Compiler flags, most specific first: the native CPU, vectors of full width where gcc prefers half, and products and
# sums fused in every loop: the number of threads decides which loop computes a tile, and must not change results.
_WIDE = ("-march=native", "-mprefer-vector-width=512")
TARGETS = ((*_WIDE, "--param=avoid-fma-max-bits=0"), _WIDE, ("-march=native",), ("-mcpu=native",), ())
ASK_SECONDS, BUILD_SECONDS = 20, 180  # it takes a tenth of a second and some five
_log = logging.getLogger(__name__)


class Unfit(Exception):
    """The library cannot be loaded, or lacks a function."""


def load(symbols: tuple[str, ...]) -> ctypes.CDLL:
    """Build the library if it is not kept, and load it.

    Where nothing can be kept, or others could change it, it is built in a temporary folder, for this process alone.

    Args:
      symbols: The functions that it must have.

    Returns:
      The library, with all of them.

    Raises:
      Unfit: What was built cannot be loaded.
      Exposed: Others could have written what is kept.
      OSError: There is no compiler, or nothing can be written.
      subprocess.SubprocessError: The compiler fails or takes too long.
    """
    folder = cache_folder("native")
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="jaxprune-", ignore_cleanup_errors=True) as aside:
            return _opened(built(Path(aside)), symbols)
    path = built(folder)
    try:
        return _opened(path, symbols)
    except Unfit as error:
        _log.warning("%s; it is built anew", error)
        path.unlink(missing_ok=True)
        return _opened(built(folder), symbols)


def built(folder: Path) -> Path:
    """The shared library in a folder, built if it is not there.

    The name of the file ends with the digest of its content: one that is damaged is removed and built again.

    Raises:
      Exposed: Others could have written the folder or the library.
      OSError: There is no compiler, or the folder cannot be written.
      subprocess.SubprocessError: The compiler fails or takes too long.
    """
    check_owner(folder)
    compiler = _compiler()
    target, macros = _target(compiler)
    headers = Path(jax.ffi.include_dir())
    command = "\0".join((compiler, *FLAGS, *target)).encode()
    files = sorted([*SOURCES.glob("*.cc"), *SOURCES.glob("*.h"), *headers.rglob("*.h")])
    name = hashlib.sha256(b"\0".join((*(file.read_bytes() for file in files), macros, command))).hexdigest()[:24]
    suffix = sysconfig.get_config_var("SHLIB_SUFFIX") or ".so"
    for path in sorted(folder.glob(f"{name}-*{suffix}")):
        check_owner(path)
        if path.stem == f"{name}-{_digest(path)}":
            return path
        _log.warning("%s is truncated or altered; it is built anew", path)
        path.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        library = Path(aside) / f"library{suffix}"
        source = str(SOURCES / "convolution.cc")
        _run(BUILD_SECONDS, compiler, *FLAGS, *target, "-isystem", str(headers), source, "-o", str(library))
        library.chmod(0o700)
        path = folder / f"{name}-{_digest(library)}{suffix}"
        library.replace(path)  # whole or not there, whoever else builds it
    return path


def _opened(path: Path, symbols: tuple[str, ...]) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise Unfit(f"{path} cannot be loaded ({error})") from None
    for symbol in symbols:
        if not hasattr(library, symbol):
            raise Unfit(f"{path} lacks the function {symbol}")
    return library


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _compiler() -> str:
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    for name in names:
        if path := shutil.which(name):
            return path
    raise FileNotFoundError(f"no C++ compiler ({', '.join(names)}) was found")


def _target(compiler: str) -> tuple[tuple[str, ...], bytes]:
    """The flags for this processor, and the compiler's predefined macros."""
    for target in TARGETS:
        try:
            return target, _run(ASK_SECONDS, compiler, *target, "-dM", "-E", "-x", "c++", os.devnull)
        except subprocess.CalledProcessError:
            continue
    raise FileNotFoundError(f"{compiler} does not work")


def _run(seconds: float, *command: str) -> bytes:
    """Run a command and return its output; kill it at the timeout."""
    quiet, pipe = subprocess.DEVNULL, subprocess.PIPE
    with subprocess.Popen(command, stdin=quiet, stdout=pipe, stderr=pipe, start_new_session=True) as process:
        try:
            output, complaints = process.communicate(timeout=seconds)
        except BaseException:
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output, complaints)
    return output
