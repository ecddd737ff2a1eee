"""The form of convolution, part of a stage's address."""

from weakref import WeakKeyDictionary

import jax

from jaxprune import models
from jaxprune.pipeline.experiment import Experiment
from jaxprune.pipeline.stage import Stage
from jaxprune.pipeline.store import Store

_KEY, _NATIVE = "convolutions", "C++"
_has_windows: WeakKeyDictionary[Experiment, bool] = WeakKeyDictionary()


def form_of(experiment: Experiment) -> dict[str, str]:
    """Return the part of a stage's address that names the convolution."""
    if experiment not in _has_windows:
        assert experiment.network.init is not None
        params, _ = jax.eval_shape(experiment.network.init, jax.random.key(0))
        _has_windows[experiment] = any(p.ndim == 4 and max(p.shape[:2]) > 1 for p in jax.tree.leaves(params))
    return {_KEY: _NATIVE} if _has_windows[experiment] and models.in_native_code() else {}


def say_other_form(store: Store, stage: Stage) -> None:
    """Say that the same networks exist, made with another convolution."""
    settings = dict(stage.settings)
    now, before = ("with", "without") if settings.pop(_KEY, None) else ("without", "with")
    other = Stage(stage.name, settings if now == "with" else {**settings, _KEY: _NATIVE}, stage.parents)
    if store.workspace.done(other) and not store.workspace.done(stage):
        store.progress.say(
            f"{other.address} was made {before} the convolution in C++, whose last bits differ; this is made {now} it"
        )
