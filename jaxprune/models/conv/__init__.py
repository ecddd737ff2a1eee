"""The convolution of the models: fast in compiled loops, over replicas, and in derivatives of every order."""

from jaxprune.models.conv.primitives import convolve

__all__ = ["convolve"]
