"""Convolution that is fast in loops, over replicas and in derivatives."""

from jaxprune.models.conv.primitives import convolve

__all__ = ["convolve"]
