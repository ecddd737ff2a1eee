"""Sets as tensorflow-datasets might have prepared them; they are made here."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxprune import data
from jaxprune.cli import main
from jaxprune.errors import UserError

Prepare = Callable[..., str]


def encoded(seed: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)).save(out, format="PNG")
    return out.getvalue()


@pytest.fixture
def prepare(tmp_path) -> Prepare:
    """Prepares `foreign`: images with a label, and with columns name -> values; returns the folder of sets."""
    import tensorflow_datasets as tfds

    def build(**columns: np.ndarray) -> str:
        class Foreign(tfds.core.GeneratorBasedBuilder, skip_registration=True):
            """Made images."""

            name = "foreign"
            VERSION = tfds.core.Version("3.0.2")

            def _info(self) -> Any:
                features = {name: tfds.features.Scalar(dtype=values.dtype.type) for name, values in columns.items()}
                label = tfds.features.ClassLabel(names=["no", "yes"])
                features |= {"image": tfds.features.Image(shape=(None, None, 3)), "label": label}
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
                )

            def _split_generators(self, dl_manager: Any) -> Any:
                return {"train": self._generate_examples()}

            def _generate_examples(self) -> Any:
                for i in range(len(next(iter(columns.values())))):
                    values = {name: column[i].item() for name, column in columns.items()}
                    yield i, {"image": encoded(i), "label": i % 2, **values}

        tfds.disable_progress_bar()
        Foreign(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
        return str(tmp_path)

    return build


@pytest.mark.parametrize("bins", [(), (40.0,)])
@pytest.mark.parametrize("stream", [False, True])
def test_numbers_that_are_none_are_refused_where_they_are_asked_for(prepare: Prepare, bins, stream, capsys) -> None:
    """They were put into the last bin, or made a group of their own."""
    ages = (20 + np.arange(60) % 50).astype(np.float32)
    ages[[3, 5]] = np.nan, np.inf
    once = np.where(np.arange(60) == 7, -np.inf, np.arange(60) % 2).astype(np.float32)
    directory = prepare(age=ages, once=once)
    options = {"directory": directory, "bins": bins, "stream": stream}
    for setting in ("label", "group"):
        with pytest.raises(UserError, match=rf"^data\.{setting}: age holds 2 values that are NaN or infinite; prepare"):
            data.load("foreign", **{setting: "age"}, **options)
    with pytest.raises(UserError, match=r"data\.group: once holds 1 value that are NaN or infinite; "):
        data.load("foreign", group="label*once", **options)
    assert data.load("foreign", **options).group_names == ("no", "yes"), "the rest can be used"
    flags = ["--data.directory", directory, "--data.group", "age"]
    assert main(["datasets", "show", "foreign", *flags]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_edges_that_are_not_finite_are_refused(prepare: Prepare) -> None:
    with pytest.raises(UserError, match=r"data\.bins: nan are not all finite"):
        data.load("foreign", directory=prepare(age=np.arange(60)), bins=(float("nan"),))
