"""Entries of a plan that are one network."""

from collections import Counter

from jaxprune import config
from jaxprune.pipeline import audit as audit_module
from jaxprune.pipeline.run import run

SETTINGS = {
    "data.name": "synthetic", "data.sizes": (90, 60), "data.margins": (1.0, 0.5), "model.hidden": (3,), "seeds": 1,
    "train.epochs": 1, "retrain.epochs": 1, "prune.sparsities": (0.5,), "retrain.methods": ("none", "naive"),
}  # fmt: skip


def test_one_network_under_two_names_is_measured_once(tmp_path, monkeypatch):
    measured = Counter()
    write = audit_module.write_outcomes

    def counted(experiment, folders, split, networks):
        measured.update((folder.name, split) for folder in folders)
        return write(experiment, folders, split, networks)

    monkeypatch.setattr(audit_module, "write_outcomes", counted)
    run(config.load(None, SETTINGS), tmp_path, until="audit")
    assert set(measured.values()) == {1}
