"""Data sets with groups: three splits of examples, each with a label, a group and a weight."""

from jaxprune.data.batching import epoch_indices, take
from jaxprune.data.companions import Companions, companions
from jaxprune.data.dataset import SPLITS, Dataset, check_split, from_arrays
from jaxprune.data.faces import FolderReport, prepare_utkface
from jaxprune.data.loading import load
from jaxprune.data.sources import KNOWN_SETS, SOURCES
from jaxprune.data.synthetic import SyntheticDesign
from jaxprune.data.table import Table

__all__ = [
    "KNOWN_SETS",
    "SOURCES",
    "SPLITS",
    "Companions",
    "Dataset",
    "FolderReport",
    "SyntheticDesign",
    "Table",
    "check_split",
    "companions",
    "epoch_indices",
    "from_arrays",
    "load",
    "prepare_utkface",
    "take",
]
