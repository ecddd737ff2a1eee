"""Times every data-driven criterion against its own number of gradients, and FairGRAPE against a loop over weights.

    python benchmarks/criteria.py [--examples 4096] [--hidden 256] [--repeats 7] [--greedy 20000]

Both sides take turns in one process, and each figure is the minimum of the repeats, compilation left out. A criterion
is compared with as many times one gradient of the mean loss of the same examples as it needs by its formula, in a
compiled function of its own; criteria that square the gradients of single examples, with as many gradients of one
example each as there are examples (and labels), in a compiled loop. Wanda and SparseGPT need no gradient, and are
compared with one. FairGRAPE's greedy choice is compared with the algorithm as it is written, one weight at a time: each
turn searches all weights that are left, in Python or by numpy; and with a numpy loop that keeps a sorted list and a
position for each group, which the paper does not describe.

Prints a table and writes benchmarks/results/criteria.json.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import record

from jaxprune import pruning
from jaxprune.losses import cross_entropy
from jaxprune.types import Batch

INPUTS, CLASSES, GROUPS, PROBES = 64, 4, 5, 16


def network(params: dict, x: jax.Array) -> jax.Array:
    """A perceptron of two hidden layers."""
    x = jnp.tanh(x @ params["first"] + params["bias"])
    return jnp.tanh(x @ params["second"]) @ params["last"]


def make(examples: int, hidden: int) -> tuple[dict, Batch]:
    """Weights and examples, the last group a twentieth of them."""
    rng = np.random.default_rng(0)
    shapes = {"first": (INPUTS, hidden), "bias": (hidden,), "second": (hidden, hidden), "last": (hidden, CLASSES)}
    params = {name: jnp.asarray(rng.normal(size=s) / np.sqrt(s[0]), jnp.float32) for name, s in shapes.items()}
    group = rng.choice(GROUPS, examples, p=(0.45, 0.25, 0.15, 0.1, 0.05))
    x = rng.normal(size=(examples, INPUTS)).astype(np.float32)
    fields = (x, rng.integers(0, CLASSES, examples), group, np.ones(examples, np.float32))
    return params, Batch(*map(jnp.asarray, fields))


@jax.jit
def one_gradient(params: dict, batch: Batch) -> dict:
    """The gradient of the mean loss of all examples."""
    return jax.grad(lambda p: jnp.mean(cross_entropy(network(p, batch.x), batch.y)))(params)


@jax.jit
def gradients_of_single_examples(params: dict, batch: Batch) -> dict:
    """The gradient of each example by itself, one after another, squared and summed."""

    def add(sums: dict, example: tuple[jax.Array, jax.Array]) -> tuple[dict, None]:
        x, y = example
        gradient = jax.grad(lambda p: cross_entropy(network(p, x[None]), y[None])[0])(params)
        return jax.tree.map(lambda s, g: s + g**2, sums, gradient), None

    return jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), (batch.x, batch.y))[0]


def gradient_counts() -> dict[str, tuple[float, Callable]]:
    """Criterion -> its number of gradients, and which gradient is meant."""
    single = gradients_of_single_examples
    return {
        "taylor": (1, one_gradient),
        "worst_group_taylor": (1, one_gradient),
        "snip": (1, one_gradient),
        "grasp": (3, one_gradient),
        "movement": (1, one_gradient),
        "obd": (2 * PROBES, one_gradient),
        "synflow": (1, one_gradient),
        "fairgrape": (GROUPS, one_gradient),
        "wanda": (1, one_gradient),
        "worst_group_wanda": (1, one_gradient),
        "sparsegpt": (1, one_gradient),
        "sparsegpt, correction": (1, one_gradient),
        "woodfisher": (1, single),
        "woodfisher, correction": (1, single),
        "fisher": (1, single),
        "curvature": (CLASSES, single),
        "worst_group_curvature": (CLASSES, single),
        "fairprune": (CLASSES, single),
    }


def scorer(name: str, params: dict, batch: Batch) -> Callable[[], Any]:
    """A function that scores (or corrects) once; FairGRAPE's choice is timed apart from its gradients."""
    evidence = {"apply": network, "batch": batch, "num_groups": GROUPS, "key": jax.random.key(0)}
    if name == "fairgrape":
        return partial(pruning.group_importance, network, params, batch, num_groups=GROUPS)
    options = {"obd": {"probes": PROBES, "exact_up_to": 0}, "movement": {"batch_size": 512}}.get(name, {})
    name, _, correction = name.partition(", ")
    criterion = pruning.CRITERIA.make(name, **options)
    if correction:
        masks = pruning.global_masks(jax.tree.map(jnp.abs, params), 0.5)
        return partial(criterion.correct, params, masks, **evidence)
    if "gradients" not in criterion.needs:
        return partial(criterion.score, params, **evidence)
    return lambda: criterion.score(params, grads=pruning.mean_gradient(network, params, batch), **evidence)


def in_turn(repeats: int, *sides: Callable[[], Any]) -> list[list[float]]:
    """Seconds of several calls of each side, in turns."""
    for side in sides:
        jax.block_until_ready(side())
    times: list[list[float]] = [[] for _ in sides]
    for _ in range(repeats):
        for side, of_side in zip(sides, times, strict=True):
            begun = time.perf_counter()
            jax.block_until_ready(side())
            of_side.append(time.perf_counter() - begun)
    return times


def greedy_as_written(importance: np.ndarray, kept: int) -> np.ndarray:
    """Lin et al. (2022), algorithm 1: each turn looks for the best of the weights that are left."""
    groups, n = importance.shape
    target = importance.sum(1) / importance.sum()
    left, sums, order = np.ones(n, bool), np.zeros(groups), []
    for _ in range(kept):
        share = sums / sums.sum() if sums.sum() > 0 else np.full(groups, 1 / groups)
        g = int(np.argmin(share - target))
        w = int(np.argmax(np.where(left, importance[g], -1)))
        left[w] = False
        sums += importance[:, w]
        order.append(w)
    return np.array(order)


def greedy_over_weights(importance: np.ndarray, kept: int) -> np.ndarray:
    """The same without numpy: each turn compares all weights that are left, one after another."""
    rows, columns = importance.tolist(), importance.T.tolist()
    groups, n, total = len(rows), len(columns), sum(map(sum, rows))
    target = [sum(row) / total for row in rows]
    left, sums, order = dict.fromkeys(range(n)), [0.0] * groups, []
    for _ in range(kept):
        have = sum(sums)
        g = min(range(groups), key=lambda a: (sums[a] / have if have > 0 else 1 / groups) - target[a])
        w = max(left, key=rows[g].__getitem__)
        del left[w]
        sums = [s + i for s, i in zip(sums, columns[w], strict=True)]
        order.append(w)
    return np.array(order)


def greedy_with_lists(importance: np.ndarray, kept: int) -> np.ndarray:
    """The same with a sorted list and a position for each group."""
    groups, n = importance.shape
    target = importance.sum(1) / importance.sum()
    best, position = np.argsort(-importance, axis=1, kind="stable"), [0] * groups
    left, sums, order = np.ones(n, bool), np.zeros(groups), []
    for _ in range(kept):
        share = sums / sums.sum() if sums.sum() > 0 else np.full(groups, 1 / groups)
        g = int(np.argmin(share - target))
        while not left[best[g, position[g]]]:
            position[g] += 1
        w = int(best[g, position[g]])
        left[w] = False
        sums += importance[:, w]
        order.append(w)
    return np.array(order)


def greedy_rows(size: int, repeats: int) -> dict[str, Any]:
    """Seconds of FairGRAPE's order of one layer, and the part of the picks that agree."""
    importance = np.random.default_rng(0).exponential(size=(GROUPS, size)).astype(np.float32) ** 2
    ours = partial(pruning.fairgrape_scores, jnp.asarray(importance))
    several = partial(pruning.fairgrape_scores, jnp.asarray(importance), at_a_time=max(1, size // 10_000))
    wide = importance.astype(np.float64)
    sides = {
        "one weight in each turn": ours,
        "as the criterion picks": several,
        "loop as written, in Python": lambda: greedy_over_weights(wide, size),
        "loop as written, in numpy": lambda: greedy_as_written(wide, size),
        "loop with sorted lists": lambda: greedy_with_lists(wide, size),
    }
    times = in_turn(min(repeats, 3), *sides.values())
    order, by_loop = np.argsort(-np.asarray(ours())), greedy_as_written(wide, size)
    agree = float(np.mean(np.isin(order[: size // 2], by_loop[: size // 2])))
    return {name: record.spread(t) for name, t in zip(sides, times, strict=True)} | {"same half": agree}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"examples": 4096, "hidden": 256, "repeats": 7, "greedy": 20_000}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    out = record.out_file("criteria")
    params, batch = make(options.examples, options.hidden)
    rows: dict[str, Any] = {}
    print(f"{'criterion':24}{'seconds':>10}{'gradients':>11}{'one, seconds':>14}{'ratio':>8}")
    for name, (count, gradient) in gradient_counts().items():
        scored, alone = in_turn(options.repeats, scorer(name, params, batch), partial(gradient, params, batch))
        ratio = min(scored) / (count * min(alone))
        rows[name] = {"seconds": record.spread(scored), "one": record.spread(alone), "gradients": count, "ratio": ratio}
        print(f"{name:24}{min(scored):10.4f}{count:11g}{min(alone):14.4f}{ratio:8.2f}", flush=True)
    rows["greedy"] = greedy_rows(options.greedy, options.repeats)
    for name, spread in rows["greedy"].items():
        print(f"FairGRAPE, {name}: {spread if isinstance(spread, float) else spread['min']:.4f}")
    record.write(out, rows)


if __name__ == "__main__":
    main()
