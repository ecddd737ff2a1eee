"""Every setting of a run, by section: its type, its range and what it does."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Sparsity = Annotated[float, Field(ge=0, lt=1)]
Width = Annotated[int, Field(gt=0, le=1_000_000)]
Split = Literal["train", "validation", "test"]
Measure = Literal[
    "cosines", "spectra", "density", "examples", "distances", "outputs", "attribution", "pruned", "sparing"
]
Method = Literal["none", "fair_before", "fair_after", "fair_both"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Data(_Section):
    """Which people."""

    name: str = Field(
        default="adult", description="a data set (see: jaxprune datasets), or an npz, CSV or Parquet file"
    )
    label: str = Field(default="", description="what is predicted; empty for the data set's own")
    group: str = Field(default="", description="what forms the groups: an attribute, or several crossed, as race*sex")
    validation: float = Field(default=0.2, gt=0, lt=1, description="share of the training part that is held out")
    sizes: tuple[int, ...] | None = Field(
        default=None, min_length=1, description="group sizes, crossed with the margins (synthetic)"
    )
    margins: tuple[float, ...] | None = Field(
        default=None, min_length=1, description="distances to the boundary (synthetic)"
    )
    noise: tuple[float, ...] | None = Field(
        default=None, min_length=1, description="shares of flipped labels (synthetic)"
    )
    directory: str | None = Field(default=None, description="folder of prepared sets (tensorflow-datasets' own)")
    bins: tuple[float | str, ...] | None = Field(
        default=None, description="edges that bin numeric attributes, as 30 60; or each its own, as age=30,60 dose=0.7"
    )
    missing: Literal["category", "drop"] | None = Field(
        default=None, description="missing values of a table: a kind of their own, or their rows left out (category)"
    )
    split_column: str | None = Field(default=None, description="the column of a table that says the split (split)")
    leave_out: tuple[str, ...] | None = Field(
        default=None, description="columns of a table that are no inputs, beside the label and the groups"
    )
    image_size: int | None = Field(default=None, ge=1, description="pixels a side to resize prepared images to")
    min_group_size: int = Field(
        default=0, ge=0, description="leave out groups with fewer examples than this in a split; 0 keeps all"
    )
    imbalance: float = Field(default=1.0, ge=1, description="thin the training groups to a long tail; 1 keeps all")
    shares: tuple[float, ...] = Field(
        default=(), description="thin the training groups to these shares; empty keeps all"
    )
    upsample_group: str = Field(default="", description="a group whose training examples are repeated")
    upsample_times: int = Field(default=1, ge=1, description="how often they are to occur")
    balance: bool = Field(default=False, description="repeat training examples until all groups are equally large")
    stream: bool = Field(default=False, description="leave a prepared set's images on disk, for sets beyond memory")


class Model(_Section):
    """Which network."""

    name: str = Field(
        default="mlp",
        description="mlp, convnet, resnet18, resnet34, resnet50, resnet20, resnet56, vgg19, mobilenet_v2 or vit",
    )
    hidden: tuple[Width, ...] | None = Field(default=None, description="widths of the dense layers")
    channels: tuple[Width, ...] | None = Field(default=None, description="channels of the convolutions (convnet)")
    width: float | None = Field(default=None, gt=0, description="times as many channels as the reference network")
    norm: Literal["batch", "group"] | None = Field(default=None, description="how layers are normalised")
    stem: Literal["auto", "small", "large"] | None = Field(
        default=None, description="for small images, large ones, or by their size (resnet18, 34, 50, mobilenet_v2)"
    )
    head: Literal["auto", "small", "large"] | None = Field(
        default=None, description="dense layers for small images, large ones, or by their size (vgg19)"
    )
    shortcut: Literal["pad", "projection"] | None = Field(
        default=None, description="zeros or a 1x1 convolution where channels are added (resnet20, 56)"
    )
    dropout: float | None = Field(default=None, ge=0, lt=1, description="share set to zero (vgg19, mobilenet_v2)")
    patch: int | None = Field(default=None, ge=1, description="pixels a side of a patch (vit)")
    features: int | None = Field(default=None, ge=1, le=1_000_000, description="width of the sequence (vit)")
    depth: int | None = Field(default=None, ge=1, le=1000, description="layers (vit)")
    heads: int | None = Field(default=None, ge=1, le=1_000_000, description="attention heads (vit)")
    weights: str = Field(
        default="", description="a .pt or .safetensors file to begin from, in place of random weights; empty for none"
    )
    new_head: bool = Field(
        default=False, description="whether the last layer of that file is for other classes, and is left out"
    )


class Train(_Section):
    """How the dense network is trained."""

    epochs: int = Field(default=15, ge=1, description="passes over the training split")
    batch_size: int = Field(default=256, ge=1, description="examples in a step")
    optimizer: Literal["adam", "adamw", "sgd"] = Field(default="adam", description="the optax optimiser")
    learning_rate: float = Field(default=1e-3, gt=0, description="its step size, at the peak of the schedule")
    schedule: Literal["constant", "cosine"] = Field(default="constant", description="of the learning rate")
    momentum: float = Field(default=0.0, ge=0, lt=1, description="of sgd")
    weight_decay: float = Field(default=0.0, ge=0, description="of sgd (added to the gradient) and adamw (decoupled)")
    flip: bool = Field(default=False, description="mirror images left to right at random while training")
    crop: int = Field(default=0, ge=0, description="shift images by up to this many pixels at random while training")


class Prune(_Section):
    """What is pruned, and how much."""

    criterion: str = Field(default="magnitude", description="the lowest score goes first: magnitude or random")
    scope: str = Field(default="global", description="one threshold for all layers (global), or one each (layerwise)")
    sparsities: tuple[Sparsity, ...] = Field(
        default=(0.3, 0.5, 0.7, 0.9, 0.95), min_length=1, description="shares to prune, in [0, 1)"
    )
    include: tuple[str, ...] = Field(
        default=(), description="patterns of the parameters to prune; empty for all kernels"
    )
    exclude: tuple[str, ...] = Field(default=(), description="patterns of the parameters to keep whole")


class Retrain(_Section):
    """How a pruned network is trained on; what is not said here is as in [train]."""

    epochs: int = Field(
        default=5, ge=0, description="passes over the training split; 0 leaves the pruned network as it is"
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="step size, at the peak of the schedule")
    methods: tuple[str, ...] = Field(
        default=(),
        description="ways of retraining: the paper's none, fair_before, fair_after and fair_both (what run does where "
        "this is empty), or methods such as naive, equal_loss and ceag, with their candidates (see docs/mitigation.md)",
    )
    buffer: int = Field(default=40, ge=1, description="examples of each group in the buffers of methods that have one")


class Mitigation(_Section):
    """The Lagrangian constraint on group losses, and where it is applied."""

    constraint: str = Field(
        default="equal_loss",
        description="equal_loss (absolute), equal_loss_signed, loss_gap, equal_accuracy or accuracy_gap; in `jaxprune "
        "compare` also equal_excessive_loss, excessive_loss_gap, excess_accuracy_gap or equal_accuracy_drop",
    )
    dual_rate: float = Field(default=1e-3, gt=0, description="step size of the multipliers, a step of training each")
    dual: str = Field(default="ascent", description="how multipliers move: ascent, momentum, nu_pi or restart")
    scheme: str = Field(
        default="simultaneous",
        description="which multipliers the gradient is taken at: simultaneous, alternating or extragradient",
    )
    penalty: float = Field(default=0.0, ge=0, description="coefficient of the augmented Lagrangian; 0 is the plain one")
    memory: int = Field(
        default=0, ge=0, description="examples of each group that violations are measured on; 0 takes the batch"
    )
    tolerance: float = Field(default=0.0, ge=0, description="gap that is let through (the constraints named _gap)")


class Choice(_Section):
    """Candidates for the hyperparameters of retraining, and the choice among them."""

    dual_rates: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(), description="candidates for the step size of the multipliers; none for each method's own"
    )
    tolerances: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=(), description="candidates for what a constraint lets through; none for each method's own"
    )
    measure: Literal["max_excess_accuracy_gap", "accuracy_spread", "excessive_loss_spread", "worst_group_accuracy"] = (
        Field(
            default="max_excess_accuracy_gap",
            description="what the choice improves, on validation: accuracies, or losses (excessive_loss_spread)",
        )
    )
    max_cost: float = Field(
        default=0.01, ge=0, lt=1, description="validation accuracy that a candidate may cost against naive"
    )


class Audit(_Section):
    """What is measured on every network."""

    groups: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(), description="groupings to audit, as race sex race*sex; none for data.group alone, which comes first"
    )
    splits: tuple[Split, ...] = Field(default=("train", "test"), min_length=1, description="splits to measure on")
    confidence: float = Field(default=0.95, gt=0, lt=1, description="coverage of the intervals over seeds")


class Theory(_Section):
    """What is measured at the dense network to explain the harm."""

    split: Split = Field(default="train", description="the split that gradients and Hessians are taken on")
    examples: int = Field(default=0, ge=0, description="of each group that are taken, at most; 0 takes the whole split")
    tolerance: float = Field(default=1e-3, gt=0, description="residual of an eigenvalue, relative to it")
    max_iterations: int = Field(
        default=50, ge=1, le=100_000, description="Hessian-vector products for each eigenvalue, at most"
    )
    memory: int = Field(default=1024, ge=1, description="MiB for linearised products, and as much for Lanczos vectors")
    float64: bool = Field(default=False, description="whether it is computed in float64, which is slower")
    measures: tuple[Measure, ...] = Field(
        default=(), description="further, costly measures (`jaxprune theory` takes all of them unless some are named)"
    )
    products: int = Field(default=30, ge=4, le=100_000, description="products for each trace (spectra)")
    density_steps: int = Field(default=40, ge=2, le=100_000, description="Lanczos steps from each start (density)")
    density_starts: int = Field(default=2, ge=1, le=100_000, description="random starts (density)")
    output_examples: int = Field(default=50, ge=1, description="of each group whose outputs are looked into (outputs)")


class Settings(_Section):
    """Everything that decides the result of a run."""

    name: str = Field(default="", description="names the output folder; empty for the data's name")
    seeds: int = Field(default=5, ge=1, description="replicas, trained as one program; four or more give intervals")
    first_seed: int = Field(default=0, ge=0, le=2**32 - 1, description="the seeds are first_seed, first_seed + 1, ...")
    data: Data = Data()
    model: Model = Model()
    train: Train = Train()
    prune: Prune = Prune()
    retrain: Retrain = Retrain()
    mitigation: Mitigation = Mitigation()
    choice: Choice = Choice()
    audit: Audit = Audit()
    theory: Theory = Theory()


SECTIONS: Mapping[str, type[_Section]] = {
    name: info.annotation
    for name, info in Settings.model_fields.items()
    if isinstance(info.annotation, type) and issubclass(info.annotation, _Section)
}


def paths() -> dict[str, str]:
    """Every setting's path, such as `train.epochs`, and its description."""
    found = {n: str(f.description) for n, f in Settings.model_fields.items() if n not in SECTIONS}
    for section, model in SECTIONS.items():
        found |= {f"{section}.{n}": str(f.description) for n, f in model.model_fields.items()}
    return found
