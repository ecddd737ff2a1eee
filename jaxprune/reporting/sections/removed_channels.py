"""What was removed: channels, weights, parameters, FLOPs."""

from collections.abc import Sequence

import numpy as np

from jaxprune.numbers import count, percent, plural, significant
from jaxprune.reporting.page import Folded, Section, Table
from jaxprune.reporting.pruning_name import structure_options
from jaxprune.results import Network, Results

_MOST_ROWS = 100  # couplings of one network
_POOLS = {
    "l2": "the root of the sum of squares of the scores of its weights",
    "l1": "the sum of the scores of its weights",
    "mean": "the mean of the scores of its weights",
    "max": "the largest score of its weights",
}
_NORMALISERS = {"mean": ", over the mean of its coupling", "max": ", over the largest of its coupling", "none": ""}


def section(results: Results) -> Section | None:
    """The shares that were removed, and the channels that are left."""
    networks = [network for network in results.networks if network.channels is not None and network.sparsity > 0]
    if not networks:
        return None
    pruned = [network for network in networks if network.role == "compressed"] or networks
    contents = (
        _whole(results),
        _equality(networks),
        _shares(pruned),
        Folded("Channels of every coupling", (_kept(pruned),)),
    )
    return Section("What was removed", contents, anchor="removed")


def _whole(results: Results) -> str:
    prune, options = results.settings["prune"], structure_options(results)
    names = {entry.partition(":")[0] for entry in prune.get("structures") or (prune["structure"],)}
    unit = "head" if "heads" in names and "channels" not in names else "channel"
    whose = "their outcomes here are those" if prune.get("structures") else "everybody’s outcomes here are those"
    rounded = {"exact": "", "auto": " Widths were rounded to those that the device computes fast."}
    widths = rounded.get(str(options["round_to"]), f" Widths were rounded to multiples of {options['round_to']}.")
    score = f"{_POOLS[options['pool']]} in all prunable kernels that write or read it"
    return (
        f"A {unit} was pruned whole: its weights in every kernel that writes or reads it, its biases, scales and "
        f"statistics. So it can be removed, and {whose} of the compact networks, without the pruned {unit}s. The score "
        f"of a {unit} is {score}{_NORMALISERS[options['normalise']]}. Layers whose {unit}s can only go together are a "
        f"coupling, and at least {plural(int(options['at_least']), unit)} of each stayed.{widths}"
    )


def _equality(networks: Sequence[Network]) -> str | None:
    """How far compact networks are from masked ones."""
    known = [network.channels["equality"] for network in networks if network.channels and network.channels["equality"]]
    if not known:
        return None
    shares = [
        difference / largest
        for one in known
        for difference, largest in zip(one["difference"], one["largest"], strict=True)
        if difference is not None and largest
    ]
    if not shares:
        return None
    return (
        "The outputs of the compact networks equal those of the masked ones: the largest difference is "
        f"{significant(max(shares), 1)} of the largest logit, on {count(known[0]['people'])} people of the test split "
        f"({plural(len(known), 'network')}, each with {plural(len(known[0]['difference']), 'seed')})."
    )


def _shares(networks: Sequence[Network]) -> Table:
    """The share that was asked for, and what it removed.

    Beside means over seeds it has the first seed, whose network “What it buys” measures.
    """
    several = len({network.title for network in networks}) > 1
    seeds = max(
        len(share) for network in networks if network.channels for share in network.channels["removed"].values()
    )
    rows = []
    for network in networks:
        assert network.channels is not None
        removed = {name: percent(float(np.mean(share)), 3) for name, share in network.channels["removed"].items()}
        sizes = sum(layer["size"] for layer in network.layers)
        weights = 1 - sum(float(np.mean(layer["kept"])) for layer in network.layers) / sizes
        name = [network.title] if several else []
        rows.append(
            (
                *name,
                percent(network.sparsity),
                removed["channels"],
                percent(weights, 3),
                removed["parameters"],
                removed["flops"],
                *(percent(network.channels["removed"][name][0], 3) for name in ("parameters", "flops") if seeds > 1),
            )
        )
    sizes = ("parameters", "FLOPs of products")
    headings = (*(["network"] if several else []), "asked for", "channels", "prunable weights", *sizes)
    kinds = {c["kind"] for network in networks if network.channels for c in network.channels["couplings"]}
    above = (("", several + 1), ("means over seeds", 4), ("first seed", 2)) if seeds > 1 else ()
    return Table(
        (*headings, *(sizes if seeds > 1 else ())),
        tuple(rows),
        "The shares that were removed. Channels are those that may be pruned; parameters and FLOPs are those of the "
        "whole network. FLOPs are two for each multiplication in products and convolutions, for one example"
        f"{_attention(kinds)}.",
        words=(0,) if several else (),
        above=above,
    )


def _attention(kinds: set[str]) -> str:
    return ". Heads of attention are channels of their own" if "heads" in kinds else ""


def _kept(networks: Sequence[Network]) -> Table:
    """The channels that are left of every coupling."""
    first = networks[0].channels
    assert first is not None
    titles = {network.title for network in networks}
    headings = [percent(n.sparsity) if len(titles) == 1 else f"{n.title}, {percent(n.sparsity)}" for n in networks]
    rows = []
    for i, coupling in enumerate(first["couplings"][:_MOST_ROWS]):
        kept = [_range(network.channels["couplings"][i]["kept"]) for network in networks if network.channels]
        rows.append((coupling["name"], count(coupling["size"]), *kept))
    more = len(first["couplings"]) - _MOST_ROWS
    rest = f" {plural(more, 'coupling')} more are in results.json." if more > 0 else ""
    return Table(
        ("coupling", "dense", *headings),
        tuple(rows),
        "Channels that are left, the least and the most of any seed. A coupling is named by the first kernel that "
        f"writes it, and the axis. Columns: the share pruned.{rest}",
    )


def _range(kept: Sequence[int]) -> str:
    return count(kept[0]) if min(kept) == max(kept) else f"{count(min(kept))} to {count(max(kept))}"
