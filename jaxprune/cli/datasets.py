"""`jaxprune datasets`: list, show and prepare data sets."""

import argparse
from collections.abc import Sequence

from jaxprune import config
from jaxprune.cli.arguments import PREPARE_FLAGS
from jaxprune.cli.settings import overrides_of
from jaxprune.errors import UserError
from jaxprune.storage import local
from jaxprune.text import path_fault, shortened

_PATHS = ("directory", "table", "npz")


def list_sets(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """List the data sets."""
    settings = config.load(None, overrides_of(options))
    from jaxprune import console

    console.list_datasets(settings.data)
    return 0


def show_set(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Show the counts of a data set and draw its contact sheet."""
    settings = config.load(None, overrides_of(options) | {"data.name": _name(options, "show")})
    from jaxprune import console
    from jaxprune.pipeline.build import load_data

    console.show_dataset(load_data(settings.data), options.sheet and _path(options.sheet, "sheet"))
    return 0


def prepare_set(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Build a data set."""
    name = _name(options, "prepare")
    settings = config.load(None, overrides_of(options) | {"data.name": name})
    if options.directory is None and options.npz is None and options.table is None:
        raise UserError(
            "datasets prepare: --directory is missing; give the folder of the published files or images (or --npz)"
        )
    from jaxprune import console

    flags = {flag: getattr(options, flag.replace("-", "_")) for flag in PREPARE_FLAGS}
    flags |= {flag: _path(flags[flag], flag) for flag in _PATHS if flags[flag] is not None}
    console.prepare_dataset(name, settings.data, flags)
    return 0


def _name(options: argparse.Namespace, action: str) -> str:
    if options.name is None:
        raise UserError(f"datasets {action}: give the name of one data set")
    return options.name


def _path(text: str, flag: str) -> str:
    """Return the path on this machine that a flag names."""
    if fault := path_fault(text):
        raise UserError(f"--{flag} {shortened(text, 60)}: {fault}; give another one")
    return local(text, f"--{flag}")
