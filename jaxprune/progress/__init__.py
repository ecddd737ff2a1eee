"""Progress of long work in a terminal, a log or a notebook."""

from jaxprune.progress.display import MODES, Display
from jaxprune.progress.notebook import notebook_shell
from jaxprune.progress.protocol import Progress
from jaxprune.progress.screens import Bars, Lines, Page, Screen

__all__ = ["MODES", "Bars", "Display", "Lines", "Page", "Progress", "Screen", "notebook_shell"]
