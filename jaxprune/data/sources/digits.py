"""Handwritten digits, from the package."""

import numpy as np

from jaxprune.data.raw import RawData
from jaxprune.data.sources.bundled import read_bundled
from jaxprune.data.splitting import stratified


def read_digits() -> RawData:
    """Read 1,797 images of handwritten digits.

    They are 8x8 grey values; the ten classes are the groups as well. The images come without a split; 30 % are the test
    split, cut evenly from the classes.
    """
    z = read_bundled("digits.npz")
    column = (z["label"], tuple(str(n) for n in range(10)))
    return RawData(
        x=z["image"].astype(np.uint8)[..., None],
        labels={"digit": column},
        attributes={"digit": column},
        stratify=(),
        split=stratified(z["label"], 0.3).astype(np.uint8),
        standardise=None,
        provenance=str(z["provenance"]),
    )
