"""The settings of a run: frozen, validated, from a TOML file and overrides, and back to TOML."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jaxprune.errors import UserError, unknown

Sparsity = Annotated[float, Field(ge=0, lt=1)]
Split = Literal["train", "validation", "test"]
Method = Literal["none", "fair_before", "fair_after", "fair_both"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Data(_Section):
    """Which people."""

    name: str = Field(
        default="adult", description="a bundled data set (see: jaxprune datasets) or the path of an npz file"
    )
    label: str = Field(default="", description="what is predicted; empty for the data set's own")
    group: str = Field(default="", description="what forms the groups: an attribute, or several crossed, as race*sex")
    validation: float = Field(default=0.2, gt=0, lt=1, description="share of the training part that is held out")
    sizes: tuple[int, ...] | None = Field(default=None, description="group sizes (synthetic)")
    margins: tuple[float, ...] | None = Field(default=None, description="distances to the boundary (synthetic)")
    noise: tuple[float, ...] | None = Field(default=None, description="shares of flipped labels (synthetic)")
    directory: str | None = Field(default=None, description="folder of prepared sets (tensorflow-datasets' own)")
    bins: tuple[float, ...] | None = Field(default=None, description="edges that bin a numeric attribute")
    image_size: int | None = Field(default=None, ge=1, description="pixels a side to resize prepared images to")
    imbalance: float = Field(default=1.0, ge=1, description="thin the training groups to a long tail; 1 keeps all")
    shares: tuple[float, ...] = Field(
        default=(), description="thin the training groups to these shares; empty keeps all"
    )
    upsample_group: str = Field(default="", description="a group whose training examples are repeated")
    upsample_times: int = Field(default=1, ge=1, description="how often they are to occur")
    balance: bool = Field(default=False, description="repeat training examples until all groups are equally large")


class Model(_Section):
    """Which network."""

    name: str = Field(default="mlp", description="mlp or convnet")
    hidden: tuple[Annotated[int, Field(gt=0)], ...] | None = Field(
        default=None, description="widths of the dense layers"
    )
    channels: tuple[Annotated[int, Field(gt=0)], ...] | None = Field(
        default=None, description="channels of the convolutions (convnet)"
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


class Mitigation(_Section):
    """The Lagrangian constraint on group losses, and where it is applied."""

    methods: tuple[Method, ...] = Field(
        default=("none", "fair_before", "fair_after", "fair_both"),
        description="the paper's models: constrain the dense training, the retraining, both or none",
    )
    constraint: str = Field(default="equal_loss", description="equal_loss (absolute), equal_loss_signed or loss_gap")
    dual_rate: float = Field(default=1e-3, gt=0, description="step size of the multipliers, a step of training each")
    tolerance: float = Field(default=0.0, ge=0, description="loss gap that is let through (loss_gap)")


class Audit(_Section):
    """What is measured on every network."""

    splits: tuple[Split, ...] = Field(default=("train", "test"), min_length=1, description="splits to measure on")
    confidence: float = Field(default=0.95, gt=0, lt=1, description="coverage of the intervals over seeds")


class Theory(_Section):
    """What is measured at the dense network to explain the harm."""

    split: Split = Field(default="train", description="the split that gradients and Hessians are taken on")
    tolerance: float = Field(default=1e-3, gt=0, description="residual of an eigenvalue, relative to it")
    max_iterations: int = Field(default=50, ge=1, description="Hessian-vector products for each eigenvalue, at most")


class Settings(_Section):
    """Everything that decides the result of a run."""

    name: str = Field(
        default="", pattern=r"^[A-Za-z0-9._-]*$", description="names the output folder; empty for the data's name"
    )
    seeds: int = Field(default=5, ge=1, description="replicas that are trained as one program; results carry intervals")
    first_seed: int = Field(default=0, ge=0, description="the seeds are first_seed, first_seed + 1, ...")
    data: Data = Data()
    model: Model = Model()
    train: Train = Train()
    prune: Prune = Prune()
    retrain: Retrain = Retrain()
    mitigation: Mitigation = Mitigation()
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


def load(source: str | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings of a config with overrides.

    Args:
      source: A TOML file or the name of a shipped config; None for the default one.
      overrides: Setting path, such as `train.epochs`, -> value; a text is read as the type of the setting.

    Returns:
      The settings.

    Raises:
      UserError: A file is missing or is not TOML, a setting is unknown, or a value is of the wrong type or range.
    """
    where, values = "command line", {}
    if source is not None:
        path = find(source)
        where = str(path)
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: not a TOML file: {error}") from None
    for path, value in (overrides or {}).items():
        section, _, leaf = path.rpartition(".")
        target = values.setdefault(section, {}) if section else values
        if not isinstance(target, dict):
            raise UserError(f"{where}: {section} is {target!r}; it is a table of settings, [{section}]")
        target[leaf] = value
    return validate(values, where)


def validate(values: Mapping[str, Any], where: str) -> Settings:
    """Settings from nested values; `where` names their origin in the messages.

    Raises:
      UserError: As `load`.
    """
    try:
        settings = Settings.model_validate(_tuples(values))
    except ValidationError as error:
        raise _explain(error, where) from None
    _check_together(settings)
    return settings if settings.name else settings.model_copy(update={"name": Path(settings.data.name).stem})


def to_toml(settings: Settings) -> str:
    """The settings as TOML; settings that are None (the model's own default) are left out."""
    return tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True))


def shipped() -> dict[str, Path]:
    """Name -> file of the configs that come with jaxprune."""
    here = Path(__file__).parent
    folder = here / "configs" if (here / "configs").is_dir() else here.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find(source: str) -> Path:
    """The file of a config given by path or by shipped name.

    Raises:
      UserError: There is none.
    """
    path = Path(source)
    if path.is_file():
        return path
    known = shipped()
    if source in known:
        return known[source]
    if path.suffix == ".toml" and path.stem in known:
        raise UserError(f"there is no file {source}; the shipped config of that name is run as: {path.stem}")
    raise unknown("config", source, known)


def _tuples(value: Any) -> Any:
    """Strict validation takes tuples where TOML gives lists."""
    if isinstance(value, Mapping):
        return {k: _tuples(v) for k, v in value.items()}
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _explain(error: ValidationError, where: str) -> UserError:
    """The first fault, as one line that names the setting and the remedy."""
    fault = error.errors()[0]
    location = [str(part) for part in fault["loc"]]
    names = [part for part in location if not part.isdigit() and not part.startswith(("tuple", "function"))]
    path = ".".join(names)
    if fault["type"] == "extra_forbidden":
        return unknown("setting", path, paths() | dict.fromkeys(SECTIONS, ""), where=where)
    got = fault["input"]
    reason = fault["msg"][0].lower() + fault["msg"][1:]
    return UserError(f"{where}: {path} = {got!r}: {reason.replace('input should be', 'it should be')}")


def _check_together(settings: Settings) -> None:
    """Settings that would do nothing, or contradict each other, are errors rather than silently ignored."""
    train, mitigation = settings.train, settings.mitigation
    if train.momentum and train.optimizer != "sgd":
        raise UserError(f"train.momentum: {train.optimizer} takes none; leave it out, or set train.optimizer to sgd")
    if train.weight_decay and train.optimizer == "adam":
        raise UserError("train.weight_decay: adam takes none; leave it out, or set train.optimizer to adamw")
    if (settings.data.upsample_times > 1) != bool(settings.data.upsample_group):
        raise UserError("data.upsample_group and data.upsample_times go together; give both or neither")
    if mitigation.tolerance and mitigation.constraint != "loss_gap":
        raise UserError(f"mitigation.tolerance: {mitigation.constraint} takes none; use the constraint loss_gap")
    for setting, values in (
        ("prune.sparsities", settings.prune.sparsities),
        ("mitigation.methods", mitigation.methods),
        ("audit.splits", settings.audit.splits),
    ):
        repeated = [v for v in values if values.count(v) > 1]
        if repeated:
            raise UserError(f"{setting}: {repeated[0]!r} is given twice; name each value once")
