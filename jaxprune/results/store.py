"""Results on disk: `results.json`, and back."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jaxprune.auditing import GroupMetrics, Impact, SamplingError
from jaxprune.errors import UserError
from jaxprune.files import write_atomically
from jaxprune.results.costs import costs_from_json, costs_to_json
from jaxprune.results.harm_tests import HarmTests
from jaxprune.results.plain import fields_of, to_arrays, to_plain
from jaxprune.results.records import Audit, Audits, Grouped, Network, Results, audited
from jaxprune.results.theory import TheoryResults
from jaxprune.storage import to_path

FORMAT = 4  # raise it when a field changes its meaning
NAME = "results.json"
_FACTS = ("settings", "provenance", "label_names", "seeds", "majority")
_BY_GROUPS = ("group_names", "group_sizes", "warnings")


def load(folder: str | Path) -> Results:
    """Load the results of a run, a comparison or a theory page.

    For example, `jaxprune.results.load("runs/adult")`, or `load("runs/compare_adult/compare")` for a comparison.

    Args:
      folder: The folder of the report, or its `results.json`; it may be in an object store.

    Returns:
      The results.

    Raises:
      UserError: There are none, the file is damaged, or an earlier version of jaxprune wrote it.
    """
    path = to_path(folder)
    path = path if path.suffix == ".json" else path / NAME
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path} is missing; give the folder of a finished report") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({type(error).__name__}); run the same command again") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise UserError(f"{path} was written by another version of jaxprune; run the same command again")
    try:
        return from_json(values)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}: {error}); run the same command again") from None


def save(path: Path, results: Results, **beside: Any) -> None:
    """Write results to a JSON file.

    Args:
      path: The file.
      results: The results.
      **beside: More plain values for readers, which `load` does not read.
    """
    write_atomically(path, json.dumps(to_json(results) | beside, allow_nan=False))


def to_json(results: Results) -> dict[str, Any]:
    """Plain values for `json.dump`; numbers that are not finite become null."""
    return {
        "format": FORMAT,
        **{name: getattr(results, name) for name in _FACTS},
        "networks": [network_to_json(network) for network in results.networks],
        **_grouped_to_json(results.networks, results),
        "further": {name: _grouped_to_json(results.networks, grouped) for name, grouped in results.further.items()},
        "theory": None if results.theory is None else results.theory.to_json(),
        "measures": None if results.measures is None else to_plain(results.measures),
        "costs": {key: costs_to_json(costs) for key, costs in results.costs.items()},
    }


def from_json(values: Mapping[str, Any]) -> Results:
    """Results from what `to_json` gave."""
    return Results(
        **{name: values[name] for name in _FACTS},
        networks=tuple(network_from_json(plain) for plain in values["networks"]),
        **vars(grouped_from_json(values)),
        further={name: grouped_from_json(plain) for name, plain in values["further"].items()},
        theory=None if values["theory"] is None else TheoryResults.from_json(values["theory"]),
        measures=values["measures"],
        costs={key: costs_from_json(plain) for key, plain in values.get("costs", {}).items()},
    )


def network_to_json(network: Network) -> dict[str, Any]:
    """The plain values of a network."""
    return {"key": network.key} | to_plain(vars(network))


def network_from_json(values: Mapping[str, Any]) -> Network:
    """A network from what `network_to_json` gave."""
    multipliers = values["multipliers"]
    fields: dict[str, Any] = {name: value for name, value in values.items() if name not in ("key", "multipliers")}
    return Network(**fields, multipliers=None if multipliers is None else to_arrays(multipliers))


def audit_to_json(audit: Audit) -> dict[str, Any]:
    """Convert an audit to plain values.

    Those of `own_impact` only where they differ from those of `impact`.
    """
    values: dict[str, Any] = to_plain(audit.metrics._asdict())
    values |= {"impact": to_plain(audit.impact._asdict()), "sampling_error": to_plain(audit.sampling._asdict())}
    if audit.own_impact is not audit.impact:
        values["own_impact"] = to_plain(audit.own_impact._asdict())
    if audit.tests is not None:
        values |= audit.tests.to_json()
    if audit.violation is not None:
        values["violation"] = to_plain(audit.violation)
    return values


def audit_from_json(values: Mapping[str, Any]) -> Audit:
    """An audit from what `audit_to_json` gave."""
    impact = fields_of(Impact, values["impact"])
    return Audit(
        metrics=fields_of(GroupMetrics, values),
        impact=impact,
        own_impact=fields_of(Impact, values["own_impact"]) if "own_impact" in values else impact,
        sampling=fields_of(SamplingError, values["sampling_error"]),
        tests=HarmTests.from_json(values) if "harm" in values else None,
        violation=to_arrays(values["violation"]) if "violation" in values else None,
    )


def grouped_from_json(values: Mapping[str, Any]) -> Grouped:
    """The audits by one grouping from plain values."""
    audits = {(plain["network"], plain["split"]): audit_from_json(plain) for plain in values["audits"]}
    return Grouped(audits=audits, **{name: values[name] for name in _BY_GROUPS})


def audits_to_json(networks: Iterable[Network], audits: Audits) -> list[dict[str, Any]]:
    """The plain values of audits, in the order of the networks."""
    return [
        {"network": network.key, "split": split} | audit_to_json(audit)
        for network, split, audit in audited(networks, audits)
    ]


def _grouped_to_json(networks: Iterable[Network], grouped: Grouped | Results) -> dict[str, Any]:
    return {name: getattr(grouped, name) for name in _BY_GROUPS} | {"audits": audits_to_json(networks, grouped.audits)}
