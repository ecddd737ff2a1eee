"""Data sets with groups: three splits of examples, each with a label, a group and a weight."""

from jaxprune.data.attributes import Attributes, Grouping
from jaxprune.data.augmentation import chain, horizontal_flip, random_crop
from jaxprune.data.batching import epoch_indices, take
from jaxprune.data.catalogue import prepared_sets
from jaxprune.data.companions import Companions, companions
from jaxprune.data.dataset import SPLITS, Dataset, check_split, from_arrays
from jaxprune.data.folders import FolderReport, prepare_fairface, prepare_folder, prepare_npz, prepare_utkface
from jaxprune.data.known import KNOWN_SETS, KnownSet
from jaxprune.data.loading import load
from jaxprune.data.normalisation import Normalise
from jaxprune.data.people_table import is_table_file
from jaxprune.data.records import RecordImages
from jaxprune.data.sources import SOURCES
from jaxprune.data.synthetic import SyntheticDesign
from jaxprune.data.table import Table

__all__ = [
    "KNOWN_SETS",
    "SOURCES",
    "SPLITS",
    "Attributes",
    "Companions",
    "Dataset",
    "FolderReport",
    "Grouping",
    "KnownSet",
    "Normalise",
    "RecordImages",
    "SyntheticDesign",
    "Table",
    "chain",
    "check_split",
    "companions",
    "epoch_indices",
    "from_arrays",
    "horizontal_flip",
    "is_table_file",
    "load",
    "prepare_fairface",
    "prepare_folder",
    "prepare_npz",
    "prepare_utkface",
    "prepared_sets",
    "random_crop",
    "take",
]
