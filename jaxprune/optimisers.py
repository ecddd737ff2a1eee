"""Optimisers and learning-rate schedules, by the names that settings give them."""

import optax


def adam(rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    """Adam."""
    return optax.adam(rate)


def adamw(rate: optax.ScalarOrSchedule, *, weight_decay: float = 0.0) -> optax.GradientTransformation:
    """Adam with decoupled weight decay."""
    return optax.adamw(rate, weight_decay=weight_decay)


def sgd(
    rate: optax.ScalarOrSchedule, *, momentum: float = 0.0, weight_decay: float = 0.0
) -> optax.GradientTransformation:
    """SGD; weight decay is added to the gradient."""
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(rate, momentum=momentum or None))


def constant(rate: float, steps: int) -> float:
    """The same learning rate at every step."""
    del steps
    return rate


def cosine(rate: float, steps: int) -> optax.Schedule:
    """The learning rate falls to 0 at the last step, along a cosine."""
    return optax.cosine_decay_schedule(rate, max(steps, 1))
