"""Readers of the data that comes with the package; SOURCES.md beside this file says where it is from."""

from importlib import resources
from typing import Any

import numpy as np

from jaxprune.data.splitting import stratified
from jaxprune.data.table import Table

_LOG_SCALED = ("capital-gain", "capital-loss")  # most are 0, the rest span four orders of magnitude
_LEFT_OUT = ("fnlwgt",)  # the weight of a row in the census sample, not a fact about the person


def adult() -> Table:
    """Adult census income: 48,842 people, label income, attributes race and sex and the categorical inputs.

    Inputs are the numeric columns (all but the sampling weight; capital gain and loss as log(1 + v)) and the
    categorical ones as one-hot columns, in which a missing value is a category of its own. Race and sex are not
    among the inputs.
    """
    z = _read("adult.npz")
    names = [str(n) for n in z["numeric_names"]]
    keep = [i for i, n in enumerate(names) if n not in _LEFT_OUT]
    numeric = z["numeric"].astype(np.float32)
    for i, n in enumerate(names):
        if n in _LOG_SCALED:
            numeric[:, i] = np.log1p(numeric[:, i])
    numeric = numeric[:, keep]
    categorical = {
        str(n): (z["categorical"][:, i], tuple(map(str, z["vocab_" + str(n).replace("-", "_")])))
        for i, n in enumerate(z["categorical_names"])
    }
    one_hot = [np.eye(len(words), dtype=np.float32)[codes] for codes, words in categorical.values()]
    x = np.concatenate([numeric, *one_hot], axis=1)
    people = {n: (z[n], tuple(map(str, z[f"{n}_names"]))) for n in ("race", "sex")}
    return Table(
        x=x,
        labels={"income": (z["label"], tuple(map(str, z["label_names"]))), **people},
        attributes={**people, **categorical},
        stratify=(z["race"], z["sex"]),
        split=z["split"],
        standardise=np.arange(x.shape[1]) < numeric.shape[1],
        provenance=str(z["provenance"]),
    )


def digits() -> Table:
    """Handwritten digits: 1,797 images of 8x8 grey values, the ten classes being the groups as well.

    The images come without a split; 30 % are the test split, cut evenly from the classes.
    """
    z = _read("digits.npz")
    column = (z["label"], tuple(str(n) for n in range(10)))
    return Table(
        x=z["image"].astype(np.uint8)[..., None],
        labels={"digit": column},
        attributes={"digit": column},
        stratify=(),
        split=stratified(z["label"], 0.3).astype(np.uint8),
        standardise=None,
        provenance=str(z["provenance"]),
    )


def _read(file: str) -> dict[str, Any]:
    with resources.files("jaxprune.data.bundled").joinpath(file).open("rb") as f, np.load(f) as z:
        return dict(z)
