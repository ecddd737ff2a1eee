"""Options of a named part: those given, with the part's own defaults for the rest."""

from collections.abc import Mapping
from typing import Any

from jaxprune.errors import UserError


def fill(section: str, name: str, defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a part.

    Args:
      section: The section of the settings, for the message.
      name: The part, such as "mlp".
      defaults: Its options.
      given: Options by name; None means the default.

    Raises:
      UserError: An option is given that the part does not have: it would do nothing.
    """
    for option, value in given.items():
        if value is not None and option not in defaults:
            has = f"it has {', '.join(defaults)}" if defaults else "it has no options"
            raise UserError(f"{section}.{option}: {name} has no {option}; leave it out ({has})")
    return {option: default if given.get(option) is None else given[option] for option, default in defaults.items()}
