"""Detection of notebooks, and HTML in them."""

import importlib
import sys
from collections.abc import Callable
from typing import Any


def notebook_shell() -> Any | None:
    """Return the IPython shell of a notebook's kernel, or None."""
    ipython = sys.modules.get("IPython")  # a notebook's kernel has imported it
    shell = ipython.get_ipython() if ipython is not None else None
    return shell if hasattr(shell, "kernel") else None


def show_html(content: str) -> Callable[[str], Any]:
    """Show HTML in the notebook.

    Returns:
      A function that replaces it.
    """
    display = importlib.import_module("IPython.display")
    handle = display.display(display.HTML(content), display_id=True)
    return lambda later: handle.update(display.HTML(later))
