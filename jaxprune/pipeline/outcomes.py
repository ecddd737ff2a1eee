"""Everybody's outcomes under every network, measured once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, NamedTuple

import jax
import numpy as np

from jaxprune.auditing import Outcomes
from jaxprune.errors import TrainingDiverged
from jaxprune.files import naming, opened
from jaxprune.pipeline.experiment import Experiment
from jaxprune.types import Batch, Params, Stats


class Measured(NamedTuple):
    """Networks whose outcomes are measured.

    Attributes:
      phase: "dense" or "retrain", their last training.
      outcomes: `(batch, params, stats) -> Outcomes` of one replica; one object for each program.
      params: Leaves [R, ...].
      stats: Leaves [R, ...].
    """

    phase: str
    outcomes: Callable[[Batch, Params, Stats], Outcomes]
    params: Params
    stats: Stats


def outcomes_on(experiment: Experiment, split: str, params: Params, stats: Stats) -> Outcomes:
    """The outcomes of networks on a split, leaves [R, N].

    Args:
      experiment: The data and the network.
      split: Its name.
      params: Leaves [R, ...].
      stats: Leaves [R, ...].
    """
    people = len(experiment.dataset.split(split).y)
    blocks = [
        jax.tree.map(np.asarray, experiment.over_replicas(experiment.outcomes, batch, params, stats))
        for batch in experiment.blocks(split)
    ]
    # The last block of a streamed split is padded.
    return jax.tree.map(lambda *leaves: np.concatenate(leaves, 1)[:, :people], *blocks)


def write_outcomes(
    experiment: Experiment, folders: Sequence[Path], split: str, networks: Sequence[Measured]
) -> Iterator[None]:
    """Measure several networks in one pass over a split.

    Of each network, its folder gets `<split>-loss.npy`, float32 [R, N], and `<split>-label.npy`, [R, N] predicted
    labels, in the order of the split.

    Args:
      experiment: The data and the network.
      folders: One for each network.
      split: The split.
      networks: The networks.

    Yields:
      None, after each network has seen a block.

    Raises:
      TrainingDiverged: The outputs of a network are not finite.
    """
    people, labels = len(experiment.dataset.split(split).y), experiment.dataset.num_classes
    shape, smallest = (len(experiment.seeds), people), np.min_scalar_type(labels - 1)
    with ExitStack() as stack:

        def column(folder: Path, leaf: str, dtype: np.dtype) -> _Columns:
            file = stack.enter_context(opened(folder / f"{split}-{leaf}.npy"))
            return _Columns(file, shape, dtype)

        losses = [column(folder, "loss", np.dtype(np.float32)) for folder in folders]
        predicted = [column(folder, "label", smallest) for folder in folders]
        first = 0
        for batch in experiment.blocks(split):
            count = min(len(batch.y), people - first)  # the last block of a streamed split is padded
            for i, network in enumerate(networks):
                outcomes = experiment.over_replicas(network.outcomes, batch, network.params, network.stats)
                losses[i].write(first, _check_finite(experiment, network.phase, np.asarray(outcomes.loss)[:, :count]))
                predicted[i].write(first, np.asarray(outcomes.label)[:, :count])
                yield
            first += count


def read_outcomes(folder: Path, split: str, y: np.ndarray) -> Outcomes:
    """Read outcomes, leaves [R, N], as memory maps.

    Examples are in the order of the split.

    Args:
      folder: The folder of the stage.
      split: The split.
      y: [N] labels.
    """
    loss, label = (np.load(folder / f"{split}-{leaf}.npy", mmap_mode="r") for leaf in ("loss", "label"))
    return Outcomes(loss=loss, wrong=label != y, label=label)


def _check_finite(experiment: Experiment, phase: str, loss: np.ndarray) -> np.ndarray:
    """The losses [R, N] of networks, checked.

    Raises:
      TrainingDiverged: Some are NaN: the parameters are finite, but so large that the outputs are not.
    """
    bad = np.isnan(loss).any(1)
    if bad.any():
        replica, section = int(bad.argmax()), "train" if phase == "dense" else "retrain"
        rate = getattr(experiment.settings, section).learning_rate
        raise TrainingDiverged(
            f"{section}: the network of seed {experiment.seeds[replica]} has outputs that are not finite; "
            f"lower {section}.learning_rate (now {rate:g})",
            replica=replica,
        )
    return loss


class _Columns:
    """A .npy file [R, N] that is written by columns.

    A memory map would crash the process on a full disk.
    """

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
