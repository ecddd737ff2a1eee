"""Networks in flax NNX, and adapters to pure functions."""

from collections.abc import Mapping
from typing import Any

import jax

from jaxprune.components import NETWORKS
from jaxprune.errors import unknown
from jaxprune.models.adapters import from_callable, from_linen, from_nnx, network_of
from jaxprune.models.conv.forms import in_native_code, plain_convolutions
from jaxprune.models.convnet import ConvNet
from jaxprune.models.layouts import naming_layouts
from jaxprune.models.mlp import MLP
from jaxprune.models.mobilenet import MobileNetV2
from jaxprune.models.resnet import ResNet
from jaxprune.models.state_dict import digest, read_state_dict, to_safetensors, write_state_dict
from jaxprune.models.vgg import VGG
from jaxprune.models.vit import ViT
from jaxprune.models.weights import from_state_dict, load_weights, save_weights, select_entries, to_state_dict
from jaxprune.networks import Network
from jaxprune.states import check_key, typed_key
from jaxprune.types import Array, Params, Stats

_CHOICES = {
    "norm": ("batch", "group"),
    "stem": ("auto", "small", "large"),
    "head": ("auto", "small", "large"),
    "shortcut": ("pad", "projection"),
}
__all__ = [
    "MLP",
    "NETWORKS",
    "VGG",
    "ConvNet",
    "MobileNetV2",
    "ResNet",
    "ViT",
    "build",
    "create",
    "digest",
    "from_callable",
    "from_linen",
    "from_nnx",
    "from_state_dict",
    "in_native_code",
    "load_weights",
    "naming_layouts",
    "options_of",
    "plain_convolutions",
    "read_state_dict",
    "save_weights",
    "select_entries",
    "to_safetensors",
    "to_state_dict",
    "write_state_dict",
]


def options_of(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a model, with its defaults for the rest.

    Args:
      name: A name in `NETWORKS`.
      options: Options by name; None means the default.

    Raises:
      UserError: The model is unknown, or has no such option.
    """
    NETWORKS.check(name, where="model.name")
    options = NETWORKS.fill(name, options, section="model")
    for option, choices in _CHOICES.items():
        if option in options and options[option] not in choices:
            raise unknown(option, options[option], choices, where=f"model.{option}")
    return options


def build(name: str, sample: Array, num_classes: int, **options: Any) -> Network:
    """A network by name, not yet initialised: `network.init(key) -> (params, stats)`.

    Args:
      name: A name in `NETWORKS`.
      sample: One example, [...], or any array of its shape.
      num_classes: C.
      **options: Options of the model, such as `hidden=(64, 64)`.

    Returns:
      The network.

    Raises:
      UserError: The model is unknown, has no such option, or cannot take inputs of this shape.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxprune import models
      >>> network = models.build("mlp", jnp.zeros(4), 2, hidden=(8,))
      >>> params, stats = network.init(jax.random.key(0))
      >>> network.freeze(stats)(params, jnp.ones((5, 4))).shape
      (5, 2)
    """
    options = options_of(name, options)
    constructor = NETWORKS[name]
    return network_of(lambda rngs: constructor(sample, num_classes, rngs=rngs, **options))


def create(
    name: str, key: jax.Array, sample: Array, *, num_classes: int, **options: Any
) -> tuple[Network, Params, Stats]:
    """A network by name and its initial parameters and statistics.

    Args:
      name: A name in `NETWORKS`.
      key: One key, or R of them for R replicas: every leaf then has a leading axis R.
      sample: One example, [...].
      num_classes: C.
      **options: Options of the model.

    Returns:
      The network, params and stats.

    Raises:
      UserError: The model or an option is not known, or does not fit the sample.
    """
    network = build(name, sample, num_classes, **options)
    assert network.init is not None
    check_key(key)
    key = typed_key(key)
    params, stats = jax.jit(jax.vmap(network.init) if key.ndim else network.init)(key)
    return network, params, stats
