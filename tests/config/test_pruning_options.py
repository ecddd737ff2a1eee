"""Options of criteria, structures, allocations and schedules, as name=value."""

import pytest

from jaxprune import config
from jaxprune.config.options import Part, allocation_of, criterion_of, schedule_of, structure_of
from jaxprune.errors import UserError


def prune(**settings):
    return config.load(None, {f"prune.{name}": value for name, value in settings.items()}).prune


def test_options_are_read_as_the_type_of_their_default() -> None:
    settings = prune(
        criterion="fairprune", criterion_options=("beta=0.5",), schedule="iterative", schedule_options=("rounds=4",)
    )
    assert criterion_of(settings, "fairprune") == Part("fairprune", (("beta", 0.5),))
    assert schedule_of(settings) == {"rounds": 4}
    assert schedule_of(prune(schedule="gradual"))["power"] == 3.0
    assert structure_of(settings) == Part("weights")
    assert allocation_of(settings) == Part("")


def test_options_that_are_the_defaults_are_no_other_part() -> None:
    settings = prune(criterion="woodfisher", criterion_options=("damping=1e-3", "block=20"))
    assert criterion_of(settings, "woodfisher") == Part("woodfisher", (("block", 20),))


def test_one_of_several_criteria_has_options_of_its_own() -> None:
    settings = prune(criteria=("magnitude", "fairprune"), criterion_options=("fairprune.beta=0.25",))
    assert criterion_of(settings, "fairprune").options == (("beta", 0.25),)
    assert criterion_of(settings, "magnitude").options == ()


def test_one_of_several_structures_has_options_of_its_own() -> None:
    settings = prune(structures=("weights", "channels:cost=flops:pool=l1", "n_m:m=4"))
    assert [structure_of(settings, entry) for entry in settings.structures] == [
        Part("weights"), Part("channels", (("cost", "flops"), ("pool", "l1"))), Part("n_m"),
    ]  # fmt: skip


def test_the_criterion_of_a_method_does_not_take_the_options_of_the_settings() -> None:
    settings = prune(criterion="fairprune", criterion_options=("beta=0.5",))
    assert criterion_of(settings, "curvature") == Part("curvature")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"criterion_options": ("damping=1",)}, "prune.criterion_options.damping: magnitude has no damping"),
        ({"criterion_options": ("damping",)}, "prune.criterion_options: 'damping' is no option; write name=value"),
        (
            {"criterion": "fairprune", "criterion_options": ("beta=much",)},
            "prune.criterion_options.beta = 'much': it should be a number",
        ),
        (
            {"criterion": "fairprune", "criterion_options": ("beta=nan",)},
            "prune.criterion_options.beta = 'nan': it should be finite",
        ),
        (
            {"criterion": "fairprune", "criterion_options": ("beta=1", "beta=2")},
            "prune.criterion_options: beta is given twice",
        ),
        (
            {"schedule": "iterative", "schedule_options": ("rounds=2.5",)},
            "prune.schedule_options.rounds = '2.5': it should be a whole number",
        ),
        (
            {"criteria": ("magnitude",), "criterion_options": ("beta=1",)},
            "prune.criterion_options: say whose option 'beta=1' is, as magnitude.beta=1",
        ),
        (
            {"criterion_options": ("fairprun.beta=1",)},
            "prune.criterion_options: unknown criterion 'fairprun'; did you mean 'fairprune'",
        ),
        (
            {"criterion_options": ("fairprune.bet=1",)},
            "prune.criterion_options.bet: fairprune has no bet",
        ),
        ({"allocation_options": ("scale=1",)}, "prune.allocation_options: the usual allocation has no options"),
        ({"allocation": "levels"}, "prune.allocation_options: levels needs some, as levels=dense_0/*=0.5"),
        ({"criterion": "magnitud"}, "prune.criterion: unknown criterion 'magnitud'; did you mean 'magnitude'"),
        ({"structure": "weight"}, "prune.structure: unknown structure 'weight'; did you mean 'weights'"),
        ({"schedule": "oneshot"}, "prune.schedule: unknown schedule 'oneshot'; did you mean 'one_shot'"),
        ({"criteria": ("random", "random")}, "prune.criteria: 'random' is given twice"),
        ({"structures": ("weight",)}, "prune.structures: unknown structure 'weight'; did you mean 'weights'"),
        ({"structures": ("channels:cots=flops",)}, "prune.structures.cots: channels has no cots"),
        ({"structures": ("channels:cost",)}, "prune.structures: 'cost' is no option; write name=value"),
        ({"structures": ("channels", "channels:cost=channels")}, "'channels:cost=channels' is there already"),
        ({"structures": ("weights",), "criteria": ("magnitude",)}, "prune.structures: prune.criteria compares, too"),
        ({"structures": ("weights",), "structure": "n_m"}, "prune.structure: prune.structures names several"),
        (
            {"structures": ("weights", "n_m"), "structure_options": ("m=2",)},
            "prune.structure_options: write them into prune.structures, as n_m:m=2",
        ),
        ({"structures": ("weights", "n_m"), "schedule": "rigl"}, "prune.structures: rigl begins with random masks"),
    ],
)
def test_wrong_options_are_one_line(settings, message) -> None:
    with pytest.raises(UserError) as error:
        prune(**settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"retrain.rewind": 15}, "retrain.rewind: epoch 15 is not before the end of the dense training"),
        ({"retrain.rewind_learning_rate": True}, "retrain.rewind_learning_rate: give the epoch in retrain.rewind"),
        (
            {"retrain.rewind": 2, "prune.schedule": "rigl"},
            "retrain.rewind: the networks of rigl are trained in another way",
        ),
        ({"prune.schedule": "iterative", "prune.allocation": "spared"}, "prune.allocation: spared is for one sparsity"),
        (
            {"prune.schedule": "gradual", "prune.allocation": "levels", "prune.allocation_options": ("levels=a=0.5",)},
            "prune.allocation: levels is for one sparsity",
        ),
        ({"prune.schedule": "iterative", "prune.structure": "n_m"}, "prune.structure: n_m has few sparsities"),
        (
            {"prune.schedule": "iterative", "prune.structures": ("weights", "n_m")},
            "prune.structures: n_m has few sparsities",
        ),
        (
            {"prune.criteria": ("magnitude", "taylor"), "prune.criterion": "wanda"},
            "prune.criterion: prune.criteria names",
        ),
        ({"retrain.epochs": 0, "retrain.rewind": 1}, "retrain.rewind: there is no retraining"),
        ({"retrain.epochs": 0, "prune.schedule": "iterative"}, "prune.schedule: there is no retraining"),
        ({"model.keep_zeros": True}, "model.keep_zeros: it is about the file of model.weights"),
    ],
)
def test_wrong_rewinding_is_one_line(settings, message) -> None:
    with pytest.raises(UserError, match=message):
        config.load(None, settings)
