"""Data files that come with the package.

Their origin is in data/bundled/SOURCES.md.
"""

from importlib import resources
from typing import Any

import numpy as np


def read_bundled(file: str) -> dict[str, Any]:
    """Read the arrays of a bundled npz file."""
    with resources.files("jaxprune.data").joinpath("bundled", file).open("rb") as f, np.load(f) as z:
        return dict(z)
