"""Plans: the networks a job makes, in order. Pure values, no arrays."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from jaxprune.components import (
    AFRESH,
    CONFIGURED,
    PAPER_MODELS,
    PLAIN,
    PRUNING_SCHEDULES,
    RANDOM_START,
    PaperModel,
)
from jaxprune.config import Settings
from jaxprune.config.options import criterion_of, schedule_of
from jaxprune.errors import UserError
from jaxprune.pipeline.methods import candidates, method_of
from jaxprune.pipeline.nodes import DENSE, Compress, Node, Pruned, Reestimate, Retrain, Train, dense_source
from jaxprune.pipeline.pruning_schedules import is_plain, plain_retraining
from jaxprune.pipeline.prunings import Pruning, prunings_of
from jaxprune.results.records import SPLITS, Network

COMPARED = (
    "naive", "naive_best", "equal_loss", "equal_loss_buffer", "equal_loss_signed", "equal_harm", "ceag",
    "ceag_held_out", "group_dro", "reweighted", "balanced", "performance_weighted", "fairgrape", "fairprune",
    "distilled", "distilled_ceag",
)  # fmt: skip


# Schedules that score while they train, or not at all.
_NO_OWN_CRITERION = ("gradual", "straight_through", *RANDOM_START)
# Schedule -> the title of what it makes, where that is trained as well.
_PRUNED = {"iterative": "Pruned in rounds"}
_PRUNED |= dict.fromkeys(("gradual", "straight_through"), "Pruned while trained on")
_PRUNED |= dict.fromkeys(AFRESH, "Trained sparse")


@dataclass(frozen=True)
class Entry:
    """A node that is measured, and what it is called.

    Attributes:
      node: The node.
      network: Its record in the results, without measurements.
      required: Whether a job ends where its training diverges; other networks are then left out with a warning.
    """

    node: Node
    network: Network
    required: bool = True


@dataclass(frozen=True)
class Plan:
    """The networks of a job.

    Attributes:
      report: The kind of its report: "report", "comparison-report", "criteria-report", "structures-report" or
        "theory-page".
      entries: What is measured, in order: the plain dense networks first.
      splits: The splits that they are measured on.
      held_out: The methods that measure their violation on the validation split, which is then cut in two.
      explained: Whether the theory is measured as well.
    """

    report: str
    entries: tuple[Entry, ...]
    splits: tuple[str, ...]
    held_out: tuple[str, ...] = ()
    explained: bool = True

    @property
    def halved(self) -> bool:
        """Whether the validation split is cut in two."""
        return bool(self.held_out)

    @property
    def has_costs(self) -> bool:
        """Whether the costs of its networks are measured."""
        return self.report != "theory-page"

    @property
    def nodes(self) -> list[Node]:
        """Every node, each after those that it is made from."""
        nodes: dict[Node, None] = {}

        def visit(node: Node) -> None:
            for parent in node.parents:
                visit(parent)
            nodes[node] = None

        for entry in self.entries:
            visit(entry.node)
        return list(nodes)

    @property
    def theory_nodes(self) -> list[Node]:
        """The nodes that the theory is about.

        They are the plain dense networks, and those pruned from them at every sparsity.
        """
        pruned = [entry.node for entry in self.entries if is_plain(entry.node)]
        return [self.entries[0].node, *pruned]

    @property
    def compressed(self) -> list[Entry]:
        """The entries that are pruned."""
        return [entry for entry in self.entries if entry.network.sparsity > 0]

    @property
    def has_choice(self) -> bool:
        """Whether some candidates are to be chosen among."""
        return not all(map(self.is_sure, self.entries))

    def is_sure(self, entry: Entry) -> bool:
        """Return True for an entry that is no candidate of a choice."""
        place = (entry.network.name, entry.network.sparsity)
        return sum((other.network.name, other.network.sparsity) == place for other in self.entries) == 1


def plan_run(settings: Settings) -> Plan:
    """Plan a run: dense, pruned, and retrained by `retrain.methods`.

    The default methods are the paper's four models.
    """
    names = settings.retrain.methods or tuple(name for name in PAPER_MODELS if not _needs_fair_dense(settings, name))
    return _plan(settings, "report", names if settings.retrain.epochs else ())


def _check_criterion_of(settings: Settings, name: str) -> None:
    """Raise for a method whose own criterion has no place."""
    prune = settings.prune
    if name in PAPER_MODELS or not method_of(settings, name).criterion:
        return
    if prune.criteria:
        raise UserError(
            f"retrain.methods: {name} has a criterion of its own, and prune.criteria compares several; leave it out"
        )
    if prune.schedule in _NO_OWN_CRITERION:
        raise UserError(
            f"retrain.methods: {name} has a criterion of its own, which {prune.schedule} cannot score by; leave it out"
        )


def _needs_fair_dense(settings: Settings, name: str) -> bool:
    """Return whether a model prunes constrained networks, and the schedule none."""
    return settings.prune.schedule in AFRESH and _dense_method(name) != PLAIN


def plan_comparison(settings: Settings) -> Plan:
    """Plan a comparison of methods, or of criteria or structures.

    Methods are compared with plain fine-tuning, and the criteria of `prune.criteria` or the structures of
    `prune.structures` with the first of them. Every candidate of a method is trained.
    """
    prune, schedule = settings.prune, settings.prune.schedule
    usual = [name for name in COMPARED if schedule not in _NO_OWN_CRITERION or not method_of(settings, name).criterion]
    names = settings.retrain.methods or (() if prune.criteria or prune.structures else usual)
    kind = "criteria-report" if prune.criteria else "structures-report" if prune.structures else "comparison-report"
    return _plan(settings, kind, tuple(dict.fromkeys((PLAIN, *names))))


def plan_theory(settings: Settings) -> Plan:
    """Plan the theory: plain dense networks and those pruned from them."""
    return _plan(settings, "theory-page", ())


def _plan(settings: Settings, report: str, names: tuple[str, ...]) -> Plan:
    comparison, prunings = report not in ("report", "theory-page"), prunings_of(settings.prune)
    held_out = tuple(name for name in names if name not in PAPER_MODELS and method_of(settings, name).held_out)
    for name in names:
        _check_criterion_of(settings, name)
        if _needs_fair_dense(settings, name):
            raise UserError(
                f"retrain.methods: {name} prunes dense networks that were trained with a constraint, and the training "
                f"of prune.schedule = {settings.prune.schedule} starts afresh; leave one of the two out"
            )
    entries = [Entry(DENSE, Network("dense", "Dense", "dense"))]
    if any(_dense_method(name) != PLAIN for name in names):
        fair = _train(settings, CONFIGURED)
        record = Network("fair_dense", "Dense, fair", "dense", dense="fair_dense", method=CONFIGURED)
        entries.append(Entry(fair, record))
    for sparsity in settings.prune.sparsities:
        if sparsity == 0 and comparison:
            continue
        for pruning in prunings:
            entries.extend(_pruned(settings, pruning, sparsity))
            for name in names:
                required = not comparison or (name == PLAIN and pruning == prunings[0])
                entries.extend(_retrained(settings, name, pruning, sparsity, required=required, halved=bool(held_out)))
    explained = not comparison and any(is_plain(entry.node) for entry in entries)
    plan = Plan(report, tuple(entries), settings.audit.splits, held_out, explained=explained)
    more = SPLITS if comparison else ("validation",) if plan.has_choice else ()
    return replace(plan, splits=tuple(dict.fromkeys((*plan.splits, *more))))


def _pruned(settings: Settings, pruning: Pruning, sparsity: float) -> Iterator[Entry]:
    """Yield the entries of networks that are pruned and not retrained."""
    node = _prune(settings, DENSE, pruning, sparsity)
    bare = node.parent if isinstance(node, Reestimate) else node
    name, about = pruning.name or "pruned", pruning.about
    title = pruning.title or _PRUNED.get(settings.prune.schedule, "Pruned, not retrained")
    yield Entry(bare, Network(name, title, "compressed", sparsity, about=about))
    if node is not bare:
        more = f"{title}, statistics re-estimated"
        yield Entry(node, Network(f"{name}_reestimated", more, "compressed", sparsity, about=about))


def _prune(
    settings: Settings, source: Train, pruning: Pruning, sparsity: float, criterion: str = ""
) -> Pruned | Retrain:
    """Prune dense networks by the schedule of the settings.

    Args:
      settings: The settings.
      source: The dense networks.
      pruning: The way.
      sparsity: The share pruned.
      criterion: That of a method with one of its own; "" for that of the pruning.
    """
    prune = settings.prune
    target = Compress(
        source,
        criterion_of(prune, criterion) if criterion else pruning.criterion,
        sparsity,
        structure=pruning.structure,
        allocation=pruning.allocation,
    )
    between = plain_retraining(target, _rewound(settings, source), repeats_rates=settings.retrain.rewind_learning_rate)
    node = PRUNING_SCHEDULES.choose(prune.schedule)(target, between, **schedule_of(prune))
    return Reestimate(node) if prune.reestimate else node


def _rewound(settings: Settings, source: Train) -> Train | None:
    """Return the dense networks early in their training, or None."""
    epoch = settings.retrain.rewind
    return None if epoch < 0 else replace(source, until=epoch)


def _retrained(
    settings: Settings, name: str, pruning: Pruning, sparsity: float, *, required: bool, halved: bool
) -> Iterator[Entry]:
    """Yield an entry for each candidate of one method and sparsity."""
    model = PAPER_MODELS.get(name, PaperModel(PLAIN, name, ""))
    method = method_of(settings, model.retraining)
    source = _train(settings, model.dense)
    parent = _prune(settings, source, pruning, sparsity, method.criterion)
    if settings.retrain.rewind >= 0 and isinstance(parent, Reestimate):
        parent = parent.parent  # the statistics go back as well
    configured = model.title and model.retraining == CONFIGURED
    title = model.title or method.title
    for values in [_configured_values(settings)] if configured else candidates(settings, model.retraining):
        network = Network(
            f"{pruning.name}+{name}" if pruning.name else name,
            f"{pruning.title}, {title[:1].lower()}{title[1:]}" if pruning.name else title,
            "retrained",
            sparsity,
            dense="dense" if dense_source(parent).method == PLAIN else "fair_dense",
            method=model.retraining,
            about=method.about,
            values={} if model.title else dict(values),
            held_out=method.held_out,
            inequality=None if method.constraint is None else method.constraint(1).inequality,
        )
        node = Retrain(
            parent,
            model.retraining,
            tuple(values.items()),
            reference=DENSE if method.needs_dense else None,
            halved=halved and (method.held_out or method.selection is not None),
            rewound=_rewound(settings, source),
            repeats_rates=settings.retrain.rewind_learning_rate,
        )
        yield Entry(node, network, required)


def _dense_method(name: str) -> str:
    """Return the method of the dense networks under one of retraining."""
    return PAPER_MODELS[name].dense if name in PAPER_MODELS else PLAIN


def _train(settings: Settings, method: str) -> Train:
    if method == PLAIN:
        return DENSE
    reference = DENSE if method_of(settings, method).needs_dense else None
    return Train(method, tuple(_configured_values(settings).items()), reference)


def _configured_values(settings: Settings) -> dict[str, float]:
    """The hyperparameters that [mitigation] names, where the configured method has them."""
    return {name: tried[0] for name, tried in method_of(settings, CONFIGURED).candidates.items()}
