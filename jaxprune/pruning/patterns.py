"""Options that give a value to each path pattern."""

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from jaxprune.errors import UserError, unknown

Value = TypeVar("Value")


def pattern_values(
    argument: str, values: Mapping[str, Value] | Sequence[str], kind: Callable[..., Value], example: str
) -> tuple[tuple[str, Value], ...]:
    """Read a mapping, or texts such as "dense_0/*=0.5".

    Args:
      argument: The name of the argument, for messages.
      values: Pattern -> value, or texts; one text may hold several, with commas between them.
      kind: The type of the values, which reads them from a text.
      example: Of a text, for messages.

    Returns:
      Pairs of a pattern and its value, in the order given, which can be hashed.

    Raises:
      UserError: A text is not a pattern and a value.
    """
    if isinstance(values, Mapping):
        return tuple((str(pattern), _read(argument, value, kind, example)) for pattern, value in values.items())
    texts = values.split(",") if isinstance(values, str) else values
    pairs = []
    for text in texts:
        pattern, equals, value = str(text).strip().rpartition("=")
        if not (pattern and equals):
            raise UserError(f"{argument}: {text!r} has no pattern and value; write it as {example!r}")
        pairs.append((pattern, _read(argument, value, kind, example)))
    return tuple(pairs)


def values_of(
    argument: str, pairs: Sequence[tuple[str, Value]], paths: Sequence[str], *, what: str = "parameter"
) -> list[Value | None]:
    """The value of every path, by the first pattern that matches.

    Args:
      argument: The name of the argument, for messages.
      pairs: From `pattern_values`.
      paths: The paths that patterns may match.
      what: What the paths are, for messages.

    Returns:
      A value for each path; None where no pattern matches.

    Raises:
      UserError: A pattern matches no path.
    """
    for pattern, _ in pairs:
        if not any(_matches(path, pattern) for path in paths):
            raise unknown(what, pattern, paths, where=argument)
    return [next((value for pattern, value in pairs if _matches(path, pattern)), None) for path in paths]


def _matches(path: str, pattern: str) -> bool:
    return path == pattern or fnmatchcase(path, pattern)  # names of couplings, a/kernel[3], hold brackets


def _read(argument: str, value: object, kind: Callable[..., Value], example: str) -> Value:
    try:
        return kind(value)
    except (TypeError, ValueError):
        raise UserError(f"{argument}: {value!r} is not a number; write it as in {example!r}") from None
