"""Plans: the networks a job makes, in order. Pure values, no arrays."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from jaxprune.components import CONFIGURED, PAPER_MODELS, PLAIN, PaperModel
from jaxprune.config import Settings
from jaxprune.pipeline.methods import candidates, method_of
from jaxprune.results.records import SPLITS, Network

COMPARED = (
    "naive", "naive_best", "equal_loss", "equal_loss_buffer", "equal_loss_signed", "equal_harm", "ceag",
    "ceag_held_out", "group_dro", "reweighted", "balanced", "performance_weighted", "fairgrape", "fairprune",
    "distilled", "distilled_ceag",
)  # fmt: skip

Values = tuple[tuple[str, float], ...]  # hyperparameters, by name


@dataclass(frozen=True)
class Train:
    """Dense networks, one for each seed.

    Attributes:
      method: How they are trained, a name in `mitigation.METHODS` or "configured".
      values: Its hyperparameters.
      reference: The plain dense networks, where the method compares with them.
    """

    method: str = PLAIN
    values: Values = ()
    reference: "Train | None" = None

    @property
    def parents(self) -> tuple["Node", ...]:
        """The nodes that it is made from."""
        return () if self.reference is None else (self.reference,)


@dataclass(frozen=True)
class Compress:
    """Dense networks pruned, not retrained.

    Attributes:
      parent: The dense networks.
      criterion: What is pruned first.
      sparsity: The share of weights pruned.
    """

    parent: Train
    criterion: str
    sparsity: float

    @property
    def parents(self) -> tuple["Node", ...]:
        """The nodes that it is made from."""
        return (self.parent,)


@dataclass(frozen=True)
class Retrain:
    """Pruned networks trained on with their masks held.

    Attributes:
      parent: The pruned networks.
      method: How they are trained.
      values: Its hyperparameters.
      reference: The plain dense networks, where the method compares with them.
      halved: Whether it reads one half of the validation split, the other half of which decides something else.
    """

    parent: Compress
    method: str
    values: Values = ()
    reference: Train | None = None
    halved: bool = False

    @property
    def parents(self) -> tuple["Node", ...]:
        """The nodes that it is made from."""
        return (self.parent,) if self.reference is None else (self.parent, self.reference)


Node = Train | Compress | Retrain
DENSE = Train()


def phase_of(node: Node) -> str:
    """Return a node's last training phase: "dense" or "retrain"."""
    return "retrain" if isinstance(node, Retrain) else "dense"


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
      report: The kind of its report: "report", "comparison-report" or "theory-page".
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
        pruned = [entry.node for entry in self.entries if isinstance(entry.node, Compress)]
        return [self.entries[0].node, *pruned]

    @property
    def has_choice(self) -> bool:
        """Whether some candidates are to be chosen among."""
        names = [(entry.network.name, entry.network.sparsity) for entry in self.entries]
        return len(set(names)) < len(names)


def plan_run(settings: Settings) -> Plan:
    """Plan a run: dense, pruned, and retrained by `retrain.methods`.

    The default methods are the paper's four models.
    """
    names = settings.retrain.methods or tuple(PAPER_MODELS)
    return _plan(settings, "report", names if settings.retrain.epochs else ())


def plan_comparison(settings: Settings) -> Plan:
    """Plan a comparison: `retrain.methods` against plain fine-tuning.

    Every candidate of a method is trained.
    """
    names = settings.retrain.methods or COMPARED
    return _plan(settings, "comparison-report", tuple(dict.fromkeys((PLAIN, *names))))


def plan_theory(settings: Settings) -> Plan:
    """Plan the theory: plain dense networks and those pruned from them."""
    return _plan(settings, "theory-page", ())


def _plan(settings: Settings, report: str, names: tuple[str, ...]) -> Plan:
    comparison = report == "comparison-report"
    held_out = tuple(name for name in names if name not in PAPER_MODELS and method_of(settings, name).held_out)
    entries = [Entry(DENSE, Network("dense", "Dense", "dense"))]
    if any(_dense_method(name) != PLAIN for name in names):
        fair = _train(settings, CONFIGURED)
        record = Network("fair_dense", "Dense, fair", "dense", dense="fair_dense", method=CONFIGURED)
        entries.append(Entry(fair, record))
    for sparsity in settings.prune.sparsities:
        if sparsity == 0 and comparison:
            continue
        pruned = Compress(DENSE, settings.prune.criterion, sparsity)
        entries.append(Entry(pruned, Network("pruned", "Pruned, not retrained", "compressed", sparsity)))
        for name in names:
            required = not comparison or name == PLAIN
            entries.extend(_retrained(settings, name, sparsity, required=required, halved=bool(held_out)))
    plan = Plan(report, tuple(entries), settings.audit.splits, held_out, explained=not comparison)
    more = SPLITS if comparison else ("validation",) if plan.has_choice else ()
    return replace(plan, splits=tuple(dict.fromkeys((*plan.splits, *more))))


def _retrained(settings: Settings, name: str, sparsity: float, *, required: bool, halved: bool) -> Iterator[Entry]:
    """Yield an entry for each candidate of one method and sparsity."""
    model = PAPER_MODELS.get(name, PaperModel(PLAIN, name, ""))
    method = method_of(settings, model.retraining)
    source = _train(settings, model.dense)
    parent = Compress(source, method.criterion or settings.prune.criterion, sparsity)
    configured = model.title and model.retraining == CONFIGURED
    for values in [_configured_values(settings)] if configured else candidates(settings, model.retraining):
        network = Network(
            name,
            model.title or method.title,
            "retrained",
            sparsity,
            dense="dense" if source == DENSE else "fair_dense",
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
