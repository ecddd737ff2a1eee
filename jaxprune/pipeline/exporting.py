"""Write a network of a finished run for use elsewhere."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax

from jaxprune import __version__, export, models, pruning
from jaxprune.components import EXPORT_FORMATS
from jaxprune.config import Settings
from jaxprune.coupling.compaction import cut
from jaxprune.data import Normalise
from jaxprune.errors import DamagedFile, UserError, nearest, unknown
from jaxprune.export.descriptions import Description, beside, header_of
from jaxprune.pipeline.addresses import stage_of
from jaxprune.pipeline.build import resolve
from jaxprune.pipeline.experiment import Experiment
from jaxprune.pipeline.networks import read_networks
from jaxprune.pipeline.nodes import Train, structure_of
from jaxprune.pipeline.parts import is_coupled
from jaxprune.pipeline.plan import Entry, Plan
from jaxprune.pipeline.run import comparison_plan, run_plan
from jaxprune.pipeline.stage import Stage
from jaxprune.pipeline.workspaces import Workspace, reading
from jaxprune.results.records import Network
from jaxprune.storage import expand, scheme_of
from jaxprune.text import path_fault, shortened
from jaxprune.types import Masks, Params, Stats


@dataclass(frozen=True)
class NetworkFile:
    """A network that was written to a file.

    Attributes:
      path: The file.
      network: The key of the network in the results, such as "pruned 0.9".
      seed: Its seed.
      size: Bytes of the file.
      dense_size: Bytes of the dense network's parameters and statistics as arrays.
      parameters: The parameters in the file, those that are 0 among them.
      dense_parameters: Those of the dense network. They are more than `parameters` where the file holds a compact one.
    """

    path: Path
    network: str
    seed: int
    size: int
    dense_size: int
    parameters: int
    dense_parameters: int


@dataclass(frozen=True)
class _Chosen:
    """One network of a run."""

    experiment: Experiment
    entry: Entry
    seed: int
    params: Params
    stats: Stats
    masks: Masks

    @property
    def inputs(self) -> jax.ShapeDtypeStruct:
        """Two examples as they are in the data set."""
        x = self.experiment.dataset.train.x
        return jax.ShapeDtypeStruct((2, *x.shape[1:]), x.dtype)


def networks_of(settings: Settings, run: Path) -> dict[str, str]:
    """The networks of a run that can be exported: key -> title.

    Args:
      settings: The settings of the run.
      run: Its folder.

    Raises:
      UserError: There is no such folder, or no finished network in it.
    """
    plans = _plans_of(settings, run)
    experiment = resolve(settings)
    with reading(run) as workspace:
        return {key: entry.network.title for key, (entry, _) in _finished(experiment, plans, workspace, run).items()}


def export_network(
    settings: Settings,
    run: Path,
    network: str,
    out: str | Path | None,
    *,
    form: str = "safetensors",
    seed: int | None = None,
    batch: int | None = None,
    warn: Callable[[str], None] = lambda line: None,
) -> NetworkFile:
    """Write a network of a finished run to a file.

    Args:
      settings: The settings of the run.
      run: Its folder.
      network: The key of the network in the results, such as "pruned 0.9", or its name or title, alone where that is
        enough.
      out: The file, which must not be there.
      form: A name in `EXPORT_FORMATS`.
      seed: The seed of the network; None for the first of the run.
      batch: The number of examples in a call of a program; None for any number.
      warn: Takes warnings.

    Raises:
      UserError: The format, the network or the seed is not known, the file cannot be written, or the network is not
        made.
      DamagedFile: The network's own files are damaged.
    """
    _check(form, batch)
    chosen, path = _choose(settings, run, network, seed, out, form)
    compact = _compact(chosen, warn)
    description = _describe(chosen, form, compact)
    params = chosen.params if compact is None else compact.params
    if form == "stablehlo":
        sample = jax.ShapeDtypeStruct(chosen.inputs.shape[1:], chosen.inputs.dtype)
        whole = (chosen.experiment.network, chosen.params, chosen.stats)
        smaller = whole if compact is None else (compact.network, compact.params, compact.stats)
        program = export.to_stablehlo(*smaller, sample=sample, batch=batch, warn=warn)
        export.save_stablehlo(path, program, description)
    elif compact is not None:
        masks = cut(chosen.masks, compact.couplings.axes, compact.kept)
        export.save_compact(path, compact, description, form=form, masks=masks, warn=warn)
    elif form == "safetensors":
        models.write_state_dict(path, models.to_state_dict(chosen.params, chosen.stats), header_of(description))
    else:
        write = {"packed": export.save_packed, "bcoo": export.save_bcoo}[form]
        write(path, chosen.params, chosen.stats, chosen.masks, description, warn=warn)
    dense = sum(array.nbytes for array in models.to_state_dict(chosen.params, chosen.stats).values())
    made = path, chosen.entry.network.key, chosen.seed, path.stat().st_size, dense
    return NetworkFile(*made, _count(params), _count(chosen.params))


def _count(params: Params) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _check(form: str, batch: int | None) -> None:
    """Raise for what no network can be written as."""
    if form not in EXPORT_FORMATS:
        raise unknown("format", form, EXPORT_FORMATS, where="--format")
    if batch is not None and form != "stablehlo":
        raise UserError(f"--batch: the weights of {form} are for any number of examples; leave it out")
    if batch is not None and batch < 1:
        raise UserError(f"--batch {batch}: give at least 1, or leave it out for any number of examples")


def _check_out(out: str | Path | None, form: str) -> Path:
    """The file to write.

    Raises:
      UserError: It cannot be written.
    """
    if out is None:
        raise UserError("export: --out is missing; name the file to write")
    if fault := path_fault(str(out)):
        raise UserError(f"--out {shortened(str(out), 60)}: {fault}; name another file")
    if scheme_of(out):
        raise UserError(f"--out {out} is not on this machine; write the file here, and copy it there")
    path = expand(out)
    of_arrays = path.suffix == ".safetensors"
    if form != "stablehlo" and not of_arrays:
        raise UserError(f"--out {out}: the name must end in .safetensors; call the file {path.stem}.safetensors")
    if form == "stablehlo" and of_arrays:
        raise UserError(f"--out {out}: a program is no file of arrays; call the file {path.stem}.stablehlo")
    for file in [path, beside(path)] if form == "stablehlo" else [path]:
        if file.exists():
            raise UserError(f"--out {file} is there already; name another file, or delete it")
    if not path.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {path.parent}; make it, or name another file")
    return path


def _choose(
    settings: Settings, run: Path, network: str, seed: int | None, out: str | Path | None, form: str
) -> tuple[_Chosen, Path]:
    """Read one network of the run; the file is checked last."""
    plans = _plans_of(settings, run)
    seeds = range(settings.first_seed, settings.first_seed + settings.seeds)
    planned = {entry.network.key: entry.network for plan in plans for entry in plan.entries}
    if len(matches(network, planned)) == 1:  # whatever else is wrong is known before the data is loaded
        _check_seed(seed, seeds)
        _check_out(out, form)
    experiment = resolve(settings)
    with reading(run) as workspace:
        stages = _finished(experiment, plans, workspace, run)
        entry, stage = stages[_key_of(network, {key: entry.network for key, (entry, _) in stages.items()})]
        _check_seed(seed, seeds)
        path = _check_out(out, form)
        try:
            networks = read_networks(experiment, workspace.read(stage))
        except DamagedFile as damage:
            raise DamagedFile(damage.fault, "run the command of the run again, which makes it anew") from None
    seed = seeds[0] if seed is None else seed
    one = jax.tree.map(lambda leaf: leaf[seeds.index(seed)], (networks.params, networks.stats, networks.masks))
    return _Chosen(experiment, entry, seed, *one), path


def _check_seed(seed: int | None, seeds: Sequence[int]) -> None:
    if seed is not None and seed not in seeds:
        raise unknown("seed", str(seed), map(str, seeds), where="--seed", listed=True)


def _finished(
    experiment: Experiment, plans: Sequence[Plan], workspace: Workspace, run: Path
) -> dict[str, tuple[Entry, Stage]]:
    """Key -> the networks that are made."""
    stages: dict[str, tuple[Entry, Stage]] = {}
    for entry in (entry for plan in plans for entry in plan.entries):
        stage = stage_of(experiment, entry.node)
        if workspace.done(stage):
            stages.setdefault(entry.network.key, (entry, stage))
    if not stages:
        raise UserError(f"{run} holds no finished network of these settings; run it first")
    return stages


def _plans_of(settings: Settings, run: Path) -> list[Plan]:
    plans = list(_plans(settings))
    if not run.is_dir():
        raise UserError(f"{run}: there is no such folder of a run; run it first, or name its folder")
    return plans


def _plans(settings: Settings) -> Iterator[Plan]:
    """The plans that the networks of a folder may be of."""
    faults = []
    for plan in (lambda: run_plan(settings, "report")[1], lambda: comparison_plan(settings)):
        try:
            yield plan()
        except UserError as error:
            faults.append(error)
    if len(faults) == 2:
        raise faults[0]


def _key_of(network: str, networks: Mapping[str, Network]) -> str:
    """The key of the one network that is meant."""
    found = matches(network, networks)
    if len(found) == 1:
        return found[0]
    if not network:
        raise UserError(f"network: none is named; give one of: {', '.join(networks)}")
    if found:
        raise UserError(f"network: {network} is not one network; give one of: {', '.join(found)}")
    titles = {f"{one.title}{key.removeprefix(one.name)}" for key, one in networks.items()}
    near = nearest(network, [*networks, *titles])
    raise unknown("network", network, networks if not near or near[0] in networks else titles, listed=True)


def matches(network: str, networks: Mapping[str, Network]) -> list[str]:
    """The keys of the networks that a text may mean.

    Args:
      network: A key, name or title, in letters of any case; after the last two a sparsity may stand, as 0.5 or 50 %.
      networks: Key -> network.
    """
    if network in networks:
        return [network]
    wanted = _plain_name(network)
    found = []
    for key, one in networks.items():
        titled = f"{one.title}{key.removeprefix(one.name)}"  # with its values, such as tolerance=0.01
        names = [key, titled, one.name, one.title]
        names += [f"{name} {one.sparsity:g}" for name in (one.name, one.title) if one.role != "dense"]
        if wanted in map(_plain_name, names):
            found.append(key)
    return found


def _plain_name(text: str) -> str:
    """A name in small letters, a percentage at its end as share."""
    words = " ".join(text.casefold().split())
    percent = re.search(r"(?:^| )(\d+(?:\.\d+)?) ?%$", words)
    return words if percent is None else f"{words[: percent.start(1)]}{float(percent[1]) / 100:g}"


def _compact(chosen: _Chosen, warn: Callable[[str], None]) -> pruning.Compact | None:
    """The network without its pruned channels, where those were pruned whole."""
    if isinstance(chosen.entry.node, Train) or not is_coupled(structure_of(chosen.entry.node)):
        return None
    one = (chosen.experiment.network, chosen.params, chosen.stats, chosen.masks)
    try:
        return pruning.compact(*one, sample=chosen.inputs, couplings=chosen.experiment.couplings)
    except UserError as error:
        warn(f"the network is written with its pruned channels, at 0 ({error})")
        return None


def _describe(chosen: _Chosen, form: str, compact: pruning.Compact | None) -> Description:
    """What the network is, and what it takes and gives.

    The settings of the network are those of a dense one, and say so where it is compact. Its channels are in another
    part of the header where there is one.
    """
    experiment, network = chosen.experiment, chosen.entry.network
    dataset, model = experiment.dataset, experiment.settings.model
    normalise = dataset.normalise if isinstance(dataset.normalise, Normalise) else None
    inside = form == "stablehlo"
    moments = {} if normalise is None else {"shift": list(normalise.shift), "scale": list(normalise.scale)}
    if normalise is None:
        inputs = f"examples as jaxprune.data loads them from {dataset.name}"
    elif inside:
        inputs = "images of bytes, 0 to 255; the program normalises them itself: (x - shift) / scale, by channel"
    else:
        inputs = "images normalised before: (x - shift) / scale by channel, x being bytes from 0 to 255"
    options = model.model_dump(mode="json", exclude={"weights", "new_head", "keep_zeros"}, exclude_none=True)
    if compact is None:
        of_network = {"model": options}
    else:
        of_network = {"dense_model": options} | ({"compact": export.kept_channels(compact)} if inside else {})
    return {
        "jaxprune": __version__,
        "network": network.key,
        "title": network.title,
        "seed": chosen.seed,
        **of_network,
        "data": dataset.name,
        "takes": {"what": inputs, "shape": [None, *map(int, chosen.inputs.shape[1:])], **moments},
        "gives": {"what": f"logits of the labels of {dataset.label_by}", "labels": list(dataset.label_names)},
    }
