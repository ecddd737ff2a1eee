"""Networks for use elsewhere: sparse arrays, and programs without jaxprune."""

from jaxprune.export.bcoo import load_bcoo, save_bcoo
from jaxprune.export.compact import kept_channels, load_compact, save_compact
from jaxprune.export.descriptions import read_description
from jaxprune.export.packed import load_packed, save_packed
from jaxprune.export.stablehlo import PLATFORMS, save_stablehlo, to_stablehlo

__all__ = [
    "PLATFORMS",
    "kept_channels",
    "load_bcoo",
    "load_compact",
    "load_packed",
    "read_description",
    "save_bcoo",
    "save_compact",
    "save_packed",
    "save_stablehlo",
    "to_stablehlo",
]
