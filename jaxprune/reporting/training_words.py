"""What training began from, and what pruned networks went back to."""

from pathlib import PurePath

import numpy as np

from jaxprune.numbers import percent
from jaxprune.results import Results


def began_from(results: Results) -> str:
    """A sentence on the file that training began from; empty for none."""
    model = results.settings["model"]
    if not model.get("weights"):
        return ""
    head = ", with a new last layer" if model.get("new_head") else ""
    text = f"Training began from the file {PurePath(model['weights']).name}{head}"
    if not model.get("keep_zeros"):
        return f"{text}. "
    layers = results.dense.layers
    size = sum(layer["size"] for layer in layers)
    zeros = 1 - sum(float(np.mean(layer["kept"])) for layer in layers) / size if size else None
    share = "" if zeros is None else f" ({percent(zeros)} of the weights that may be pruned)"
    return f"{text}, whose zeros were held at 0{share}: the dense networks are sparse already. "


def retraining_epochs(results: Results) -> int:
    """The epochs of retraining; those that are left after rewinding."""
    retrain = results.settings["retrain"]
    if retrain.get("rewind_learning_rate"):
        return results.settings["train"]["epochs"] - retrain["rewind"]
    return retrain["epochs"]


def rewound(results: Results) -> str:
    """A sentence on the weights that retraining began with; may be empty."""
    retrain = results.settings["retrain"]
    epoch = retrain.get("rewind", -1)
    if epoch < 0 or not (results.methods or results.settings["prune"]["schedule"] == "iterative"):
        return ""
    place = f"epoch {epoch} of the dense training" if epoch else "the initial weights of the dense training"
    text = f"Before each retraining, the kept weights were set back to {place}"
    if retrain.get("rewind_learning_rate"):
        text += f", and its learning rates were repeated{' from that epoch on' if epoch else ''}"
    return f"{text}. "
