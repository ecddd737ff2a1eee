"""Every part that a setting can name: one registry for each family.

A line here makes a part known to the settings, to the command line and its help, and to the tests. Targets are text,
so that naming the parts imports none of them.
"""

from collections.abc import Mapping
from typing import NamedTuple

from jaxprune.registry import Entry, Registry

_CRITERIA = "jaxprune.pruning.criteria"
CRITERIA = Registry(
    "criterion",
    {
        "magnitude": Entry(f"{_CRITERIA}.magnitude:magnitude", "|w|"),
        "random": Entry(f"{_CRITERIA}.random:random", "uniform, the control"),
        "curvature": Entry(f"{_CRITERIA}.curvature:curvature", "predicted rise of the overall loss"),
        "worst_group_curvature": Entry(
            f"{_CRITERIA}.curvature:worst_group_curvature", "predicted rise of the worst group's loss"
        ),
        "fairprune": Entry(
            f"{_CRITERIA}.fairprune:fairprune", "protects the group with the largest loss", {"beta": 1 / 3}
        ),
        "fairgrape": Entry(f"{_CRITERIA}.fairgrape:fairgrape", "keeps each group's share of the importance"),
        "wanda": Entry(f"{_CRITERIA}.wanda:wanda", "|w| times the size of its input", {"per_output": True}),
        "worst_group_wanda": Entry(
            f"{_CRITERIA}.wanda:worst_group_wanda",
            "the same by the group whose input is the largest",
            {"per_output": True},
        ),
        "sparsegpt": Entry(
            f"{_CRITERIA}.sparsegpt:sparsegpt", "error of each layer; corrects the kept weights", {"damping": 1e-2}
        ),
        "woodfisher": Entry(
            f"{_CRITERIA}.woodfisher:woodfisher",
            "optimal brain surgeon in blocks; corrects the kept weights",
            {"damping": 1e-3, "block": 50, "examples_per_gradient": 1},
        ),
        "taylor": Entry(f"{_CRITERIA}.taylor:taylor", "|w g|, first-order change of the loss"),
        "worst_group_taylor": Entry(f"{_CRITERIA}.taylor:worst_group_taylor", "|w g| of the group that needs w most"),
        "snip": Entry(f"{_CRITERIA}.snip:snip", "share of the sensitivity |w g|, for untrained networks"),
        "grasp": Entry(
            f"{_CRITERIA}.grasp:grasp", "preserves the gradient's norm, for untrained networks", {"temperature": 200.0}
        ),
        "synflow": Entry(f"{_CRITERIA}.synflow:synflow", "share of the flow of ones, without data", {"rounds": 100}),
        "fisher": Entry(f"{_CRITERIA}.fisher:fisher", "w² by the mean square of the examples' gradients"),
        "obd": Entry(f"{_CRITERIA}.obd:obd", "w² by the diagonal of the Hessian", {"probes": 64, "exact_up_to": 1000}),
        "movement": Entry(
            f"{_CRITERIA}.movement:movement",
            "keeps weights that training moves away from 0",
            {"epochs": 1, "learning_rate": 0.01, "batch_size": 128},
        ),
        "lamp": Entry(f"{_CRITERIA}.lamp:lamp", "magnitude, scaled by what its layer keeps"),
    },
    group="jaxprune.criteria",
)

# Group-aware criterion -> the same one that does not know the groups, its control.
WITHOUT_GROUPS: Mapping[str, str] = {
    "worst_group_curvature": "curvature",
    "worst_group_taylor": "taylor",
    "worst_group_wanda": "wanda",
}

_ALLOCATIONS = "jaxprune.pruning.allocations"
ALLOCATIONS = Registry(
    "allocation",
    {
        "global": Entry(f"{_ALLOCATIONS}.uniform:together", "one threshold for all layers", {"normalise": False}),
        "layerwise": Entry(f"{_ALLOCATIONS}.uniform:layerwise", "the same share of every layer"),
        "erk": Entry(f"{_ALLOCATIONS}.erk:erk", "large layers more", {"scale": 1.0, "kernel_dims": True}),
        "levels": Entry(f"{_ALLOCATIONS}.levels:levels", "given for some layers", {"levels": ()}),
    },
    group="jaxprune.allocations",
)

_STRUCTURES = "jaxprune.pruning.structures"
_CHANNELS = {"pool": "l2", "normalise": "mean", "cost": "channels", "round_to": "exact", "at_least": 1}
STRUCTURES = Registry(
    "structure",
    {
        "weights": Entry(f"{_STRUCTURES}.weights:weights", "single weights"),
        "n_m": Entry(f"{_STRUCTURES}.n_m:n_m", "N of M along the reduction axis", {"m": 4, "axis": None}),
        "blocks": Entry(f"{_STRUCTURES}.blocks:blocks", "tiles of kernels", {"height": 4, "width": 4, "pool": "mean"}),
        "channels": Entry(f"{_STRUCTURES}.channels:channels", "coupled channels, which can be removed", _CHANNELS),
        "heads": Entry(f"{_STRUCTURES}.channels:heads", "heads of attention, which can be removed", _CHANNELS),
    },
    group="jaxprune.structures",
)

SPARED = "spared"  # the allocation by levels that are measured
ONE_SHOT = "one_shot"
_SCHEDULES = "jaxprune.pipeline.pruning_schedules"
_GRADUAL = {"epochs": 5, "begin": 0.0, "end": 0.75, "every": 20}
_REGROWTH = {"fraction": 0.3, "end": 0.75, "every": 100}
# When the weights are pruned: options alone, for the plan decides what is trained and pruned in which order.
PRUNING_SCHEDULES = Registry(
    "schedule",
    {
        ONE_SHOT: Entry(f"{_SCHEDULES}:one_shot", "all at once after the dense training"),
        "iterative": Entry(f"{_SCHEDULES}:iterative", "in rounds, with retraining between them", {"rounds": 3}),
        "gradual": Entry(f"{_SCHEDULES}:gradual", "while the dense network is trained on", _GRADUAL | {"power": 3.0}),
        "straight_through": Entry(
            f"{_SCHEDULES}:straight_through",
            "gradual, and pruned weights still learn and may come back",
            _GRADUAL | {"power": 3.0},
        ),
        "before_training": Entry(f"{_SCHEDULES}:before_training", "fresh networks, which are then trained"),
        "static": Entry(f"{_SCHEDULES}:static", "at random before the training, which starts afresh"),
        "set": Entry(f"{_SCHEDULES}:sparse_evolution", "sparse from the start, regrown at random", _REGROWTH),
        "rigl": Entry(f"{_SCHEDULES}:rigl", "sparse from the start, regrown by gradient", _REGROWTH),
    },
)

RANDOM_START = ("static", "set", "rigl")  # these begin with random masks
AFRESH = ("before_training", *RANDOM_START)  # these train sparse networks from the start

_CONSTRAINTS = "jaxprune.mitigation.constraints"
_TOLERANCE = {"tolerance": 0.0}
CONSTRAINTS = Registry(
    "constraint",
    {
        "equal_loss": Entry(f"{_CONSTRAINTS}:equal_loss", "|J_a - J| = 0"),
        "equal_loss_signed": Entry(f"{_CONSTRAINTS}:equal_loss_signed", "J_a - J = 0"),
        "loss_gap": Entry(f"{_CONSTRAINTS}:loss_gap", "J_a - J <= tolerance", _TOLERANCE),
        "equal_accuracy": Entry(f"{_CONSTRAINTS}:equal_accuracy", "equal accuracies"),
        "accuracy_gap": Entry(f"{_CONSTRAINTS}:accuracy_gap", "accuracy below overall <= tolerance", _TOLERANCE),
        "equal_excessive_loss": Entry(f"{_CONSTRAINTS}:equal_excessive_loss", "R(a) = R"),
        "excessive_loss_gap": Entry(f"{_CONSTRAINTS}:excessive_loss_gap", "R(a) - R <= tolerance", _TOLERANCE),
        "excess_accuracy_gap": Entry(f"{_CONSTRAINTS}:excess_accuracy_gap", "CEAG, ψ_a <= tolerance", _TOLERANCE),
        "equal_accuracy_drop": Entry(f"{_CONSTRAINTS}:equal_accuracy_drop", "ψ_a = 0"),
    },
    group="jaxprune.constraints",
)

_DUALS = "jaxprune.mitigation.duals"
DUALS = Registry(
    "dual",
    {
        "ascent": Entry(f"{_DUALS}:ascent", "gradient ascent"),
        "momentum": Entry(f"{_DUALS}:ascent", "ascent with momentum", {"momentum": 0.9}),
        "nu_pi": Entry(f"{_DUALS}:nu_pi", "νPI control", {"nu": 0.9, "proportional": 5.0}),
        "restart": Entry(f"{_DUALS}:restarted_ascent", "ascent, back to 0 where the constraint holds"),
    },
)

_SCHEMES = "jaxprune.mitigation.schemes"
SCHEMES = Registry(
    "scheme",
    {
        "simultaneous": Entry(f"{_SCHEMES}:simultaneous", "gradient at the old multipliers"),
        "alternating": Entry(f"{_SCHEMES}:alternating", "gradient at the new multipliers"),
        "extragradient": Entry(f"{_SCHEMES}:extragradient", "gradient and violation at a trial step; twice the cost"),
    },
)

_METHODS = "jaxprune.mitigation.methods"
METHODS = Registry(
    "method",
    {
        "naive": Entry(f"{_METHODS}.fine_tuning:NAIVE"),
        "naive_best": Entry(f"{_METHODS}.fine_tuning:NAIVE_BEST"),
        "equal_loss": Entry(f"{_METHODS}.lagrangian:EQUAL_LOSS"),
        "equal_loss_buffer": Entry(f"{_METHODS}.lagrangian:EQUAL_LOSS_BUFFER"),
        "equal_loss_signed": Entry(f"{_METHODS}.lagrangian:EQUAL_LOSS_SIGNED"),
        "equal_loss_nupi": Entry(f"{_METHODS}.lagrangian:EQUAL_LOSS_NUPI"),
        "equal_loss_augmented": Entry(f"{_METHODS}.lagrangian:EQUAL_LOSS_AUGMENTED"),
        "loss_gap": Entry(f"{_METHODS}.lagrangian:LOSS_GAP"),
        "equal_loss_held_out": Entry(f"{_METHODS}.lagrangian:EQUAL_LOSS_HELD_OUT"),
        "equal_harm": Entry(f"{_METHODS}.lagrangian:EQUAL_HARM"),
        "ceag": Entry(f"{_METHODS}.lagrangian:CEAG"),
        "ceag_held_out": Entry(f"{_METHODS}.lagrangian:CEAG_HELD_OUT"),
        "group_dro": Entry(f"{_METHODS}.group_dro:GROUP_DRO"),
        "reweighted": Entry(f"{_METHODS}.reweighting:REWEIGHTED"),
        "balanced": Entry(f"{_METHODS}.reweighting:BALANCED"),
        "performance_weighted": Entry(f"{_METHODS}.distillation:PERFORMANCE_WEIGHTED"),
        "fairgrape": Entry(f"{_METHODS}.criteria:FAIRGRAPE"),
        "fairprune": Entry(f"{_METHODS}.criteria:FAIRPRUNE"),
        "curvature": Entry(f"{_METHODS}.criteria:CURVATURE"),
        "spared": Entry(f"{_METHODS}.criteria:SPARED"),
        "spared_distilled": Entry(f"{_METHODS}.criteria:SPARED_DISTILLED"),
        "spared_equal_loss": Entry(f"{_METHODS}.criteria:SPARED_EQUAL_LOSS"),
        "spared_adjusted": Entry(f"{_METHODS}.criteria:SPARED_ADJUSTED"),
        "distilled": Entry(f"{_METHODS}.distillation:DISTILLED"),
        "distilled_ceag": Entry(f"{_METHODS}.distillation:DISTILLED_CEAG"),
        "logit_adjusted": Entry(f"{_METHODS}.reweighting:LOGIT_ADJUSTED"),
        "full_program": Entry(f"{_METHODS}.full_program:FULL_PROGRAM"),
    },
    group="jaxprune.methods",
)
CONFIGURED = "configured"  # the method that the settings of [mitigation] describe
PLAIN = "naive"  # the method without a constraint


class PaperModel(NamedTuple):
    """A model of Tran et al. (2022), §6.

    Attributes:
      dense: The method of training its dense network.
      retraining: The method of retraining the pruned one.
      title: Its name for readers.
    """

    dense: str
    retraining: str
    title: str


PAPER_MODELS: Mapping[str, PaperModel] = {
    "none": PaperModel(PLAIN, PLAIN, "No mitigation"),
    "fair_before": PaperModel(CONFIGURED, PLAIN, "Fair before pruning"),
    "fair_after": PaperModel(PLAIN, CONFIGURED, "Fair after pruning"),
    "fair_both": PaperModel(CONFIGURED, CONFIGURED, "Fair before and after"),
}

_OPTIMISERS = "jaxprune.optimisers"
OPTIMISERS = Registry(
    "optimizer",
    {
        "adam": Entry(f"{_OPTIMISERS}:adam"),
        "adamw": Entry(f"{_OPTIMISERS}:adamw", "Adam with decoupled weight decay", {"weight_decay": 0.0}),
        "sgd": Entry(f"{_OPTIMISERS}:sgd", "with momentum", {"momentum": 0.0, "weight_decay": 0.0}),
    },
)

SCHEDULES = Registry(
    "schedule",
    {
        "constant": Entry(f"{_OPTIMISERS}:constant"),
        "cosine": Entry(f"{_OPTIMISERS}:cosine", "to 0 at the last step"),
    },
)

_NETWORKS = "jaxprune.models"
_RESNET = {"width": 1.0, "norm": "batch", "stem": "auto"}
_SMALL_RESNET = {"width": 1.0, "norm": "batch", "shortcut": "pad"}
NETWORKS = Registry(
    "model",
    {
        "mlp": Entry(f"{_NETWORKS}.mlp:MLP", "", {"hidden": (64, 64)}),
        "convnet": Entry(f"{_NETWORKS}.convnet:ConvNet", "", {"channels": (16, 32), "hidden": (64, 32)}),
        "resnet18": Entry(f"{_NETWORKS}.resnet:resnet18", "", _RESNET),
        "resnet34": Entry(f"{_NETWORKS}.resnet:resnet34", "", _RESNET),
        "resnet50": Entry(f"{_NETWORKS}.resnet:resnet50", "", _RESNET),
        "resnet20": Entry(f"{_NETWORKS}.resnet:resnet20", "", _SMALL_RESNET),
        "resnet56": Entry(f"{_NETWORKS}.resnet:resnet56", "", _SMALL_RESNET),
        "vgg19": Entry(f"{_NETWORKS}.vgg:VGG", "", {"width": 1.0, "norm": "batch", "head": "auto", "dropout": 0.5}),
        "mobilenet_v2": Entry(
            f"{_NETWORKS}.mobilenet:MobileNetV2", "", {"width": 1.0, "norm": "batch", "stem": "auto", "dropout": 0.2}
        ),
        "vit": Entry(f"{_NETWORKS}.vit:ViT", "", {"patch": 4, "features": 192, "depth": 6, "heads": 3}),
    },
    group="jaxprune.networks",
)

# How a network of a run is written for use elsewhere.
EXPORT_FORMATS: Mapping[str, str] = {
    "safetensors": "arrays with torchvision's names",
    "packed": "the same without the zeros: a bit for each weight, and the values kept",
    "bcoo": "coordinates and values for jax.experimental.sparse",
    "stablehlo": "a program that runs without jaxprune, by jax.export",
}
_SOURCES = "jaxprune.data.sources"
SOURCES = Registry(
    "data set",
    {
        "adult": Entry(f"{_SOURCES}.adult:read_adult"),
        "synthetic": Entry(
            f"{_SOURCES}.synthetic:make_synthetic",
            "",
            {"sizes": (8000, 800), "margins": (2.0, 1.0), "noise": (0.0,)},
        ),
        "digits": Entry(f"{_SOURCES}.digits:read_digits"),
    },
    group="jaxprune.data",
)
