"""The name of what was pruned, its schedule, and the sparsity that was reached."""

from dataclasses import replace

import numpy as np
import pytest
from comparisons import LIFT, compared_results, trial
from made_results import made_results

from jaxprune.reporting.pruning_name import criterion_name, pruning_name
from jaxprune.reporting.pruning_words import further_training, pruning_sentences
from jaxprune.reporting.sections.answer import breaks
from jaxprune.reporting.sections.answer import section as answer
from jaxprune.reporting.sections.caveats import audit_caveats
from jaxprune.reporting.sections.experiment import reached
from jaxprune.reporting.sections.experiment import section as experiment
from jaxprune.reporting.sections.protocol import section as protocol
from jaxprune.reporting.sections.why import section as why
from jaxprune.reporting.training_words import began_from, rewound
from jaxprune.results import Network

MADE = made_results(theory=False, seeds=2)


def pruned(made=MADE, **prune):
    """The results with other settings of pruning."""
    return set_to(made, prune=prune)


def set_to(made=MADE, **sections):
    """The results with other settings in some sections."""
    return replace(made, settings=made.settings | {name: made.settings[name] | new for name, new in sections.items()})


@pytest.mark.parametrize(
    ("prune", "name"),
    [
        ({}, "global magnitude pruning"),
        ({"allocation": "layerwise"}, "layerwise magnitude pruning"),
        ({"criterion": "worst_group_curvature"}, "global worst group curvature pruning"),
        ({"criterion": "fairgrape", "allocation": "layerwise"}, "layerwise fairgrape pruning"),
        ({"structure": "blocks", "structure_options": ["height=8", "width=2"]}, "global 8×2-block magnitude pruning"),
        ({"structure": "blocks"}, "global 4×4-block magnitude pruning"),
        ({"criteria": ["magnitude", "random"]}, "global pruning"),
        ({"schedule": "rigl", "allocation": "erk"}, "erk rigl training"),
        ({"schedule": "before_training", "criterion": "synflow"}, "global synflow pruning before training"),
        ({"schedule": "iterative"}, "iterative global magnitude pruning"),
        ({"schedule": "straight_through"}, "straight through global magnitude pruning"),
    ],
)
def test_the_name_has_schedule_allocation_structure_and_criterion(prune, name) -> None:
    assert pruning_name(pruned(**prune)) == name


def test_n_of_m_is_named_by_its_numbers_where_there_is_one_sparsity() -> None:
    settings = {"structure": "n_m", "allocation": "layerwise"}
    assert "N:4" in criterion_name(pruned(**settings))
    one = made_results(theory=False, seeds=2, sparsities=(0.5,))
    assert "2:4" in criterion_name(pruned(one, **settings))
    assert "4:8" in criterion_name(pruned(one, **settings, structure_options=["m=8"]))


@pytest.mark.parametrize(
    ("prune", "words"),
    [
        ({"schedule": "iterative"}, "of each dense network, in 3 rounds with 2 epochs of retraining between them."),
        ({"schedule": "iterative", "schedule_options": ["rounds=5"]}, "in 5 rounds"),
        (
            {"schedule": "gradual"},
            "went on for 5 epochs: the pruned share rose every 20 steps, in the first 75 % of that training.",
        ),
        (
            {"schedule": "straight_through", "schedule_options": ["epochs=1", "begin=0.5"]},
            "for 1 epoch: the pruned share rose",
        ),
        (
            {"schedule": "straight_through", "schedule_options": ["begin=0.5"]},
            "from 50 % to 75 % of that training; pruned weights went on learning",
        ),
        (
            {"schedule": "before_training", "criterion": "synflow"},
            "fresh networks were pruned by the global synflow criterion at 50 % and 90 % of the kernel weights, and "
            "then trained as the dense ones were.",
        ),
        ({"schedule": "static", "allocation": "erk"}, "trained afresh by static, with 50 % and 90 %"),
        (
            {"schedule": "rigl", "allocation": "erk"},
            "every 100 steps 30 % of the kept weights, falling to 0 at 75 % of the training, were dropped",
        ),
        ({"schedule": "set", "allocation": "erk"}, "(allocation: erk)"),
        (
            {"criterion": "woodfisher", "criterion_options": ["damping=0.01"]},
            "The global woodfisher criterion (damping=0.01) pruned",
        ),
        ({"keep_dense": ["first", "last"]}, "50 % and 90 % of the weights that may be pruned of each"),
        (
            {"keep_dense": ["last"]},
            "are the kernels of all layers but the last, which stayed dense.",
        ),
        (
            {"keep_dense": ["last", "first"], "exclude": ["b"]},
            "the kernels without those named “b”, of all layers but the",
        ),
        ({"include": ["a*", "b"]}, "pruned are the parameters named “a*” or “b”; all others stayed dense."),
        ({"criteria": ["magnitude", "random"]}, "Every criterion (global, unless it has an allocation of its own)"),
    ],
)
def test_pruning_in_whole_sentences(prune, words) -> None:
    assert words in pruning_sentences(pruned(**prune))


def test_own_criteria_of_methods_are_named() -> None:
    own = "or the criterion of a method that has one"
    assert pruning_sentences(pruned(), own=own).startswith(f"The global magnitude criterion, {own}, pruned 50 %")


def test_rewinding_and_the_epochs_after_it() -> None:
    plain = set_to(train={"epochs": 15}, retrain={"rewind": 3})
    assert "set back to epoch 3 of the dense training" in rewound(plain)
    assert "repeated" not in rewound(plain)
    assert "retrained for 2 epochs" in experiment(plain).texts[0]
    repeated = set_to(train={"epochs": 15}, retrain={"rewind": 3, "rewind_learning_rate": True})
    assert "repeated from that epoch on" in rewound(repeated)
    assert "retrained for 12 epochs" in experiment(repeated).texts[0]
    assert "to the initial weights of the dense training" in experiment(set_to(retrain={"rewind": 0})).texts[0]
    assert rewound(MADE) == ""


def test_networks_that_begin_from_a_file_say_so() -> None:
    assert began_from(MADE) == ""
    file = {"weights": "there/net.safetensors", "new_head": True}
    assert "from the file net.safetensors, with a new last layer." in experiment(set_to(model=file)).texts[0]
    zeros = set_to(model={"weights": "net.pt", "keep_zeros": True})
    layers = [{"path": "a", "size": 64, "kept": [32, 32]}, {"path": "b", "size": 36, "kept": [18, 18]}]
    dense, *others = zeros.networks
    zeros = replace(zeros, networks=(replace(dense, layers=layers), *others))
    assert "held at 0 (50 % of the weights that may be pruned)" in began_from(zeros)


def test_the_constraint_of_the_dense_training_needs_such_networks() -> None:
    assert "“equal_loss” on the retraining." in experiment(MADE).texts[0]
    fair = Network("fair_dense", "Dense, fair", "dense", dense="fair_dense", method="configured")
    both = replace(MADE, networks=(*MADE.networks, fair))
    assert "on the dense training, on the retraining, or on both." in experiment(both).texts[0]


def test_networks_are_not_broken_where_the_dense_ones_learned_nothing() -> None:
    made = made_results(harm=(0.1, 1.5), theory=False, seeds=2)
    assert any("no longer work" in text for text in audit_caveats(made))
    whole = made.audit(made.dense, "test").metrics.overall_accuracy
    poor = replace(made, majority=dict.fromkeys(made.majority, float(np.max(whole))))
    [first, *others] = audit_caveats(poor)
    assert "little or no better than the commonest label" in first
    assert "train.epochs" in first
    assert not any("no longer work" in text for text in others)


def test_the_figures_are_named_by_what_was_pruned_how() -> None:
    networks = tuple(
        replace(n, title="Trained sparse") if n.name == "pruned" else n for n in made_results(theory=False).networks
    )
    made = replace(pruned(made_results(theory=False), schedule="rigl"), networks=networks)
    [figure] = answer(made).figures
    assert figure.caption.startswith("Trained sparse at 90 %, test split")


def test_protocols_name_the_pruning() -> None:
    made = compared_results([trial("ceag", LIFT)])
    settings = {"schedule": "set", "allocation": "erk"}
    assert "trained afresh by set" in protocol(pruned(made, **settings)).texts[0]
    assert "(allocation: erk)" in protocol(pruned(made, **settings)).texts[0]
    text = protocol(set_to(made, retrain={"rewind": 1})).texts[0]
    assert "set back to epoch 1 of the dense training. Every method retrained the pruned networks for 2 epochs" in text


def test_training_beyond_that_of_the_dense_networks_is_told() -> None:
    assert further_training(MADE) == []
    assert "had 5 epochs of training more" in further_training(pruned(schedule="gradual"))[0]
    assert "had 4 epochs of training more" in further_training(pruned(schedule="iterative"))[0]
    assert further_training(pruned(schedule="rigl")) == []
    assert any("5 epochs" in text for text in audit_caveats(pruned(schedule="gradual")))


def test_sparse_training_is_not_said_to_prune_the_dense_networks() -> None:
    text = experiment(pruned(schedule="rigl")).texts[0]
    assert "trained afresh" in text
    assert "of each" not in text
    assert "magnitude" not in text
    assert "pruned 50 % and 90 %" in experiment(pruned(schedule="gradual")).texts[0]


def test_sparsities_that_were_not_reached_are_told() -> None:
    assert reached(MADE) is None
    layers = [{"path": "a", "size": 64, "kept": [32, 32]}, {"path": "b", "size": 36, "kept": [20, 20]}]
    networks = tuple(replace(n, layers=layers) if n.sparsity == 0.5 else n for n in MADE.networks)
    text = reached(replace(MADE, networks=networks))
    assert text is not None
    assert "48 % for 50 %" in text
    assert "90 %" not in text


def test_a_page_without_theory_says_why() -> None:
    assert len(why(MADE).texts) == 1
    first, _ = why(pruned(schedule="iterative")).texts
    assert "iterative" in first


def test_dense_networks_that_learned_nothing_are_said_to_be_at_fault() -> None:
    made = made_results(harm=(0.1, 1.5), theory=False, seeds=2)
    audits = {}
    for key, audit in made.audits.items():
        tests = audit.tests
        if tests is not None:
            none = tests.working._replace(skill=np.full(2, np.nan), works=np.array([True, False]))
            tests = tests._replace(working=none)
        audits[key] = audit._replace(tests=tests)
    [sentence] = breaks(replace(made, audits=audits))
    assert sentence.startswith("The dense networks of 1 of 2 seeds do no better than the commonest label")
