"""Adult census income, from the package."""

import numpy as np

from jaxprune.data.raw import RawData
from jaxprune.data.sources.bundled import read_bundled

_LOG_SCALED = ("capital-gain", "capital-loss")  # most are 0, the rest span four orders of magnitude
_LEFT_OUT = ("fnlwgt",)  # the weight of a row in the census sample, not a fact about the person


def read_adult() -> RawData:
    """Read Adult census income: 48,842 people.

    The label is income, attributes are race, sex and the categorical inputs. Inputs are the numeric columns (all but
    the sampling weight; capital gain and loss as log(1 + v)) and the categorical ones as one-hot columns, in which a
    missing value is a category of its own. Race and sex are not among the inputs.
    """
    z = read_bundled("adult.npz")
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
    return RawData(
        x=x,
        labels={"income": (z["label"], tuple(map(str, z["label_names"]))), **people},
        attributes={**people, **categorical},
        stratify=(z["race"], z["sex"]),
        split=z["split"],
        standardise=np.arange(x.shape[1]) < numeric.shape[1],
        provenance=str(z["provenance"]),
    )
