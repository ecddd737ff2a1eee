"""What a network costs: sizes, FLOPs, memory and measured time."""

from jaxprune.costs.programs import Forward, compile_forward, flops_of
from jaxprune.costs.sizes import Sizes, dense_bytes, packed_bytes, sizes_of
from jaxprune.costs.timing import MINIMUM_ROUNDS, Median, Timing, median_interval, time_in_turns

__all__ = [
    "MINIMUM_ROUNDS",
    "Forward",
    "Median",
    "Sizes",
    "Timing",
    "compile_forward",
    "dense_bytes",
    "flops_of",
    "median_interval",
    "packed_bytes",
    "sizes_of",
    "time_in_turns",
]
