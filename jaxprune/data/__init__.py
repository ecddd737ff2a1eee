"""Data sets with groups: three splits of examples, each with a label, a group and a weight."""

from jaxprune.data.batching import epoch_indices, take
from jaxprune.data.catalogue import KNOWN_SETS, KnownSet, prepared_sets
from jaxprune.data.dataset import SPLITS, Dataset, check_split, from_arrays
from jaxprune.data.folders import FolderReport, prepare_fairface, prepare_folder, prepare_utkface
from jaxprune.data.loading import load
from jaxprune.data.sources import SOURCES
from jaxprune.data.synthetic import SyntheticDesign
from jaxprune.data.table import Table

__all__ = [
    "KNOWN_SETS",
    "SOURCES",
    "SPLITS",
    "Dataset",
    "FolderReport",
    "KnownSet",
    "SyntheticDesign",
    "Table",
    "check_split",
    "epoch_indices",
    "from_arrays",
    "load",
    "prepare_fairface",
    "prepare_folder",
    "prepare_utkface",
    "prepared_sets",
    "take",
]
