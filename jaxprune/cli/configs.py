"""`jaxprune configs`: the shipped configs, and a template of all settings."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import tomli_w

from jaxprune import config
from jaxprune.text import printable


def show_configs(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """List the shipped configs, or print one."""
    if options.name is not None or options.all:
        path = config.find(options.name or "adult")
        text = template(config.load(str(path))) if options.all else path.read_text(encoding="utf-8")
        sys.stdout.write(text)
        return 0
    for name, path in config.shipped().items():
        summary = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        sys.stdout.write(printable(f"{name:12} {summary}") + "\n")
    return 0


def template(settings: "config.Settings") -> str:
    """Write settings as TOML with a comment for each."""
    values, blocks = settings.model_dump(mode="json"), []
    for section in ("", *config.SECTIONS):
        model = config.SECTIONS[section] if section else config.Settings
        of_section = values[section] if section else values
        lines = [f"[{section}]  # {(model.__doc__ or '').rstrip('.').lower()}"] if section else []
        for name, field in model.model_fields.items():
            if name not in config.SECTIONS:
                lines.append(_line(name, of_section[name], str(field.description)))
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _line(name: str, value: Any, description: str) -> str:
    if value is None:
        return f"# {name} =  # {description}"
    text = tomli_w.dumps({name: value if not isinstance(value, list) else 0}).strip()
    if isinstance(value, list):  # on one line
        items = [tomli_w.dumps({"item": item}).strip().removeprefix("item = ") for item in value]
        text = f"{name} = [{', '.join(items)}]"
    return f"{text}  # {description}"
