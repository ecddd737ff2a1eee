"""`jaxprune export`: write a network of a finished run."""

import argparse
import sys
from collections.abc import Sequence

from jaxprune.cli.settings import overrides_of
from jaxprune.text import printable


def export_network(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Write a network of a run to a file, or list all."""
    from jaxprune import jobs

    settings, run = jobs.resolve_job(options.run, overrides_of(options), None, warn=_warn)
    network = " ".join(options.network)
    from jaxprune import console

    console.start_jax()
    from jaxprune.pipeline import exporting

    if not network and options.out is None:
        titles = exporting.networks_of(settings, run)
        width = max(map(len, titles))
        sys.stdout.writelines(f"{printable(f'{key:<{width}}  {title}')}\n" for key, title in titles.items())
        return 0
    asked = {"form": options.format, "seed": options.seed, "batch": options.batch, "warn": _warn}
    made = exporting.export_network(settings, run, network, options.out, **asked)
    sizes = f"{made.size:,} bytes; {made.dense_size:,} in the arrays of the dense network"
    if made.parameters < made.dense_parameters:
        sizes = f"compact, {made.parameters:,} of {made.dense_parameters:,} parameters, {sizes}"
    sys.stdout.write(printable(f"{made.network}, seed {made.seed}: {made.path} ({sizes})") + "\n")
    return 0


def _warn(line: str) -> None:
    sys.stderr.write(f"jaxprune: warning: {printable(line)}\n")
