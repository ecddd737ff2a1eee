"""What was pruned, by what, how much and when, in whole sentences."""

from jaxprune.components import RANDOM_START
from jaxprune.numbers import listing, percent, plain, plural
from jaxprune.reporting.pruning_name import BEFORE_TRAINING, criterion_name, schedule_options, unit_name
from jaxprune.reporting.training_words import retraining_epochs
from jaxprune.results import Results

_ENDS = {"first": "the first", "last": "the last"}
_KERNELS = "the kernels"
_SPARSE = {
    "static": " and held",
    "set": ", {moved} were dropped, the smallest first, and as many regrown at random",
    "rigl": ", {moved} were dropped, the smallest first, and as many regrown where the gradient was largest",
}


def pruning_sentences(results: Results, *, own: str = "") -> str:
    """What was pruned, by what, how much and when.

    Args:
      results: Of the job.
      own: Which networks have another criterion, such as "or the criterion of a method that has one"; may be empty.
    """
    prune = results.settings["prune"]
    shares = listing([percent(share) for share in results.sparsities])
    part, schedule = _part(results), prune["schedule"]
    kept = _kept_dense(results)
    if schedule in RANDOM_START:
        allocation = ", ".join([prune["allocation"], *(prune.get("allocation_options") or ())])
        return (
            f"Beside the dense networks, sparse ones were trained afresh by {schedule}, with {shares} of {part} at 0 "
            f"(allocation: {allocation}). Their masks were drawn at random"
            f"{_SPARSE[schedule].format(moved=_moved(results))}.{kept}"
        )
    by = _criterion(results) + (f", {own}" if own else "")
    if schedule == BEFORE_TRAINING:
        return (
            f"Beside the dense networks, fresh networks were pruned by {by}{',' if own else ''} at {shares} of {part}, "
            f"and then trained as the dense ones were.{kept}"
        )
    when = _when(results)
    if prune.get("structures"):
        return (
            f"{by[0].upper()}{by[1:]} pruned {shares} of each dense network{f', {when}' if when else ''}, "
            f"by every structure. What that is a share of differs; see the table.{kept}"
        )
    return (
        f"{by[0].upper()}{by[1:]}{',' if own else ''} pruned {shares} of {part} of each dense network"
        f"{f', {when}' if when else ''}.{kept}"
    )


def _criterion(results: Results) -> str:
    """The criterion with its options, as "the global magnitude criterion"."""
    prune = results.settings["prune"]
    options = [text.removeprefix(f"{prune['criterion']}.") for text in prune.get("criterion_options") or ()]
    all_options = ", ".join([*options, *(prune.get("allocation_options") or ())])
    if prune["criteria"]:
        more = f"; options: {all_options}" if all_options else ""
        return f"every criterion ({criterion_name(results)}, unless it has an allocation of its own{more})"
    return f"the {criterion_name(results)} criterion{f' ({all_options})' if all_options else ''}"


def _part(results: Results) -> str:
    """The weights or channels that the sparsity is a share of."""
    prune, unit = results.settings["prune"], unit_name(results)
    chosen = any(prune.get(name) for name in ("include", "exclude", "keep_dense"))
    if unit in ("parameters", "FLOPs"):
        return f"the {unit}, as whole {prune['structure']},"
    if unit == "weights":
        return "the weights that may be pruned" if chosen else "the kernel weights"
    return f"the {unit} that may be pruned" if chosen else f"the {unit}"


def _kept_dense(results: Results) -> str:
    """A sentence on the weights that may be pruned; empty for all kernels."""
    prune, unit = results.settings["prune"], unit_name(results)
    include, exclude, ends = (prune.get(name) or () for name in ("include", "exclude", "keep_dense"))
    if not (include or exclude or ends):
        return ""
    parts = f"the parameters named {listing(_quoted(include), 'or')}" if include else _KERNELS
    if exclude:
        parts += f" without those named {listing(_quoted(exclude), 'or')}"
    if unit != "weights":
        ends = f" of all layers but {listing([_ENDS[end] for end in _ENDS if end in ends])}" if ends else ""
        where = prune["structure"].capitalize()
        return f" {where} may be pruned where all kernels that write them are among {parts}{ends}."
    text = f" The weights that may be pruned are {parts}"
    if not ends:
        return f"{text}; all others stayed dense."
    but = f"but {listing([_ENDS[end] for end in _ENDS if end in ends])}, which stayed dense."
    return f"{text} of all layers {but}" if parts == _KERNELS else f"{text}, of all layers {but}"


def _quoted(patterns: list[str]) -> list[str]:
    return [f"“{pattern}”" for pattern in patterns]


def _when(results: Results) -> str:
    """The schedule of pruning dense networks; empty for all at once."""
    options = schedule_options(results)
    match results.settings["prune"]["schedule"]:
        case "iterative":
            epochs = plural(retraining_epochs(results), "epoch")
            rounds = int(float(options["rounds"]))
            return f"in {plural(rounds, 'round')}" + (
                f" with {epochs} of retraining between them" if rounds > 1 else ""
            )
        case "gradual" | "straight_through" as schedule:
            begin, end = (float(options[name]) for name in ("begin", "end"))
            part = f"from {percent(begin)} to {percent(end)}" if begin else f"in the first {percent(end)}"
            text = (
                f"while training went on for {plural(int(float(options['epochs'])), 'epoch')}: the pruned share rose "
                f"every {plural(int(float(options['every'])), 'step')}, {part} of that training"
            )
            learning = "; pruned weights went on learning and could come back"
            return text + (learning if schedule == "straight_through" else "")
    return ""


def _moved(results: Results) -> str:
    """How many weights a sparse training exchanges, and how often."""
    options = schedule_options(results)
    if "every" not in options:
        return ""
    return (
        f"and every {plural(int(float(options['every'])), 'step')} {percent(float(options['fraction']))} of the kept "
        f"weights, falling to 0 at {percent(float(options['end']))} of the training,"
    )


def further_epochs(results: Results) -> float:
    """Epochs that networks were trained on before they count as pruned."""
    options = schedule_options(results)
    match results.settings["prune"]["schedule"]:
        case "gradual" | "straight_through":
            return float(options["epochs"])
        case "iterative" if results.settings["retrain"].get("rewind", -1) < 0:
            return (float(options["rounds"]) - 1) * retraining_epochs(results)
    return 0


def further_training(results: Results) -> list[str]:
    """A caveat where pruned networks were trained longer than dense ones."""
    epochs = further_epochs(results)
    if not epochs:
        return []
    unit = "epoch" if epochs == 1 else "epochs"
    return [
        f"The pruned networks had {plain(epochs, 6)} {unit} of training more than the dense ones: part of their change "
        "is that training."
    ]
