"""Functions of Keras 3 on its JAX backend, where it is installed."""

import os

import numpy as np
import pytest

from foreign.registry import Foreign, made_inputs, randomised, register
from jaxprune.networks import Network


@register
def keras_images() -> Foreign:
    """Convolution, BatchNorm, depthwise convolution, pool, flatten; by `stateless_call`."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "jax":
        pytest.skip("the backend of Keras is not JAX")
    keras.config.set_floatx("float64")  # as the tests compare
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            layers.Conv2D(11, 3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, padding="same"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(13, activation="gelu"),
            layers.Dense(3),
        ]
    )

    def named(variables):
        return {f"{i:02d}_{v.path.replace('/', '_')}": np.asarray(v) for i, v in enumerate(variables)}

    params = randomised(named(model.trainable_variables), "keras_images")
    stats = {name: np.abs(value) + 0.5 for name, value in named(model.non_trainable_variables).items()}

    def apply(params, stats, x, train):
        logits, new = model.stateless_call(list(params.values()), list(stats.values()), x, training=train)
        return logits, dict(zip(stats, new, strict=True))

    x = made_inputs("keras_images", (4, 6, 6, 3))
    return Foreign("keras_images", Network(None, apply), params, stats, x, {11: 1, 13: 1}, trains=True)
