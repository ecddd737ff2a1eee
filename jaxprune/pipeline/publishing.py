"""Publish a report from its stage to the folder for readers.

A report by other groups is never overwritten.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxprune.files import SEAL, safe_name, write_atomically
from jaxprune.groups import same_grouping
from jaxprune.pipeline.stage import Stage
from jaxprune.pipeline.store import Store
from jaxprune.progress import Progress
from jaxprune.published import REPORT, changed_files, read_json, read_mark
from jaxprune.storage import files_in

# Kind of a report -> its folder within the output folder; the main one is at the top.
KINDS: Mapping[str, str] = {
    "report": "",
    "comparison-report": "compare",
    "criteria-report": "compare",
    "structures-report": "compare",
    "theory-page": "theory",
}


def place_of(root: Path, grouping: str, kind: str) -> Path:
    """Return the folder for a report by these groups.

    It is a folder of its own if `root` holds reports by other groups.
    """
    lies_there = _grouping_at(root)
    if lies_there is not None and not same_grouping(lies_there, grouping):
        root = root / f"by-{safe_name(grouping)}"
    return root / KINDS[kind] if KINDS[kind] else root


def publish(store: Store, stage: Stage, place: Path, grouping: str) -> None:
    """Copy a report's files to a folder for readers, each whole.

    Files that lie there as they are stay.

    The mark that names the stage is taken away first and set last, so that a folder with the mark never holds files of
    two reports. Files that were changed since they were published are reported and written anew.

    Args:
      store: With the stage, which is done.
      stage: The stage of the report.
      place: The folder.
      grouping: The grouping that the report is by.
    """
    source = store.workspace.read(stage)
    digests = {name: digest for name, digest in read_json(source / SEAL).items() if name != "stage.json"}
    now = {"grouping": grouping, "stage": stage.address, "digests": digests}
    before, wrong = read_mark(place / REPORT), changed_files(place, digests)
    changed = [name for name in changed_files(place, before.get("digests", {})) if name in digests]
    _report_changes(store.progress, place, changed)
    if before != now:
        place.mkdir(parents=True, exist_ok=True)
        (place / REPORT).unlink(missing_ok=True)
        _remove_earlier(place, before, digests)
    for name in wrong:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place / name, (source / name).read_bytes())
    if before != now:
        write_atomically(place / REPORT, json.dumps(now))
    earlier = before.get("stage", "")
    if earlier not in ("", stage.address) and (store.workspace.root / "stages" / earlier).is_dir():
        folder = store.workspace.root / "stages" / earlier
        store.progress.say(f"the earlier report, of other settings, stays in {folder}")


def _report_changes(progress: Progress, place: Path, changed: Sequence[str]) -> None:
    """Report files that are not what was published."""
    if changed:
        fault = "was changed after it was written" if (place / changed[0]).exists() else "is missing"
        more = f", and so {'were' if changed[2:] else 'was'} {len(changed) - 1} more" if changed[1:] else ""
        progress.say(f"warning: {place / changed[0]} {fault}{more}; written anew from the stage of the report")


def _remove_earlier(place: Path, before: Mapping[str, Any], digests: Mapping[str, str]) -> None:
    """Remove what would be left of an earlier report."""
    folders = {name.partition("/")[0] for name in digests if "/" in name}
    lying = {f"{folder}/{name}" for folder in folders for name in files_in(place / folder)}
    for name in (set(before.get("digests", {})) | lying) - set(digests):
        (place / name).unlink(missing_ok=True)


def _grouping_at(folder: Path) -> str | None:
    """Return the grouping of the reports in a folder, or None."""
    for place in (folder, *(folder / name for name in KINDS.values() if name)):
        for name, grouping in ((REPORT, ("grouping",)), ("results.json", ("settings", "data", "group"))):
            values: Any = read_json(place / name)
            for key in grouping:
                values = values.get(key) if isinstance(values, Mapping) else None
            if isinstance(values, str):
                return values
    return None
