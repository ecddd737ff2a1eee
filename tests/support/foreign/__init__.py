"""Small networks that jaxprune has never seen; `NETWORKS` names them all."""

from foreign import (
    attention,
    channel_mixing,
    control_flow,
    convolutions,
    derivative_rules,
    equinox_modules,
    keras_functions,
    linen_modules,
    nnx_modules,
    normalisation,
    pinning,
    recurrence,
    reshapes,
    weight_functions,
)
from foreign.registry import NETWORKS, Foreign

__all__ = [
    "NETWORKS",
    "Foreign",
    "attention",
    "channel_mixing",
    "control_flow",
    "convolutions",
    "derivative_rules",
    "equinox_modules",
    "keras_functions",
    "linen_modules",
    "nnx_modules",
    "normalisation",
    "pinning",
    "recurrence",
    "reshapes",
    "weight_functions",
]
