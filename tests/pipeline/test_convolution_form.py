"""The form of convolution in a stage's address, and the line about networks made with the other form."""

import pytest
from experiments import Progress, experiment

from jaxprune import models
from jaxprune.files import seal
from jaxprune.pipeline.addresses import stage_of
from jaxprune.pipeline.networks import networks_of
from jaxprune.pipeline.nodes import DENSE
from jaxprune.pipeline.stage import Workspace
from jaxprune.pipeline.store import Store

CONVOLUTIONS = {"data.name": "digits", "model.name": "convnet", "model.channels": (2,), "seeds": 1}


class Begun(Exception):
    """A training begins."""


class UntilTraining(Progress):
    """Ends the work where a training begins."""

    def start(self, description: str, total: int) -> None:
        raise Begun


def test_networks_of_the_other_form_are_reported(tmp_path, monkeypatch) -> None:
    workspace, progress = Workspace(tmp_path), UntilTraining()
    monkeypatch.setattr(models, "in_native_code", lambda: True)
    before = workspace.folder(stage_of(experiment(CONVOLUTIONS), DENSE))
    before.mkdir(parents=True)
    seal(before)
    monkeypatch.setattr(models, "in_native_code", lambda: False)
    with pytest.raises(Begun):
        networks_of(experiment(CONVOLUTIONS), Store(workspace, progress), DENSE)
    assert [before.name in line for line in progress.lines] == [True]
    assert "was made with the convolution in C++" in progress.lines[0]
