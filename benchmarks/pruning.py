"""Time masks of 90 % sparsity against a sort and PyTorch.

    python benchmarks/pruning.py [--millions 1 11 25 100] [--quick]

Scores are absolute normal numbers in layers of at most 2.36 million. Sides: `global_masks` and `layerwise_masks` with
their checks; `global_masks` of scores that are all equal, its worst case; a jitted sort of all scores and the masks by
its threshold; `torch.kthvalue` of one flat tensor, the threshold alone, with neither the joining of the layers nor the
masks; `torch.nn.utils.prune.global_unstructured`. They take turns in one process; each figure is the minimum over
turns, compilation left out: wall time, and the time of all processor cores, which other work on the machine alters
less. PyTorch's are left out where it is not installed (`pip install torch`), and --quick leaves out the slow ones (the
sort and `global_unstructured`).

Prints a table and writes benchmarks/results/pruning.json.
"""

import argparse
import importlib.util
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import record

from jaxprune import pruning

SPARSITY, LAYER = 0.9, 512 * 512 * 9
SLOW = ("sort", "global_unstructured")
Side = Callable[[], Callable[[], object]]  # makes a call ready, which is not timed, and returns it


def alternating(turns: int, sides: dict[str, Side]) -> dict[str, dict[str, dict[str, float]]]:
    """Measure the seconds of each side, the sides taking turns.

    A first call of each, which compiles, is left out.
    """
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for turn in range(turns + 1):
        for name, side in sides.items():
            call = side()
            begun = time.perf_counter(), time.process_time()
            jax.block_until_ready(call())
            if turn:
                seconds[name].append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
    return {
        name: {
            clock: record.spread(times) for clock, times in zip(("wall", "cpu"), zip(*pairs, strict=True), strict=True)
        }
        for name, pairs in seconds.items()
    }


def layers(size: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = [LAYER] * (size // LAYER) + [size % LAYER]
    return {f"layer_{i:02}": np.abs(rng.standard_normal(n, np.float32)) for i, n in enumerate(sizes) if n}


def of_jax(values: dict[str, np.ndarray]) -> dict[str, Side]:
    scores = {name: jnp.asarray(leaf) for name, leaf in values.items()}
    equal = {name: jnp.ones_like(leaf) for name, leaf in scores.items()}
    pruned = round(SPARSITY * sum(leaf.size for leaf in scores.values()))

    @jax.jit
    def by_sorting(scores):
        threshold = jnp.sort(jnp.concatenate(jax.tree.leaves(scores)))[pruned]
        return jax.tree.map(lambda leaf: leaf >= threshold, scores)

    return {
        "global_masks": lambda: lambda: pruning.global_masks(scores, SPARSITY),
        "layerwise_masks": lambda: lambda: pruning.layerwise_masks(scores, SPARSITY),
        "global_masks, all equal": lambda: lambda: pruning.global_masks(equal, SPARSITY),
        "sort": lambda: lambda: by_sorting(scores),
    }


def of_torch(values: dict[str, np.ndarray]) -> dict[str, Side]:
    if importlib.util.find_spec("torch") is None:
        return {}
    import torch
    from torch import nn
    from torch.nn.utils import prune

    flat = torch.from_numpy(np.concatenate(list(values.values())))

    def network():
        modules = []
        for leaf in values.values():
            module = nn.Module()
            module.weight = nn.Parameter(torch.from_numpy(leaf))
            modules.append((module, "weight"))
        return lambda: prune.global_unstructured(modules, prune.L1Unstructured, amount=SPARSITY)

    return {
        "torch.kthvalue": lambda: lambda: flat.kthvalue(round(SPARSITY * len(flat))).values.item(),
        "global_unstructured": network,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--millions", type=int, nargs="+", default=[1, 11, 25, 100], help="scores in all")
    parser.add_argument("--quick", action="store_true", help="leave out the sort and global_unstructured")
    options = parser.parse_args()
    out, rows = record.out_file("pruning-quick" if options.quick else "pruning"), {}
    for millions in options.millions:
        values = layers(millions * 10**6)
        sides = of_jax(values) | of_torch(values)
        if options.quick:
            sides = {name: side for name, side in sides.items() if name not in SLOW}
        rows[f"{millions} M"] = times = alternating(max(1, min(5, 40 // millions)), sides)
        print(f"{millions} M scores: wall ms (ratio to global_masks), processor ms (ratio)")
        for name, clocks in times.items():
            pairs = ((t["min"], t["min"] / times["global_masks"][clock]["min"]) for clock, t in clocks.items())
            print(
                f"  {name:24}" + "".join(f"{seconds * 1000:9.0f} ({ratio:6.2f})" for seconds, ratio in pairs),
                flush=True,
            )
    record.write(out, {"masks": rows})


if __name__ == "__main__":
    main()
