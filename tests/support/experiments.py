"""Small experiments and stores for tests of the pipeline."""

from jaxprune import config
from jaxprune.pipeline.build import resolve
from jaxprune.pipeline.experiment import Experiment
from jaxprune.pipeline.stage import Workspace
from jaxprune.pipeline.store import NoProgress, Store


class Progress(NoProgress):
    """A display that keeps the lines that it is told."""

    def __init__(self):
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


def experiment(base: dict, **changes) -> Experiment:
    """The experiment of some settings; `__` stands for the dot of a setting's path."""
    return resolve(config.load(None, base | {name.replace("__", "."): value for name, value in changes.items()}))


def store(folder) -> Store:
    """A store in a folder, whose display keeps what it is told."""
    return Store(Workspace(folder), Progress())
