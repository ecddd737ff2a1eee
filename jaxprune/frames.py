"""Rows as pandas tables, where pandas is installed."""

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from jaxprune.errors import UserError


def to_frame(rows: Iterable[Mapping[str, Any]]) -> Any:
    """Make a `pandas.DataFrame` of rows of equal keys.

    Raises:
      UserError: pandas is not installed.
    """
    try:
        pandas = importlib.import_module("pandas")
    except ImportError:
        raise UserError("to_pandas needs pandas, which is not installed; run: pip install pandas") from None
    return pandas.DataFrame([dict(row) for row in rows])
