"""What the report says of channels that were removed."""

from dataclasses import replace

import pytest
from made_results import made_results
from sections import rows_of, texts_of

from jaxprune.reporting.page import Folded, Table
from jaxprune.reporting.pruning_name import part_name, pruning_name, unit_name
from jaxprune.reporting.pruning_words import pruning_sentences
from jaxprune.reporting.sections.answer import who_is_hurt
from jaxprune.reporting.sections.experiment import reached
from jaxprune.reporting.sections.removed_channels import section

MADE = made_results(theory=False, seeds=2)
LAYERS = [{"path": "a/kernel", "size": 80, "kept": [40, 20]}]


def with_channels(structure="channels", options=(), difference=(1e-6, 4e-6)):
    """The results with channels removed in every network that is pruned."""

    def channels(network):
        kept = [round(8 * (1 - network.sparsity)), round(8 * (1 - network.sparsity)) + 1]
        return {
            "couplings": [{"name": "a/kernel[1]", "kind": structure, "size": 8, "kept": kept}],
            "removed": {"channels": [network.sparsity] * 2, "parameters": [0.25, 0.75], "flops": [0.125, 0.125]},
            "equality": {"people": 1234, "difference": list(difference), "largest": [10.0, 20.0]},
        }

    prune = MADE.settings["prune"] | {"structure": structure, "structure_options": list(options)}
    networks = tuple(
        replace(network, channels=channels(network), layers=LAYERS) if network.sparsity else network
        for network in MADE.networks
    )
    return replace(MADE, settings=MADE.settings | {"prune": prune}, networks=networks)


def tables_of(results):
    """The table of shares, and that of the couplings."""
    content = section(results).contents
    folded = next(part for part in content if isinstance(part, Folded))
    return next(part for part in content if isinstance(part, Table)), folded.contents[0]


def test_other_structures_have_no_such_section():
    assert section(MADE) is None
    assert unit_name(MADE) == part_name(MADE) == "weights"


def test_the_shares_are_those_of_the_records():
    shares, couplings = tables_of(with_channels())
    assert shares.above == (("", 1), ("means over seeds", 4), ("first seed", 2))
    assert shares.rows == (
        ("50 %", "50 %", "62.5 %", "50 %", "12.5 %", "25 %", "12.5 %"),
        ("90 %", "90 %", "62.5 %", "50 %", "12.5 %", "25 %", "12.5 %"),
    )
    assert [tuple(row.values()) for row in rows_of(couplings)] == [("a/kernel[1]", "8", "4 to 5", "1 to 2")]


def test_the_equality_of_compact_networks_is_stated():
    text = texts_of(section(with_channels()))
    assert "2e-07 of the largest logit, on 1,234 people of the test split" in text
    assert "outcomes here are those of the compact networks" in text


@pytest.mark.parametrize(
    ("structure", "options", "unit", "name"),
    [
        ("channels", (), "channels", "global channel magnitude pruning"),
        ("heads", (), "heads", "global head magnitude pruning"),
        ("channels", ("cost=flops",), "FLOPs", "global channel magnitude pruning"),
        ("heads", ("cost=parameters",), "parameters", "global head magnitude pruning"),
    ],
)
def test_what_was_pruned_is_named(structure, options, unit, name):
    results = with_channels(structure, options)
    assert (unit_name(results), part_name(results), pruning_name(results)) == (unit, structure, name)
    assert f"of the {unit}" in who_is_hurt(results)[0]
    whole = f", as whole {structure}," if options else ""
    assert f"pruned 50 % and 90 % of the {unit}{whole} of each dense network" in pruning_sentences(results)
    assert reached(results) is None, "the section says it"


def test_options_are_named():
    text = texts_of(section(with_channels(options=("pool=l1", "normalise=none", "round_to=16", "at_least=2"))))
    assert "the sum of the scores of its weights" in text
    assert "multiples of 16" in text
    assert "at least 2 channels of each" in text
    assert "over the mean" not in text
