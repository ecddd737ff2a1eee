"""Time a training step that prunes against the dense step.

    python benchmarks/sparsify.py

Prints a table and writes benchmarks/results/sparsify.json. All sides take turns in one process, over the same data;
each figure is the seconds of one step of a compiled loop, without compilation; ratios are of minima. No masks are due,
except in "due", where every step updates them.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import record

from jaxprune import losses, models, pruning, training
from jaxprune.types import Batch

NEVER = 10**6  # masks are updated at this step, which no loop here reaches


def sides(inner: optax.GradientTransformation) -> dict[str, optax.GradientTransformation]:
    """The dense optimiser, and every way to prune with it."""
    key, later = jax.random.key(0), pruning.cubic(0.9, begin=NEVER, end=2 * NEVER, every=NEVER)
    return {
        "dense": inner,
        "sparsify": pruning.sparsify(inner, pruning.magnitude(), later),
        "rigl": pruning.rigl(inner, 0.9, key=key, begin=NEVER, end=2 * NEVER, every=NEVER),
        "straight_through": pruning.straight_through(inner, pruning.magnitude(), later),
        "sparsify, due": pruning.sparsify(inner, pruning.magnitude(), pruning.cubic(0.9, end=NEVER)),
    }


def loop_of(network, batch: Batch, replicas: int, steps: int, tx: optax.GradientTransformation):
    """A compiled loop of steps and the state it begins with.

    It maps over R replicas; 0 is one network without `vmap`.
    """
    step = training.make_step(network, losses.cross_entropy, tx)

    def one(state):
        return jax.lax.scan(lambda state, _: step(state, batch), state, None, steps)[0]

    def start(key):
        params, stats = network.init(key)
        return training.init_state(params, tx, stats)

    many, init = (jax.vmap(one), jax.vmap(start)) if replicas else (one, start)
    keys = jax.random.split(jax.random.key(1), replicas) if replicas else jax.random.key(1)
    state, compiled = jax.jit(init)(keys), jax.jit(many)
    return compiled, state


def measure(network, batch: Batch, replicas: int, steps: int, repeats: int) -> dict[str, dict[str, float]]:
    """Measure wall and processor seconds of a step of every side."""
    loops = {name: loop_of(network, batch, replicas, steps, tx) for name, tx in sides(optax.adam(1e-3)).items()}
    clocks = {"wall": time.perf_counter, "processor": time.process_time}
    seconds = {clock: {name: [] for name in loops} for clock in clocks}
    for repeat in range(repeats + 1):  # the first compiles
        for name, (compiled, state) in loops.items():
            begun = {clock: read() for clock, read in clocks.items()}
            jax.block_until_ready(compiled(state))
            if repeat:
                for clock, read in clocks.items():
                    seconds[clock][name].append((read() - begun[clock]) / steps)
    return {
        f"{name}, {clock}": record.spread(times) | {"/ dense": min(times) / min(of_side["dense"])}
        for clock, of_side in seconds.items()
        for name, times in of_side.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--network", default="", help="measure only networks with this in their names")
    parser.add_argument("--large", action="store_true", help="sizes for an accelerator")
    options = parser.parse_args()
    out = record.out_file("sparsify")
    rng = np.random.default_rng(0)
    size, width, num_images, side, steps = (1024, 2048, 1024, 32, 200) if options.large else (512, 512, 64, 16, 5)

    def batch(size: int, *shape: int) -> Batch:
        x = rng.normal(size=(size, *shape)).astype(np.float32)
        y = rng.integers(0, 10, size).astype(np.int32)
        return jax.tree.map(jnp.asarray, Batch(x, y, np.zeros(size, np.int32), np.ones(size, np.float32)))

    flat, images = batch(size, 784), batch(num_images, side, side, 3)
    networks = {
        f"mlp {width}-{width}, batch {size}": (models.build("mlp", flat.x[0], 10, hidden=(width, width)), flat),
        f"resnet20, {side}x{side}, batch {num_images}": (models.build("resnet20", images.x[0], 10), images),
    }
    rows = {}
    for name, (network, data) in networks.items():
        if options.network not in name:
            continue
        for replicas in (0, 3):
            label = f"{name}, {f'{replicas} replicas' if replicas else 'alone'}"
            rows[label] = figures = measure(network, data, replicas, steps, options.repeats)
            print(f"{label}: dense {1e3 * figures['dense, wall']['min']:.2f} ms a step; times the dense step:")
            for figure, times in figures.items():
                print(f"    {figure:32}{times['/ dense']:8.3f}", flush=True)
    record.write(out, rows)


if __name__ == "__main__":
    main()
