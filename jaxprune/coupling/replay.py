"""The third pass: evaluate a program after a cut."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxprune.compat import evaluate_equation
from jaxprune.coupling.dimensions import Dimension, Leaf, Sum, resolve
from jaxprune.coupling.linking import Linker, is_touched
from jaxprune.coupling.rule import LinkedEquation, LinkedProgram, Passes, name_of
from jaxprune.programs import evaluate_program


@dataclass
class Cut:
    """What is cut of a linked program.

    Attributes:
      kept: `leaf -> [size] bool`, the places that stay; None for a leaf that stays whole.
    """

    kept: Callable[[Leaf], np.ndarray | None]
    touched: dict[LinkedEquation, bool] = field(default_factory=dict)

    def along(self, dimension: Dimension) -> np.ndarray:
        """The places of a dimension that stay, [size] bool."""
        dimension = resolve(dimension)
        if isinstance(dimension, Leaf):
            kept = self.kept(dimension)
            return np.ones(dimension.size, bool) if kept is None else kept
        vectors = [self.along(part) for part in dimension.parts]
        if isinstance(dimension, Sum):
            return np.concatenate(vectors)
        result = np.ones(1, bool)
        for vector in vectors:
            result = (result[:, None] & vector).reshape(-1)
        return result

    def size(self, dimension: Dimension) -> int:
        """The length of a dimension after the cut."""
        dimension = resolve(dimension)
        if isinstance(dimension, Leaf):
            kept = self.kept(dimension)
            return dimension.size if kept is None else int(kept.sum())
        sizes = [self.size(part) for part in dimension.parts]
        return sum(sizes) if isinstance(dimension, Sum) else int(np.prod(sizes, dtype=np.int64))

    def is_touched(self, linked: LinkedEquation) -> bool:
        """True if an array of the equation is cut."""
        if linked not in self.touched:
            self.touched[linked] = is_touched(linked, lambda leaf: self.kept(leaf) is not None)
        return self.touched[linked]

    def replay(self, program: LinkedProgram, values: Sequence[Any]) -> list[Any]:
        """Evaluate a program on smaller inputs."""
        rest = iter(program.equations)
        derivative = Linker(derivatives=0).program
        passes = Passes(replay=self.replay, link_derivative=derivative, size=self.size, kept=self.along)

        def step(equation: Any, inputs: list[Any]) -> Sequence[Any]:
            linked = next(rest)
            if not self.is_touched(linked):
                return evaluate_equation(equation, inputs)
            outputs = linked.rule.replay(linked, inputs, passes)
            for output, dimensions in zip(outputs, linked.outputs, strict=True):
                # Never met; a wrong rule must not become a wrong network.
                shape = passes.shape(dimensions)
                assert tuple(np.shape(output)) == shape, f"{name_of(equation)}: {np.shape(output)}, not {shape}"
            return outputs

        held = [
            self._constant(array, passes.shape(dimensions))
            for array, dimensions in zip(program.constants, program.of_constants, strict=True)
        ]
        return evaluate_program(program.jaxpr, held, list(values), step=step, plain=lambda array: array)

    def _constant(self, array: Any, shape: tuple[int, ...]) -> Any:
        """An array that the program holds, of its new shape."""
        return array if np.shape(array) == shape else jnp.full(shape, np.asarray(array).flat[0], array.dtype)
