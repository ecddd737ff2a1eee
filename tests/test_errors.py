"""Suggestions for names that are nearly right, and none for others."""

import pytest

from jaxprune import config, data, pruning
from jaxprune.cli.arguments import COMMANDS
from jaxprune.errors import TrainingDiverged, UserError, nearest, unknown

SETS = (*data.CATALOGUE,)


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("adlut", SETS, ["adult"]),
        ("Adult", SETS, ["adult"]),
        ("kmnist", SETS, ["mnist"]),
        ("rum", COMMANDS, ["run"]),
        ("mpl", ["mlp", "vit", "vgg19"], ["mlp"]),
        ("train.epoch", config.paths(), ["train.epochs", "retrain.epochs"]),
        ("epochs", config.paths(), ["retrain.epochs", "train.epochs"]),
        ("sparsity", config.paths(), ["prune.sparsities"]),
        ("equal", ["equal_accuracy", "equal_loss", "equal_loss_signed", "loss_gap"], ["equal_loss"]),
        ("resnet", ["resnet18", "resnet34", "vit"], ["resnet18", "resnet34"]),
    ],
)
def test_what_is_near_is_suggested(name, known, expected) -> None:
    assert nearest(name, known)[: len(expected)] == expected


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("dense", config.paths()),
        ("nothere", SETS),
        ("dis2", SETS),
        ("nope", SETS),
        ("hutchinson", pruning.CRITERIA),
        ("", SETS),
        ("x", config.paths()),
    ],
)
def test_what_is_not_near_is_not(name, known) -> None:
    assert nearest(name, known) == []
    assert "did you mean" not in str(unknown("name", name, known))
    assert "known: " in str(unknown("name", name, known))


@pytest.mark.parametrize("kind", [UserError, TrainingDiverged])
def test_a_notebook_shows_one_line_in_place_of_a_traceback(kind) -> None:
    assert kind("data.name: unknown")._render_traceback_() == ["jaxprune: error: data.name: unknown"]


def test_a_dotted_name_lists_its_section() -> None:
    known = ["prune.allocation", "prune.sparsities", "train.epochs", "seeds"]
    assert str(unknown("setting", "prune.zzz", known)).endswith("known: prune.allocation, prune.sparsities")
    assert str(unknown("setting", "compare.zzz", known)).endswith("known: prune, seeds, train")
