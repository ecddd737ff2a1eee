"""Finds the entries of a network in a checkpoint, whatever their prefix."""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from jaxprune.errors import UserError
from jaxprune.models.state_dict import StateDict
from jaxprune.text import name_some, printable

IGNORED = "num_batches_tracked"  # a counter that no result depends on
# Of several copies of the network, the one whose key comes first here is taken.
FIRST_KEYS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "params", "weights", "module")
_AVERAGED = {"ema", "swa", "avg", "average", "averaged", "shadow"}  # words in the keys of copies averaged over time
_ORIGINAL, _MASK = "_orig", "_mask"  # as torch.nn.utils.prune leaves them
_PARAMETRIZED = re.compile(r"(.*\.)?parametrizations\.([^.]+)\.original")  # as torch.ao.pruning does, with 0.mask
_LAST = "\U0010ffff"


def network_entries(
    entries: StateDict, expected: Mapping[str, tuple[int, ...]], *, new_head: bool, where: str
) -> tuple[str, StateDict]:
    """The entries of a network under its own names, with masks applied.

    Args:
      entries: Name -> array.
      expected: Name -> shape of every entry of the network.
      new_head: Whether one layer may have another shape, or be missing.
      where: What the entries are called in messages.

    Returns:
      The prefix in the file, such as "state_dict.module.", and every entry under it, also those that the network
      lacks or has in another shape. What is elsewhere in the file is left out.

    Raises:
      UserError: Several prefixes fit equally well, with different values, or a mask does not fit its weights.
    """
    file = _File(entries, expected, where)
    prefix = file.choose(new_head)
    return prefix, {name.removeprefix(prefix): file.value(name) for name in file.under(prefix)}


def parts_of(name: str, names: Iterable[str]) -> list[str]:
    """The names under which torch stores what it computes a weight from."""
    layer, _, kind = name.rpartition(".")
    inside = f"{layer}.parametrizations.{kind}." if layer else f"parametrizations.{kind}."
    beside = {name + end for end in ("_g", "_v", "_u", _ORIGINAL)}
    return sorted(other for other in names if other in beside or other.startswith(inside))


@dataclass
class _File:
    """All entries, and the names of the network that is looked for."""

    entries: StateDict
    expected: Mapping[str, tuple[int, ...]]
    where: str

    @cached_property
    def masked(self) -> dict[str, tuple[str, str]]:
        """Name -> (entry before masking, mask)."""
        entries = {}
        for name in self.entries:
            base, mask = name.removesuffix(_ORIGINAL), name.removesuffix(_ORIGINAL) + _MASK
            if match := _PARAMETRIZED.fullmatch(name):
                base, mask = (match[1] or "") + match[2], name.removesuffix("original") + "0.mask"
            if base != name and mask in self.entries:
                entries[base] = (name, mask)
        return entries

    @cached_property
    def names(self) -> list[str]:
        """All names in order, masked entries under that of their product."""
        parts = {part for both in self.masked.values() for part in both}
        return sorted({*self.entries, *self.masked} - parts)

    def under(self, prefix: str) -> Sequence[str]:
        """The names that begin with a prefix."""
        names = self.names
        return names[bisect_left(names, prefix) : bisect_left(names, prefix + _LAST)] if prefix else names

    def stored(self, name: str) -> np.ndarray | None:
        """The entry of a name, not yet masked."""
        return self.entries.get(self.masked[name][0] if name in self.masked else name)

    def value(self, name: str) -> np.ndarray:
        """The entry of a name, masked."""
        if name not in self.masked:
            return self.entries[name]
        weight, kept = (self.entries[part] for part in self.masked[name])
        if weight.shape != kept.shape or kept.dtype.kind not in "fbiu":
            raise UserError(
                f"model.weights: {self.where} has a mask of {kept.dtype.name} {list(kept.shape)} for "
                f"{printable(name)} {list(weight.shape)}; save the network once more"
            )
        with np.errstate(all="ignore"):  # what is not finite is found when the network is filled
            return weight * kept.astype(weight.dtype)

    def choose(self, new_head: bool) -> str:
        """The prefix that fits best."""
        counts = self._counts()
        if not counts:
            return ""
        most = max(counts.values())
        best = [prefix for prefix, count in counts.items() if count == most]
        for fits in (
            lambda prefix: not self._has_surplus(prefix, most),
            lambda prefix: self._misfits(prefix) <= new_head,
            _is_not_averaged,
        ):
            best = [prefix for prefix in best if fits(prefix)] or best
        if all(self._are_equal(best[0], other) for other in best[1:]):
            return best[0]
        return _first(best, self.where)

    def _counts(self) -> Counter[str]:
        """Count the expected names under each prefix."""
        lengths = {name.count(".") + 1 for name in self.expected}
        counts = Counter()
        for name in self.names:
            for length in lengths:
                parts = name.rsplit(".", length)
                prefix = parts[0] + "." if len(parts) > length else ""
                if name.removeprefix(prefix) in self.expected and len(parts) >= length:
                    counts[prefix] += 1
        return counts

    def _has_surplus(self, prefix: str, expected: int) -> bool:
        return sum(not name.endswith(IGNORED) for name in self.under(prefix)) > expected

    def _misfits(self, prefix: str) -> int:
        """Count the layers that are missing or have another shape."""
        wrong = set()
        for name, shape in self.expected.items():
            array = self.stored(prefix + name)
            if array is None or array.shape != shape:
                wrong.add(name.rpartition(".")[0])
        return len(wrong)

    def _are_equal(self, one: str, other: str) -> bool:
        pairs = [(self.stored(one + name), self.stored(other + name)) for name in self.expected]
        return all(a is b is None or (a is not None and b is not None and np.array_equal(a, b)) for a, b in pairs)


def _is_not_averaged(prefix: str) -> bool:
    return not _AVERAGED & set(re.split(r"[^a-z]+", prefix.lower()))


def _first(prefixes: Sequence[str], where: str) -> str:
    """The prefix whose key comes first in the order of known keys."""
    keys = [prefix.split(".") for prefix in prefixes]
    place = next(i for i in range(max(map(len, keys))) if len({tuple(parts[: i + 1]) for parts in keys}) > 1)
    ranks = [FIRST_KEYS.index(parts[place]) if parts[place] in FIRST_KEYS else len(FIRST_KEYS) for parts in keys]
    if ranks.count(min(ranks)) > 1 or min(ranks) == len(FIRST_KEYS):
        shown = printable(name_some(sorted(prefix.removesuffix(".") or "no key" for prefix in prefixes), 5))
        raise UserError(
            f"model.weights: {where} holds the network {len(prefixes)} times with different values, under {shown}; "
            "save the one that is meant in a file of its own"
        )
    return prefixes[ranks.index(min(ranks))]
