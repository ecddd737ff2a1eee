"""Gates, residual sums, concatenations and mixtures of vectors."""

import jax
import jax.numpy as jnp

from foreign.registry import affine, dense, plain


@plain(x=(7, 5), shapes={"up": affine(5, 22), "out": affine(11, 3)}, couplings={11: 1})
def glu_by_split(params, x):
    value, gate = jnp.split(dense(params["up"], x), 2, axis=-1)
    return dense(params["out"], value * jax.nn.sigmoid(gate))


@plain(  # the batch is as large as the hidden layer
    x=(11, 5),
    shapes={"up": affine(5, 22), "second": affine(11, 13), "out": affine(13, 3)},
    couplings={11: 1, 13: 1},
)
def glu_by_slices(params, x):
    both = dense(params["up"], x)
    hidden = both[:, :11] * jax.nn.gelu(both[:, 11:])
    return dense(params["out"], jax.nn.relu(dense(params["second"], hidden)))


@plain(  # batch and both hidden widths are equal by accident
    x=(7, 5),
    shapes={"first": affine(5, 7), "second": affine(12, 7), "out": affine(19, 3)},
    couplings={7: 2},
    pinned=(("first/kernel", 0), ("out/kernel", 1)),
)
def densenet(params, x):
    """Each layer sees the inputs and all layers before it."""
    once = jnp.concatenate([x, jax.nn.relu(dense(params["first"], x))], -1)
    twice = jnp.concatenate([once, jax.nn.relu(dense(params["second"], once))], -1)
    return dense(params["out"], twice)


@plain(
    x=(7, 5),
    shapes={
        "stem": affine(5, 11),
        "gate": affine(11, 4),
        "up": {"kernel": (4, 11, 13), "bias": (4, 13)},
        "down": {"kernel": (4, 13, 11), "bias": (4, 11)},
        "out": affine(11, 3),
    },
    couplings={11: 1, 13: 1},
    pinned=(("gate/kernel", 1), ("up/kernel", 0), ("down/bias", 0)),
)
def mixture_of_experts(params, x):
    """All experts, weighted by a softmax, which pins their number."""
    h = jax.nn.relu(dense(params["stem"], x))
    weights = jax.nn.softmax(dense(params["gate"], h))
    up = jax.nn.gelu(jnp.einsum("bf,efh->beh", h, params["up"]["kernel"]) + params["up"]["bias"])
    down = jnp.einsum("beh,ehf->bef", up, params["down"]["kernel"]) + params["down"]["bias"]
    return dense(params["out"], h + jnp.einsum("bef,be->bf", down, weights))


@plain(
    x=(4, 5),
    shapes={"first": {"kernel": (4, 5, 11), "bias": (4, 11)}, "last": {"kernel": (4, 11, 3), "bias": (3,)}},
    couplings={4: 1, 11: 1},
)
def ensemble(params, x):
    """Four members, as many as examples; a member is cut like a channel."""
    h = jax.vmap(lambda layer: jax.nn.relu(dense(layer, x)))(params["first"])
    return jnp.einsum("ebh,ehc->bc", h, params["last"]["kernel"]) / 4 + params["last"]["bias"]


@plain(
    x=(6, 5),
    shapes={"stem": affine(5, 11), "condition": affine(5, 13), "modulate": affine(13, 22), "out": affine(11, 3)},
    couplings={11: 1, 13: 1},
)
def film(params, x):
    """Feature-wise scale and shift, made by another branch."""
    scale, shift = jnp.split(dense(params["modulate"], jnp.tanh(dense(params["condition"], x))), 2, -1)
    return dense(params["out"], jax.nn.silu(dense(params["stem"], x) * (1 + scale) + shift))


@plain(
    x=(6, 5),
    shapes={"stem": affine(5, 7), "block": affine(7, 13), "out": affine(13, 3)},
    couplings={2: 1, 7: 1, 4: 1},
)
def padded_shortcut(params, x):
    """A shortcut that zeros make wider on both sides: three couplings on one axis."""
    h = jax.nn.relu(dense(params["stem"], x))
    h = jnp.pad(h, ((0, 0), (2, 4))) + dense(params["block"], h)
    return dense(params["out"], jax.nn.relu(h))


@plain(
    x=(6, 5),
    shapes={"stem": affine(5, 11), "out": affine(17, 3)},
    couplings={11: 1},
)
def padded_before_the_head(params, x):
    """Zeros that no parameter makes are no channels."""
    return dense(params["out"], jnp.pad(jax.nn.relu(dense(params["stem"], x)), ((0, 0), (2, 4))))


@plain(
    x=(3, 7, 5),
    shapes={
        "stem": affine(5, 11),
        "tokens": {"up": affine(7, 13), "down": affine(13, 7)},
        "channels": {"up": affine(11, 17), "down": affine(17, 11)},
        "out": affine(11, 3),
    },
    couplings={11: 1, 13: 1, 17: 1},
    pinned=(("tokens/up/kernel", 0), ("tokens/down/kernel", 1)),
)
def mixer(params, x):
    """Perceptrons over tokens and over channels in turn (MLP-Mixer); the tokens are those of the inputs."""
    h = dense(params["stem"], x)
    mixed = dense(params["tokens"]["down"], jax.nn.gelu(dense(params["tokens"]["up"], h.swapaxes(1, 2))))
    h = h + mixed.swapaxes(1, 2)
    h = h + dense(params["channels"]["down"], jax.nn.gelu(dense(params["channels"]["up"], h)))
    return dense(params["out"], h.mean(1))


@plain(
    x=(6, 8),
    vocabulary=17,
    shapes={"embedding": (17, 11), "up": affine(11, 13), "down": affine(13, 11)},
    couplings={11: 1, 13: 1},
    pinned=(("embedding", 0),),
)
def tied_embeddings(params, x):
    """The table of tokens is the head as well."""
    h = jnp.take(params["embedding"], x, axis=0).mean(1)
    h = h + dense(params["down"], jax.nn.gelu(dense(params["up"], h)))
    return h @ params["embedding"].T


@plain(x=(6, 5), shapes={"stem": affine(5, 11), "out": affine(22, 3)}, couplings={11: 1})
def fourier_features(params, x):
    """The cosine of a channel that is cut is 1, and its weights are cut as well."""
    h = dense(params["stem"], x)
    return dense(params["out"], jnp.concatenate([jnp.sin(h), jnp.cos(h)], -1))


@plain(x=(6, 5), shapes={"stem": affine(5, 15), "out": affine(15, 3)}, couplings={5: 1})
def rolled_residual(params, x):
    """Channel i is added to channels i + 5 and i + 10: five channels of three places."""
    h = dense(params["stem"], x)
    return dense(params["out"], jax.nn.relu(h + jnp.roll(h, 5, axis=1)))


@plain(
    x=(6, 5),
    shapes=[affine(5, 11), {"shared": [(11, 11), (11,)]}, affine(11, 3)],
    couplings={11: 1},
)
def shared_layer(params, x):
    """A layer that is used twice, in parameters that are a list."""
    first, (kernel, bias), last = params[0], params[1]["shared"], params[2]
    h = dense(first, x)
    for _ in range(2):
        h = h + jnp.tanh(h @ kernel + bias)
    return dense(last, h)


@plain(
    x=(6, 5),
    shapes={"stem": affine(5, 11), "second": affine(11, 11), "third": affine(11, 11), "out": affine(11, 3)},
    couplings={11: 3},
)
def equal_widths(params, x):
    """Three unrelated layers of one width."""
    h = jax.nn.relu(dense(params["stem"], x))
    h = jax.nn.relu(dense(params["second"], h))
    return dense(params["out"], jax.nn.relu(dense(params["third"], h)))
