"""The published files of a run, and the marks that record them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxprune.files import MARKER, SEAL, digest_of, write_atomically

REPORT = ".published"  # the mark of a report: its grouping, its stage and the digests of its files


def read_json(path: Path) -> dict[str, Any]:
    """The values of a JSON file; none if missing or broken."""
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def read_mark(path: Path) -> dict[str, Any]:
    """The content of a mark; empty if missing, broken or unsafe."""
    values = read_json(path)
    digests = values.get("digests")
    good = isinstance(values.get("stage"), str) and isinstance(digests, dict) and all(map(_is_inside, digests))
    return values if good else {}


def _is_inside(name: str) -> bool:
    return not Path(name).is_absolute() and ".." not in Path(name).parts and "\\" not in name


def changed_files(place: Path, digests: Mapping[str, str]) -> list[str]:
    """Files of a folder that are missing or differ from their digests."""
    return [name for name, digest in digests.items() if not _fits(place / name, digest)]


def restore_config(place: Path) -> str | None:
    """Restore the config at the top of a run if changed.

    Returns:
      A line that says so; None where nothing was done.
    """
    path = place / "config.toml"
    marks = (place / REPORT, place / "theory" / REPORT)  # of the run, or of the theory alone
    stages = [stage for mark in marks if (stage := read_mark(mark).get("stage"))]
    roots = [folder for folder in (place, *list(place.parents)[:2]) if (folder / MARKER).exists()]
    if not stages or not roots:
        return None
    source = roots[0] / "stages" / Path(stages[0]).name
    digest = read_json(source / SEAL).get("config.toml", "")
    if _fits(path, digest) or not _fits(source / "config.toml", digest):
        return None
    kept = _keep_aside(path)
    write_atomically(path, (source / "config.toml").read_bytes())
    return f"{path} was {'changed' if kept else 'removed'} after the run; it is written anew{kept}"


def _keep_aside(path: Path) -> str:
    """Keep what may be somebody's changes; gives the words that say where."""
    if not path.exists():
        return ""
    aside = path.with_name("config.changed.toml")
    write_atomically(aside, path.read_bytes())
    return f" (the changed one is kept as {aside.name}; for other settings, give a config from elsewhere)"


def _fits(path: Path, digest: str) -> bool:
    try:
        return digest_of(path) == digest
    except OSError:
        return False
