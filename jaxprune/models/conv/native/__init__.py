"""The convolution for CPUs in C++, built on first use.

XLA's own forms of a 3x3 convolution are slow in compiled loops on a CPU. Where there is a C++ compiler, convolution.cc
is built for the very processor at its first use, some five seconds, and kept in the user's cache directory; where there
is none, or the build fails, the forms in XLA's terms are taken. `JAXPRUNE_NATIVE=0` asks for those.
"""

import functools
import logging
import os
import subprocess
import threading
from typing import Any

import jax
import numpy as np
from jax import Array

from jaxprune.cache import Exposed
from jaxprune.models.conv.native import library

NAMES = ("convolution", "image_transpose", "kernel_transpose")
_TARGET = "jaxprune_{}"
_log = logging.getLogger(__name__)
_lock = threading.Lock()


def available() -> bool:
    """Return True if the C++ convolution can be called.

    The first call builds and loads it.
    """
    with _lock:
        return _registered()


def in_use() -> bool:
    """Return True if the library is loaded; nothing is built."""
    return _registered.cache_info().currsize > 0 and available()


def call(name: str, shape: tuple[int, ...], left: Array, right: Array, *, stride: int, padding: int) -> Array:
    """Call one of the functions defined at the top of convolution.cc.

    Args:
      name: "convolution", "image_transpose" or "kernel_transpose".
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
    symbols = tuple(map(_TARGET.format, NAMES))
    try:
        loaded = library.load(symbols)
    except FileNotFoundError as error:
        _log.info("convolutions go by XLA's own forms: %s", error)
        return False
    except (library.Unfit, Exposed, OSError, subprocess.SubprocessError) as error:
        _log.warning("convolutions go by XLA's own forms, as the C++ one cannot be used: %s", error)
        return False
    for symbol in symbols:
        jax.ffi.register_ffi_target(symbol, jax.ffi.pycapsule(getattr(loaded, symbol)), platform="cpu")
    return True
