"""How many programs JAX compiles, by the events that it reports."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax

_COMPILED: list[str] = []


def _note(event: str, duration: float, *, fun_name: str = "", **_: object) -> None:
    if event == "/jax/core/compile/backend_compile_duration":  # also where the program is read from the cache on disk
        _COMPILED.append(fun_name)


jax.monitoring.register_event_duration_secs_listener(_note)


@contextmanager
def compiles(count: int, of: str = "") -> Iterator[None]:
    """Assert that the block compiles this many programs; `of` counts those alone with this in their names."""
    before = len(_COMPILED)
    yield
    names = [name for name in _COMPILED[before:] if of in name]
    assert len(names) == count, f"compiled {len(names)} programs, not {count}: {names}"
