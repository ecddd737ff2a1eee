"""Command, settings and environment that reproduce a page."""

from collections.abc import Mapping
from typing import Any

import tomli_w
from markupsafe import Markup

from jaxprune.reporting.page import Code, Folded, Section


def section(settings: Mapping[str, Any], command: str, environment: Mapping[str, Any]) -> Section:
    """The command, the settings and the environment.

    Args:
      settings: Fully resolved, as plain values.
      command: Of jaxprune, such as "run".
      environment: Versions and devices; where empty, it is left out.
    """
    return Section(
        "How to reproduce this",
        (
            Markup("Save the settings below as <code>config.toml</code> (it lies beside this report) and run"),
            Code(f"jaxprune {command} config.toml"),
            Folded("Settings", (Code(config_text(settings)),)),
            Folded("Environment", (Code("\n".join(_line(*item) for item in environment.items())),)),
        ),
        anchor="reproduce",
    )


def config_text(settings: Mapping[str, Any]) -> str:
    """The settings as TOML, with invisible characters escaped."""
    text = tomli_w.dumps(_without_none(settings))
    return "".join(c if c == "\n" or c.isprintable() else f"\\U{ord(c):08x}" for c in text)


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values without those that are None, which TOML cannot write."""
    return {k: _without_none(v) if isinstance(v, Mapping) else v for k, v in values.items() if v is not None}


def _line(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{name}: {', '.join(f'{key} {inner}' for key, inner in value.items())}"
    return f"{name}: {value}"
