"""Files of `jaxprune.export` that hold no plain weights.

Their headers tell them.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from jaxprune.errors import UserError
from jaxprune.models.state_dict import read_header
from jaxprune.text import name_some, printable

KEPT = "jaxprune.kept"  # where the header of a compact network has its channels
COORDINATES = "jaxprune.bcoo"  # where that of positions and values has the shapes


class Misfit(UserError):
    """Entries that are missing, surplus or of other shapes than a network's."""


@contextmanager
def naming_layouts(path: str | Path) -> Iterator[None]:
    """Say what a file is where it does not fit the network.

    Args:
      path: The file that the block reads weights from.

    Raises:
      UserError: That of the block; in the place of a `Misfit`, where the file is a compact network or holds
        coordinates, one that names what reads it.
    """
    try:
        yield
    except Misfit:
        if fault := _fault(Path(path)):
            raise UserError(fault) from None
        raise


def _fault(path: Path) -> str:
    """What a file is that holds no plain weights; empty for others."""
    try:
        header = read_header(path) if path.suffix == ".safetensors" else {}
    except Exception:  # damaged, which the error of the block says
        return ""
    where = printable(str(path))
    if KEPT in header:
        return (
            f"model.weights: {where} is a compact network, whose pruned channels are cut out{_widths(header)}; read it "
            "with export.load_compact, from the dense network, or into a network of those widths"
        )
    if COORDINATES in header:
        return f"model.weights: {where} holds positions and values, as --format bcoo; read it with export.load_bcoo"
    return ""


def _widths(header: Mapping[str, str]) -> str:
    """The first widths, such as " (7 of 16 conv_0/kernel[3] kept)"."""
    try:
        couplings = json.loads(header[KEPT])["couplings"]
        shown = [f"{len(each['channels'])} of {each['of']} {name}" for name, each in couplings.items()]
    except (ValueError, TypeError, KeyError, AttributeError):
        return ""
    return f" ({printable(name_some(shown, 3))} kept)" if shown else ""
