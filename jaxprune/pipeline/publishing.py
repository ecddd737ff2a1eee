"""The way of a report from its stage to the output folder, where none by other groups is ever overwritten."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxprune.files import SEAL, safe_name, write_atomically
from jaxprune.groups import same_grouping
from jaxprune.pipeline.context import Context
from jaxprune.pipeline.stage import Stage
from jaxprune.published import REPORT, changed_files, read_json, read_mark
from jaxprune.storage import files_in


def _of_settings(values: Mapping[str, Any]) -> str:
    return values["settings"]["data"]["group"]


# The files that tell by which groups a folder reports, and how.
_TELLING: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    REPORT: lambda values: values["grouping"],
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


def publish_report(context: Context, stage: Stage) -> Path:
    """Bring the files of a report to its place in the output folder.

    Returns:
      The place.
    """
    workspace, grouping = context.workspace, context.experiment.dataset.group_by
    place = place_of(workspace.root, grouping)
    earlier = publish(context, stage, place, REPORT)
    if earlier not in ("", stage.address) and (workspace.root / "stages" / earlier).is_dir():
        context.progress.say(f"the earlier report, of other settings, stays in {workspace.root / 'stages' / earlier}")
    return place


def publish(
    context: Context, stage: Stage, place: Path, mark: str, name_of: Callable[[str], str | None] = lambda name: name
) -> str:
    """Bring the files of a stage to a folder for readers, each whole, unless they lie there as they are.

    The mark that names the stage is taken away first and set last, so that a folder with the mark never holds files of
    two reports. Files that were changed since they were published are said and written anew.

    Args:
      context: The surroundings.
      stage: The stage, which is done.
      place: The folder.
      mark: The name of the mark.
      name_of: The name of a file of the stage in the folder; None for one that stays in the stage.

    Returns:
      The stage that was published there before; empty where none was.
    """
    source = context.workspace.read(stage)
    sealed = json.loads((source / SEAL).read_bytes())
    files = {name: file for file in sealed if file != "stage.json" and (name := name_of(file)) is not None}
    digests = {name: sealed[file] for name, file in files.items()}
    now = {"grouping": context.experiment.dataset.group_by, "stage": stage.address, "digests": digests}
    before, wrong = read_mark(place / mark), changed_files(place, digests)
    _tell_changes(context, place, [name for name in changed_files(place, before.get("digests", {})) if name in digests])
    if before != now:
        place.mkdir(parents=True, exist_ok=True)
        (place / mark).unlink(missing_ok=True)
        _remove_earlier(place, before, digests)
    for name in wrong:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place / name, (source / files[name]).read_bytes())
    if before != now:
        write_atomically(place / mark, json.dumps(now))
    return before.get("stage", "")


def _tell_changes(context: Context, place: Path, changed: Sequence[str]) -> None:
    """Say that files are not what was published."""
    if changed:
        fault = "was changed after it was written" if (place / changed[0]).exists() else "is missing"
        more = f", and so {'were' if changed[2:] else 'was'} {len(changed) - 1} more" if changed[1:] else ""
        context.progress.say(f"warning: {place / changed[0]} {fault}{more}; written anew from the stage of the report")


def _remove_earlier(place: Path, before: Mapping[str, Any], digests: Mapping[str, str]) -> None:
    """Remove what would be left of an earlier report."""
    folders = {name.partition("/")[0] for name in digests if "/" in name}
    lying = {f"{folder}/{name}" for folder in folders for name in files_in(place / folder)}
    for name in (set(before.get("digests", {})) | lying) - set(digests):
        (place / name).unlink(missing_ok=True)


def _grouping_at(folder: Path) -> str | None:
    """The grouping of the reports in a folder; None where there are none."""
    for name, grouping in _TELLING.items():
        try:
            return grouping(read_json(folder / name))
        except (KeyError, TypeError):  # it is missing, or says something else
            continue
    return None
