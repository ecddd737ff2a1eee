"""The stages that measure every person: what each network predicts for whom, whatever the groups."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from jaxprune import auditing
from jaxprune.auditing import Outcomes
from jaxprune.errors import TrainingDiverged
from jaxprune.files import naming, opened
from jaxprune.pipeline.context import Context, reuse
from jaxprune.pipeline.networks import (
    METHODS,
    Trained,
    dense,
    dense_stage,
    pruned,
    pruned_stage,
    retrained,
    retrained_stage,
)
from jaxprune.pipeline.stage import Stage
from jaxprune.types import Batch, Params, Stats


class Entry(NamedTuple):
    """A network of a run.

    Attributes:
      model: Its kind, such as "pruned".
      sparsity: The share of weights pruned.
      stage: The stage that makes it.
      give: Reads it from disk, or makes it.
    """

    model: str
    sparsity: float
    stage: Stage
    give: Callable[[], Trained]


def networks(context: Context) -> Iterator[Entry]:
    """Every network of a run, the plain dense one first."""
    settings = context.experiment.settings
    methods = settings.mitigation.methods
    yield Entry("dense", 0.0, dense_stage(context, False), lambda: dense(context, False))
    if any(METHODS[method][0] for method in methods):
        yield Entry("fair_dense", 0.0, dense_stage(context, True), lambda: dense(context, True))
    for s in settings.prune.sparsities:
        yield Entry("pruned", s, pruned_stage(context, False, s), lambda s=s: pruned(context, False, s))
        for method in methods if settings.retrain.epochs else ():
            stage = retrained_stage(context, method, s)
            yield Entry(method, s, stage, lambda method=method, s=s: retrained(context, method, s))


def outcomes_stage(context: Context, network: Stage) -> Stage:
    """The address of everybody's outcomes under a network."""
    splits = list(context.experiment.settings.audit.splits)
    return Stage(f"outcomes-{network.name}", {"splits": splits}, (network,))


def measure(context: Context, entries: Sequence[Entry]) -> None:
    """Measure those networks whose outcomes are missing.

    The artefact of each is `<split>-loss.npy`, float32 [R, N], and `<split>-label.npy`, [R, N] predicted labels, in
    the order of the split. A split is read once, block by block, and every missing network sees each block once.
    """
    missing = [e for e in entries if reuse(context, outcomes_stage(context, e.stage), lambda folder: folder) is None]
    if not missing:
        return
    made = [entry.give() for entry in missing]
    splits = context.experiment.settings.audit.splits
    parts = sum(context.experiment.num_blocks(split) for split in splits)
    context.progress.start(f"measuring {len(made)} network{'s' * (len(made) > 1)}", parts * len(made))
    with ExitStack() as stack:
        stages = [outcomes_stage(context, entry.stage) for entry in missing]
        folders = [stack.enter_context(context.workspace.writing(stage)) for stage in stages]
        for split in splits:
            _measure_split(context, split, [entry.model for entry in missing], made, folders)
    context.progress.finish()


def read_outcomes(context: Context, network: Stage, split: str) -> Outcomes:
    """The outcomes of a network that is measured, leaves [R, N] in the order of the split, as memory maps."""
    folder = context.workspace.read(outcomes_stage(context, network))
    loss, label = (np.load(folder / f"{split}-{leaf}.npy", mmap_mode="r") for leaf in ("loss", "label"))
    return Outcomes(loss=loss, wrong=label != np.asarray(context.experiment.dataset.split(split).y), label=label)


def check_outputs(context: Context, model: str, loss: np.ndarray) -> np.ndarray:
    """The losses [R, N] of a network, checked.

    Raises:
      TrainingDiverged: Some are NaN: the parameters are finite, but so large that the outputs are not.
    """
    bad = np.isnan(loss).any(1)
    if bad.any():
        replica = int(bad.argmax())
        section = "train" if model in ("dense", "fair_dense", "pruned") else "retrain"
        rate = getattr(context.experiment.settings, section).learning_rate
        raise TrainingDiverged(
            f"{section}: the network of seed {context.experiment.seeds[replica]} has outputs that are not finite "
            f"({model}); lower {section}.learning_rate (now {rate:g})",
            replica=replica,
        )
    return loss


def _measure_split(
    context: Context, split: str, names: Sequence[str], made: Sequence[Trained], folders: Sequence[Path]
) -> None:
    experiment = context.experiment
    people, labels = len(experiment.dataset.split(split).y), experiment.dataset.num_classes
    shape, smallest = (len(experiment.seeds), people), np.min_scalar_type(labels - 1)

    def passed(batch: Batch, params: Params, stats: Stats) -> Outcomes:
        apply = experiment.network.freeze(stats)
        return auditing.outcomes(apply, params, batch, chunk_size=experiment.chunk_size(batch.x))

    with ExitStack() as stack:

        def column(folder: Path, leaf: str, dtype: np.dtype) -> _Columns:
            file = stack.enter_context(opened(folder / f"{split}-{leaf}.npy"))
            return _Columns(file, shape, dtype)

        losses = [column(folder, "loss", np.dtype(np.float32)) for folder in folders]
        predicted = [column(folder, "label", smallest) for folder in folders]
        first = 0
        for batch in experiment.blocks(split):
            stop = min(first + len(batch.y), people)  # the last block of a streamed split is padded
            for i, trained in enumerate(made):
                found = experiment.over_replicas(passed, batch, trained.params, trained.stats)
                loss = check_outputs(context, names[i], np.asarray(found.loss)[:, : stop - first])
                losses[i].write(first, loss)
                predicted[i].write(first, np.asarray(found.label)[:, : stop - first])
                context.progress.advance()
            first = stop


class _Columns:
    """A .npy file [R, N] that is written some columns at a time; a memory map would die of a full disk."""

    def __init__(self, file: BinaryIO, shape: tuple[int, int], dtype: np.dtype):
        self.file, self.shape, self.dtype = file, shape, dtype
        layout = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, layout)
        self.begin = file.tell()

    def write(self, first: int, values: np.ndarray) -> None:
        """Write the columns from `first` on."""
        with naming(Path(self.file.name)):
            for r, row in enumerate(values.astype(self.dtype)):
                self.file.seek(self.begin + (r * self.shape[1] + first) * self.dtype.itemsize)
                self.file.write(row.tobytes())
