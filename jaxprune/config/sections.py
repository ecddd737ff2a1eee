"""Every setting of a run, by section: its type, range and description."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Sparsity = Annotated[float, Field(ge=0, lt=1)]
Width = Annotated[int, Field(gt=0, le=1_000_000)]
Split = Literal["train", "validation", "test"]
Options = tuple[str, ...]  # each as name=value
Measure = Literal[
    "cosines", "spectra", "density", "examples", "distances", "outputs", "attribution", "pruned", "sparing"
]
Method = Literal["none", "fair_before", "fair_after", "fair_both"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Data(_Section):
    """The data and its groups."""

    name: str = Field(
        default="adult", description="a data set (see: jaxprune datasets), or an npz, CSV or Parquet file"
    )
    label: str = Field(default="", description="attribute to predict; empty for the data set's own")
    group: str = Field(default="", description="attribute that forms the groups, or several crossed, as race*sex")
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
    upsample_times: int = Field(default=1, ge=1, description="times that these examples occur")
    balance: bool = Field(default=False, description="repeat training examples until all groups are equally large")
    stream: bool = Field(default=False, description="leave a prepared set's images on disk, for sets beyond memory")


class Model(_Section):
    """The network."""

    name: str = Field(
        default="mlp",
        description="architecture of the networks",
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
    keep_zeros: bool = Field(
        default=False,
        description="hold kernel weights that are 0 in the file of model.weights at 0: it is pruned already",
    )
    new_head: bool = Field(
        default=False, description="leave out the last layer of the file of model.weights, which is for other classes"
    )


class Train(_Section):
    """Training of the dense network."""

    epochs: int = Field(default=15, ge=1, description="passes over the training split")
    batch_size: int = Field(default=256, ge=1, description="examples in a step")
    optimizer: str = Field(default="adam", description="optimiser of the parameters")
    learning_rate: float = Field(default=1e-3, gt=0, description="step size, at the peak of the schedule")
    schedule: str = Field(default="constant", description="learning-rate schedule")
    momentum: float = Field(default=0.0, ge=0, lt=1, description="SGD momentum")
    weight_decay: float = Field(
        default=0.0, ge=0, description="weight decay: added to the gradient (sgd), or decoupled (adamw)"
    )
    flip: bool = Field(default=False, description="mirror images left to right at random while training")
    crop: int = Field(default=0, ge=0, description="shift images by up to this many pixels at random while training")


class Prune(_Section):
    """What is pruned first, together, where, when, and how much."""

    criterion: str = Field(default="magnitude", description="score of a weight; the lowest is pruned first")
    criterion_options: Options = Field(
        default=(),
        description="options of the criterion, as damping=1e-3, or of one of several, as fisher.damping=1e-3",
    )
    examples: int = Field(
        default=1024, ge=1, description="training examples of each group that criteria look at, at most"
    )
    criteria: tuple[str, ...] = Field(
        default=(), description="criteria that compare tries beside each other, the first one as the baseline"
    )
    structure: str = Field(default="weights", description="what is pruned together")
    structure_options: Options = Field(default=(), description="options of the structure, as m=4")
    structures: tuple[str, ...] = Field(
        default=(),
        description="structures that compare tries beside each other, the first one as the baseline; each with its "
        "options, as channels:cost=flops",
    )
    allocation: str = Field(
        default="",
        description="shares of the layers; empty for the usual one, as global",
    )
    allocation_options: Options = Field(default=(), description="options of the allocation, as normalise=true")
    schedule: str = Field(default="one_shot", description="when it is pruned")
    schedule_options: Options = Field(default=(), description="options of the schedule, as rounds=3")
    sparsities: tuple[Sparsity, ...] = Field(
        default=(0.3, 0.5, 0.7, 0.9, 0.95), min_length=1, description="shares to prune, in [0, 1)"
    )
    include: tuple[str, ...] = Field(
        default=(), description="patterns of the parameters to prune; empty for all kernels"
    )
    exclude: tuple[str, ...] = Field(default=(), description="patterns of the parameters to keep whole")
    keep_dense: tuple[Literal["first", "last"], ...] = Field(
        default=(), description="layers to keep whole, by their order in the network"
    )
    reestimate: bool = Field(
        default=False, description="measure BatchNorm's statistics anew after pruning, and the effect on each group"
    )


class Retrain(_Section):
    """Retraining of a pruned network; all else is as in [train]."""

    epochs: int = Field(
        default=5, ge=0, description="passes over the training split; 0 leaves the pruned network as it is"
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="step size, at the peak of the schedule")
    rewind: int = Field(
        default=-1,
        ge=-1,
        description="epoch of the dense training whose weights the pruned network goes back to; -1 for none",
    )
    rewind_learning_rate: bool = Field(
        default=False, description="repeat the learning rates of the dense training from that epoch on"
    )
    methods: tuple[str, ...] = Field(
        default=(),
        description="ways of retraining; empty for the paper's four models in run, and for sixteen methods in compare",
    )
    buffer: int = Field(default=40, ge=1, description="examples of each group in the buffers of methods that have one")


class Mitigation(_Section):
    """The Lagrangian constraint on group losses, and where it is applied."""

    constraint: str = Field(default="equal_loss", description="constraint on every group")
    dual_rate: float = Field(
        default=1e-3, gt=0, description="step size of the multipliers, which move at every training step"
    )
    dual: str = Field(default="ascent", description="update of the multipliers")
    scheme: str = Field(default="simultaneous", description="order of the steps of parameters and multipliers")
    penalty: float = Field(default=0.0, ge=0, description="coefficient of the augmented Lagrangian; 0 is the plain one")
    buffer: int = Field(default=0, ge=0, description="examples of each group to measure violations on; 0 for the batch")
    tolerance: float = Field(
        default=0.0, ge=0, description="violation that is allowed, for constraints that take a tolerance"
    )


class Choice(_Section):
    """Candidates for the hyperparameters of retraining, and the choice among them."""

    dual_rates: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(), description="candidates for the step size of the multipliers; empty for each method's own"
    )
    tolerances: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=(), description="candidates for the tolerance of a constraint; empty for each method's own"
    )
    measure: Literal["max_excess_accuracy_gap", "accuracy_spread", "excessive_loss_spread", "worst_group_accuracy"] = (
        Field(default="max_excess_accuracy_gap", description="validation score that the choice improves")
    )
    max_cost: float = Field(
        default=0.01, ge=0, lt=1, description="validation accuracy that a candidate may cost against naive"
    )


class Audit(_Section):
    """Measurements of every network."""

    groups: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(), description="groupings to audit, as race sex race*sex; none for data.group alone, which comes first"
    )
    splits: tuple[Split, ...] = Field(default=("train", "test"), min_length=1, description="splits to measure on")
    confidence: float = Field(default=0.95, gt=0, lt=1, description="coverage of the intervals over seeds")


class Costs(_Section):
    """Sizes and speed of compressed networks, beside the dense ones."""

    speed: bool = Field(default=True, description="time each compressed network beside the dense one on this device")
    batch: int = Field(default=128, ge=1, description="examples of the large batch that is timed, beside one example")
    seconds: float = Field(
        default=2.0, gt=0, description="seconds to time a network at each of both batch sizes, at most"
    )


class Theory(_Section):
    """Measurements of the dense network that explain the harm."""

    split: Split = Field(default="train", description="split for gradients and Hessians")
    examples: int = Field(default=0, ge=0, description="maximum examples per group; 0 for the whole split")
    tolerance: float = Field(default=1e-3, gt=0, description="residual of an eigenvalue, relative to it")
    max_iterations: int = Field(
        default=50, ge=1, le=100_000, description="Hessian-vector products for each eigenvalue, at most"
    )
    memory: int = Field(default=1024, ge=1, description="MiB for linearised products, and as much for Lanczos vectors")
    float64: bool = Field(default=False, description="compute in float64, which is slower")
    measures: tuple[Measure, ...] = Field(
        default=(), description="further, costly measures (`jaxprune theory` takes all of them unless some are named)"
    )
    products: int = Field(default=30, ge=4, le=100_000, description="Hessian-vector products for each trace (spectra)")
    density_steps: int = Field(default=40, ge=2, le=100_000, description="Lanczos steps from each start (density)")
    density_starts: int = Field(default=2, ge=1, le=100_000, description="random starts (density)")
    output_examples: int = Field(default=50, ge=1, description="examples per group for Propositions 2-3 (outputs)")


class Settings(_Section):
    """All settings that decide the result of a run."""

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
    costs: Costs = Costs()
    theory: Theory = Theory()


SECTIONS: Mapping[str, type[_Section]] = {
    name: info.annotation
    for name, info in Settings.model_fields.items()
    if isinstance(info.annotation, type) and issubclass(info.annotation, _Section)
}


def paths() -> dict[str, str]:
    """Every setting's path, such as `train.epochs`, and its description."""
    descriptions = {n: str(f.description) for n, f in Settings.model_fields.items() if n not in SECTIONS}
    for section, model in SECTIONS.items():
        descriptions |= {f"{section}.{n}": str(f.description) for n, f in model.model_fields.items()}
    return descriptions
