"""Data sets with groups, in three splits."""

from jaxprune.data.attributes import Attributes, Grouping
from jaxprune.data.augmentation import chain, horizontal_flip, random_crop
from jaxprune.data.batching import epoch_indices, select, take
from jaxprune.data.dataset import SPLITS, Dataset, check_split, from_arrays
from jaxprune.data.loading import load
from jaxprune.data.normalisation import Normalise
from jaxprune.data.prepare import FolderReport, prepare_fairface, prepare_folder, prepare_npz, prepare_utkface
from jaxprune.data.raw import RawData
from jaxprune.data.record_images import RecordImages
from jaxprune.data.sources import SOURCES, installed_sets, prepared_sets
from jaxprune.data.sources.catalogue import CATALOGUE, CatalogueEntry
from jaxprune.data.sources.people import is_table_file
from jaxprune.data.sources.synthetic import SyntheticDesign
from jaxprune.data.training_rows import IndexedBatch, indexed_batch

__all__ = [
    "CATALOGUE",
    "SOURCES",
    "SPLITS",
    "Attributes",
    "CatalogueEntry",
    "Dataset",
    "FolderReport",
    "Grouping",
    "IndexedBatch",
    "Normalise",
    "RawData",
    "RecordImages",
    "SyntheticDesign",
    "chain",
    "check_split",
    "epoch_indices",
    "from_arrays",
    "horizontal_flip",
    "indexed_batch",
    "installed_sets",
    "is_table_file",
    "load",
    "prepare_fairface",
    "prepare_folder",
    "prepare_npz",
    "prepare_utkface",
    "prepared_sets",
    "random_crop",
    "select",
    "take",
]
