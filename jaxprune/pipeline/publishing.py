"""The way of a report from its stage to the output folder, where none by other groups is ever overwritten."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxprune.files import SEAL, safe_name, write_atomically
from jaxprune.groups import same_grouping
from jaxprune.pipeline.context import Context
from jaxprune.pipeline.stage import Stage

PUBLISHED = ".published"  # beside a report: its grouping, its stage and the digests of its files


def _of_settings(values: Mapping[str, Any]) -> str:
    return values["settings"]["data"]["group"]


# The files that tell by which groups a folder reports, and how.
_TELLING: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    PUBLISHED: lambda values: values["grouping"],
    "results.json": _of_settings,
    "theory.json": _of_settings,
    "compare/comparison.json": _of_settings,
}


def place_of(root: Path, grouping: str) -> Path:
    """The folder for reports by these groups: the output folder, or one in it where reports by others lie there."""
    lies_there = _grouping_at(root)
    if lies_there is None or same_grouping(lies_there, grouping):
        return root
    return root / f"by-{safe_name(grouping)}"


def publish(context: Context, stage: Stage) -> Path:
    """Bring the files of a report to its place in the output folder, each whole, unless they lie there already.

    The mark that names the report is taken away first and set last, so that a folder with the mark never holds files
    of two reports.

    Returns:
      The place.
    """
    workspace, grouping = context.workspace, context.experiment.dataset.group_by
    source, place = workspace.folder(stage), place_of(workspace.root, grouping)
    files = [f.relative_to(source) for f in sorted(source.rglob("*")) if f.is_file()]
    files = [f for f in files if f.name not in (SEAL, "stage.json")]
    mark, before = place / PUBLISHED, _read(place / PUBLISHED)
    now = {"grouping": grouping, "stage": stage.address, "digests": json.loads((source / SEAL).read_text())}
    if before == now and all((place / f).is_file() for f in files):
        return place
    workspace.read(stage)
    place.mkdir(exist_ok=True)
    mark.unlink(missing_ok=True)
    shutil.rmtree(place / "figures", ignore_errors=True)
    for file in files:
        (place / file).parent.mkdir(exist_ok=True)
        write_atomically(place / file, (source / file).read_bytes())
    write_atomically(mark, json.dumps(now))
    earlier = before.get("stage", "")
    if earlier not in ("", stage.address) and (workspace.root / "stages" / earlier).is_dir():
        context.progress.say(f"the earlier report, of other settings, stays in {workspace.root / 'stages' / earlier}")
    return place


def _grouping_at(folder: Path) -> str | None:
    """The grouping of the reports in a folder; None where there are none."""
    for name, grouping in _TELLING.items():
        try:
            return grouping(_read(folder / name))
        except KeyError:
            continue
    return None


def _read(path: Path) -> dict[str, Any]:
    """The values of a JSON file; none where it is missing or broken."""
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
