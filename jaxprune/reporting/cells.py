"""Means over seeds with their intervals, as the texts of tables."""

import numpy as np

from jaxprune.auditing import Interval
from jaxprune.reporting.findings import interval
from jaxprune.reporting.results import Results

NONE = "–"  # where there is no number


def cell(found: Interval, digits: int = 3, sign: bool = False) -> dict[str, str]:
    """A mean and the half width of its interval, as texts."""
    if not np.isfinite(found.mean):
        return {"mean": NONE, "half": ""}
    half = "" if np.isnan(found.low) else f"{found.high - found.mean:.{digits}f}"
    return {"mean": f"{found.mean:{'+' if sign else ''}.{digits}f}", "half": half}


def measured_cell(results: Results, values: np.ndarray, form: str = ".3g") -> dict[str, str]:
    """The mean of values [R] over seeds and the half width of its interval, as texts.

    Args:
      results: Whose settings say which interval.
      values: [R]; those that are not finite are left out.
      form: How the mean is written, such as "+.3f"; where that counts significant digits (g), a half width has two.
    """
    found = interval(results, np.where(np.isfinite(values), values, np.nan))
    if not np.isfinite(found.mean):
        return {"mean": NONE, "half": ""}
    half = ".2g" if form.endswith("g") else form.lstrip("+")
    return {"mean": f"{found.mean:{form}}", "half": "" if np.isnan(found.low) else f"{found.high - found.mean:{half}}"}


def text(results: Results, values: np.ndarray, form: str = ".3g") -> str:
    """`measured_cell` as one text, such as "1.23 ±0.05"; the mean alone where one seed has a number."""
    mean, half = measured_cell(results, values, form).values()
    return f"{mean} ±{half}" if half else mean
