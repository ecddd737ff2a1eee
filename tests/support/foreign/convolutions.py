"""Convolutions of any layout, grouped, depthwise, shuffled, transposed, and what stands between them."""

import jax
import jax.numpy as jnp
from jax import lax

from foreign.registry import affine, dense, plain

_NHWC, _NCHW = ("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW")


def _conv(layer, x, *, groups=1, stride=1, layout=_NHWC):
    y = lax.conv_general_dilated(
        x, layer["kernel"], (stride, stride), "SAME", dimension_numbers=layout, feature_group_count=groups
    )
    return y + (layer["bias"][:, None, None] if layout is _NCHW else layer["bias"])


def _window(features_in, features, window=3):
    return {"kernel": (window, window, features_in, features), "bias": (features,)}


def _max_pool(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


@plain(
    x=(2, 6, 6, 4),
    shapes={"stem": _window(4, 15), "grouped": _window(3, 35), "out": affine(35, 3)},
    couplings={3: 1, 5: 1, 7: 1},
)
def channel_shuffle(params, x):
    """15 channels as 3 x 5, turned into five groups of three (ShuffleNet)."""
    h = jax.nn.relu(_conv(params["stem"], x))
    h = h.reshape(2, 6, 6, 3, 5).swapaxes(3, 4).reshape(2, 6, 6, 15)
    h = jax.nn.relu(_conv(params["grouped"], h, groups=5))
    return dense(params["out"], h.mean((1, 2)))


@plain(
    x=(2, 4, 6, 6),
    shapes={
        "stem": {"kernel": (14, 4, 3, 3), "bias": (14,)},
        "grouped": {"kernel": (21, 2, 3, 3), "bias": (21,)},
        "out": affine(21, 3),
    },
    couplings={2: 1, 7: 1, 3: 1},
)
def channel_shuffle_nchw(params, x):
    """The same with channels before pixels."""
    h = jax.nn.relu(_conv(params["stem"], x, layout=_NCHW))
    h = h.reshape(2, 2, 7, 6, 6).swapaxes(1, 2).reshape(2, 14, 6, 6)
    h = jax.nn.relu(_conv(params["grouped"], h, groups=7, layout=_NCHW))
    return dense(params["out"], h.mean((2, 3)))


@plain(
    x=(2, 5, 5, 4),
    shapes={"stem": _window(4, 14), "grouped": _window(7, 10), "out": affine(10, 3)},
    couplings={2: 1, 7: 1, 5: 1},
)
def grouped_convolution(params, x):
    """Groups, the places in a group before and behind it: spatial size and places are equal by accident."""
    h = jax.nn.relu(_conv(params["grouped"], jax.nn.relu(_conv(params["stem"], x)), groups=2))
    return dense(params["out"], h.mean((1, 2)))


@plain(
    x=(2, 6, 6, 4),
    shapes={"stem": _window(4, 11), "depthwise": _window(1, 11), "point": _window(11, 13, 1), "out": affine(13, 3)},
    couplings={11: 1, 13: 1},
)
def depthwise_separable(params, x):
    h = jax.nn.relu(_conv(params["stem"], x))
    h = _conv(params["depthwise"], h, groups=11)
    return dense(params["out"], jax.nn.relu(_conv(params["point"], h)).mean((1, 2)))


@plain(
    x=(2, 6, 6, 4),
    shapes={"stem": _window(4, 11), "depthwise": _window(1, 22), "point": _window(22, 13, 1), "out": affine(13, 3)},
    couplings={11: 1, 2: 1, 13: 1},
)
def depthwise_multiplied(params, x):
    """Two outputs for each channel: a multiplier is a coupling as well."""
    h = jax.nn.relu(_conv(params["stem"], x))
    h = jax.nn.relu(_conv(params["depthwise"], h, groups=11))
    return dense(params["out"], jax.nn.relu(_conv(params["point"], h)).mean((1, 2)))


@plain(
    x=(2, 6, 6, 3),
    shapes={"stem": _window(3, 11), "squeeze": affine(11, 5), "excite": affine(5, 11), "out": affine(11, 3)},
    couplings={11: 1, 5: 1},
)
def squeeze_excite(params, x):
    h = _conv(params["stem"], x)
    gate = jax.nn.sigmoid(dense(params["excite"], jax.nn.relu(dense(params["squeeze"], h.mean((1, 2))))))
    return dense(params["out"], jax.nn.relu(h * gate[:, None, None]).mean((1, 2)))


@plain(
    x=(2, 8, 8, 3),
    shapes={
        "outer": _window(3, 7),
        "inner": _window(7, 11),
        "up": {"kernel": (2, 2, 11, 9), "bias": (9,)},
        "last": _window(16, 13),
        "out": affine(13, 3),
    },
    couplings={7: 1, 11: 1, 9: 1, 13: 1},
)
def unet(params, x):
    """Down by a pool, up by a transposed convolution, beside what was there before."""
    outer = jax.nn.relu(_conv(params["outer"], x))
    inner = jax.nn.relu(_conv(params["inner"], _max_pool(outer)))
    up = lax.conv_transpose(inner, params["up"]["kernel"], (2, 2), "SAME") + params["up"]["bias"]
    h = _conv(params["last"], jnp.concatenate([jax.nn.relu(up), outer], -1))
    return dense(params["out"], jax.nn.relu(h).mean((1, 2)))


@plain(
    x=(2, 8, 8, 3),
    shapes={"outer": _window(3, 7), "inner": _window(7, 11), "last": _window(18, 13), "out": affine(13, 3)},
    couplings={7: 1, 11: 1, 13: 1},
)
def unet_by_resizing(params, x):
    """Up by repetition in one axis and interpolation in the other."""
    outer = jax.nn.relu(_conv(params["outer"], x))
    inner = jnp.repeat(jax.nn.relu(_conv(params["inner"], _max_pool(outer))), 2, axis=1)
    up = jax.image.resize(inner, (2, 8, 8, 11), "bilinear")
    h = _conv(params["last"], jnp.concatenate([up, outer], -1))
    return dense(params["out"], jax.nn.relu(h).mean((1, 2)))


@plain(x=(2, 6, 6, 3), shapes={"conv": _window(3, 7), "out": affine(63, 3)}, couplings={7: 1})
def flattened(params, x):
    """Channel i lies at i + 7 j in the head."""
    return dense(params["out"], _max_pool(jax.nn.relu(_conv(params["conv"], x))).reshape(2, 63))


@plain(
    x=(2, 3, 4, 4),
    shapes={"conv": {"kernel": (7, 3, 3, 3), "bias": (7,)}, "out": affine(112, 3)},
    couplings={7: 1},
)
def flattened_nchw(params, x):
    """Channel i lies at 16 i + j in the head."""
    return dense(params["out"], jax.nn.relu(_conv(params["conv"], x, layout=_NCHW)).reshape(2, 112))


@plain(
    x=(2, 4, 4, 3),
    shapes={"conv": _window(3, 28), "last": _window(7, 11), "out": affine(11, 3)},
    couplings={7: 1, 11: 1},
)
def pixel_shuffle(params, x):
    """28 channels become 2 x 2 pixels of 7: the pixels are pinned."""
    h = jax.nn.relu(_conv(params["conv"], x)).reshape(2, 4, 4, 2, 2, 7)
    h = h.transpose(0, 1, 3, 2, 4, 5).reshape(2, 8, 8, 7)
    return dense(params["out"], jax.nn.relu(_conv(params["last"], h)).mean((1, 2)))


@plain(
    x=(2, 5, 5, 3),
    shapes={"conv": _window(3, 11), "last": _window(11, 13), "out": affine(13, 3)},
    couplings={13: 1},
    pinned=(("conv/kernel", 3), ("last/kernel", 2)),
)
def local_response_norm(params, x):
    """A window over neighbouring channels (AlexNet)."""
    h = _conv(params["conv"], x)
    near = lax.reduce_window(h * h, 0.0, lax.add, (1, 1, 1, 5), (1, 1, 1, 1), "SAME")
    h = jax.nn.relu(h / (2 + near) ** 0.75)
    return dense(params["out"], jax.nn.relu(_conv(params["last"], h)).mean((1, 2)))


@plain(
    x=(2, 5, 5, 3),
    shapes={"conv": _window(3, 11), "scale": (11,), "shift": (11,), "last": _window(11, 13), "out": affine(13, 3)},
    couplings={11: 1, 13: 1},
)
def instance_norm(params, x):
    """Two passes over pixels, not over channels."""
    h = _conv(params["conv"], x)
    h = (h - h.mean((1, 2), keepdims=True)) * lax.rsqrt(h.var((1, 2), keepdims=True) + 1e-5)
    h = jax.nn.relu(h * params["scale"] + params["shift"])
    h = lax.reduce_window(h, 0.0, lax.add, (1, 3, 3, 1), (1, 2, 2, 1), "SAME") / 9
    return dense(params["out"], jax.nn.relu(_conv(params["last"], h)).mean((1, 2)))


@plain(
    x=(3, 12, 2),
    shapes={
        "stem": affine(2, 11),
        "layers": [{"filter": (2, 11, 26), "residual": affine(13, 11), "skip": affine(13, 17)} for _ in range(2)],
        "out": affine(17, 3),
    },
    couplings={11: 1, 13: 2, 17: 1},
)
def wavenet(params, x):
    """Causal dilated convolutions in one dimension, gated, with residual and skip sums."""
    h, skips = dense(params["stem"], x), 0
    for dilation, layer in zip((1, 2), params["layers"], strict=True):
        both = lax.conv_general_dilated(
            h, layer["filter"], (1,), [(dilation, 0)], rhs_dilation=(dilation,), dimension_numbers=("NWC", "WIO", "NWC")
        )
        gated = jnp.tanh(both[..., :13]) * jax.nn.sigmoid(both[..., 13:])
        h, skips = h + dense(layer["residual"], gated), skips + dense(layer["skip"], gated)
    return dense(params["out"], jax.nn.relu(skips).mean(1))
