import re

import pytest

from jaxprune import config
from jaxprune.errors import UserError


def test_defaults_are_the_shipped_adult_config() -> None:
    # `jaxprune run` and `jaxprune run adult` are the same job, but for the group, which is adult's own default.
    shipped = config.load("adult")
    assert shipped.model_copy(update={"data": shipped.data.model_copy(update={"group": ""})}) == config.load()


@pytest.mark.parametrize("name", sorted(config.shipped()))
def test_shipped_configs_are_valid_and_state_their_command(name: str) -> None:
    config.load(name)
    header = [line for line in config.find(name).read_text().splitlines() if line.startswith("#")]
    assert re.search(rf"jaxprune (run|compare) {name}\b", "\n".join(header))
    assert any("Takes:" in line for line in header), "the cost"
    assert any("Shows:" in line for line in header), "the expected numbers"


def test_settings_survive_toml(tmp_path) -> None:
    settings = config.load(None, {"train.epochs": 3, "prune.sparsities": (0.5,), "model.hidden": (8, 4)})
    path = tmp_path / "again.toml"
    path.write_text(config.to_toml(settings))
    assert config.load(str(path)) == settings


def test_bins_may_be_numbers_and_texts(tmp_path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('[data]\nbins = [40, "age=30,60"]\n')
    settings = config.load(str(path))
    assert settings.data.bins == (40, "age=30,60")
    path.write_text(config.to_toml(settings))
    assert config.load(str(path)) == settings
    assert config.load(None, {"data.bins": (30,)}).data.bins == (30.0,)


def test_overrides_go_before_the_file(tmp_path) -> None:
    path = tmp_path / "own.toml"
    path.write_text("seeds = 2\n[train]\nepochs = 7\n")
    settings = config.load(str(path), {"train.epochs": 9})
    assert (settings.seeds, settings.train.epochs) == (2, 9)


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        ({"train.epoch": 3}, ["unknown setting 'train.epoch'", "train.epochs"]),
        ({"trian.epochs": 3}, ["unknown setting 'trian'", "train"]),
        ({"train.epochs": 2.5}, ["train.epochs = 2.5", "integer"]),
        ({"train.epochs": 0}, ["train.epochs = 0", "greater than or equal to 1"]),
        ({"train.epochs": "many"}, ["train.epochs = 'many'", "integer"]),
        ({"prune.sparsities": (0.5, 1.0)}, ["prune.sparsities = 1.0", "less than 1"]),
        ({"prune.sparsities": (-0.1,)}, ["prune.sparsities = -0.1", "greater than or equal to 0"]),
        ({"prune.sparsities": ()}, ["prune.sparsities", "at least 1"]),
        ({"prune.sparsities": (0.5, 0.5)}, ["prune.sparsities", "twice"]),
        ({"train.learning_rate": float("nan")}, ["train.learning_rate"]),
        ({"retrain.methods": ("fair",)}, ["retrain.methods", "fair_both"]),
        ({"train.momentum": 0.9}, ["train.momentum: adam has no momentum"]),
        ({"train.weight_decay": 0.1}, ["train.weight_decay: adam has no weight_decay"]),
        ({"mitigation.tolerance": 0.1}, ["mitigation.tolerance: equal_loss has no tolerance"]),
        ({"train.optimizer": "adamax"}, ["train.optimizer: unknown optimizer 'adamax'", "'adam'"]),
        ({"prune.criterion": "magnitud"}, ["prune.criterion: unknown criterion", "did you mean 'magnitude'"]),
        ({"prune.allocation": "layers"}, ["prune.allocation: unknown allocation", "'layerwise'"]),
        ({"mitigation.constraint": "loss"}, ["mitigation.constraint: unknown constraint", "loss_gap"]),
        ({"mitigation.dual": "descent"}, ["mitigation.dual: unknown dual", "ascent"]),
        ({"mitigation.scheme": "both"}, ["mitigation.scheme: unknown scheme", "alternating"]),
        ({"retrain.methods": ("configurd",)}, ["retrain.methods: unknown method", "did you mean 'configured'"]),
        ({"data.bins": (30, True)}, ["data.bins = True", "number"]),
        ({"train": 3}, ["train = 3", "a section, as [train] in TOML"]),
        ({"data.bins": (float("inf"),)}, ["data.bins = inf", "finite"]),
    ],
)
def test_a_mistake_is_one_line_that_names_the_setting(overrides, parts) -> None:
    with pytest.raises(UserError) as caught:
        config.load(None, overrides)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_mistake_is_blamed_on_the_place_that_it_comes_from(tmp_path) -> None:
    path = tmp_path / "own.toml"
    path.write_text("seeds = 2\n[train]\nepochs = 0\n")
    for overrides, place in (
        ({}, f"{path}: train.epochs = 0"),
        ({"seeds": 0}, "command line: seeds = 0"),
        ({"train.epochs": -1}, "command line: train.epochs = -1"),
        ({"prune.sparsities": (0.5, 2.0), "train.epochs": 3}, "command line: prune.sparsities = 2.0"),
        ({"train.epoch": 2, "train.epochs": 3}, "command line: unknown setting 'train.epoch'"),
    ):
        with pytest.raises(UserError) as caught:
            config.load(str(path), overrides)
        assert str(caught.value).startswith(place), overrides


@pytest.mark.parametrize(
    ("overrides", "advice"),
    [
        ({"prune.sparsities": (50, 70)}, "; write 0.5 for 50 %"),
        ({"prune.sparsities": (0.5, 99.5)}, "; write 0.995 for 99.5 %"),
        ({"data.validation": 20}, "; write 0.2 for 20 %"),
        ({"prune.sparsities": (1.0,)}, "less than 1"),
        ({"prune.sparsities": (700,)}, "less than 1"),
    ],
)
def test_a_percentage_for_a_share_is_told_how_to_write_it(overrides, advice) -> None:
    with pytest.raises(UserError) as caught:
        config.load(None, overrides)
    assert str(caught.value).endswith(advice)


def test_unknown_and_broken_files(tmp_path) -> None:
    with pytest.raises(UserError, match="did you mean 'digits'"):
        config.load("digit")
    broken = tmp_path / "broken.toml"
    broken.write_text("seeds = = 3")
    with pytest.raises(UserError, match="not a TOML file"):
        config.load(str(broken))
