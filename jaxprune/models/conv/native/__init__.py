"""The convolution for CPUs in C++, built once on the machine that it runs on.

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

from jaxprune.cache import Exposed
from jaxprune.models.conv.native import library
from jaxprune.types import Array

NAMES = ("convolution", "image_transpose", "kernel_transpose")
_TARGET = "jaxprune_{}"
_log = logging.getLogger(__name__)
_lock = threading.Lock()


def available() -> bool:
    """Whether the convolution in C++ can be called; builds and loads it when first asked."""
    with _lock:
        return _registered()


def in_use() -> bool:
    """Whether it is loaded; nothing is built."""
    return _registered.cache_info().currsize > 0 and available()


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
