"""Times a training step of the small convnet with and without random crops and flips.

    python benchmarks/augmentation.py

Prints a table and writes benchmarks/results/augmentation.json. The images are made; all sides alternate in one
process, and each figure is the minimum of five epochs, compilation left out.
"""

import time

import jax
import numpy as np
import optax
import record

from jaxprune import data, losses, models, training
from jaxprune.types import Batch

EPOCHS, STEPS, BATCH, REPLICAS = 5, 8, 64, 2
SIDES = (32, 64)


def main() -> None:
    out, rows = record.out_file("augmentation"), {}
    rng = np.random.default_rng(0)
    keys = jax.random.split(jax.random.key(0), REPLICAS)
    for side in SIDES:
        n = STEPS * BATCH
        x = rng.integers(0, 256, (n, side, side, 3), np.uint8)
        images = Batch(x, rng.integers(0, 5, n), rng.integers(0, 5, n), np.ones(n, np.float32))
        normalise = data.Normalise((127.0,) * 3, (74.0,) * 3)
        network = models.build("convnet", x[0], 5).after(normalise)
        tx = optax.sgd(1e-3)
        step = training.make_step(network, losses.cross_entropy, tx)
        params, stats = jax.vmap(network.init)(keys)
        state = jax.vmap(lambda p, s, tx=tx: training.init_state(p, tx, s))(params, stats)
        crop, flip = data.random_crop(side // 8, normalise.shift), data.horizontal_flip()
        kinds = {"nothing": None, "flip": flip, "crop and flip": data.chain(crop, flip)}
        times = {kind: [] for kind in kinds}
        for _ in range(EPOCHS + 1):  # the first compiles
            for kind, augment in kinds.items():
                begun = time.perf_counter()
                training.fit(step, state, images, key=keys, epochs=1, batch_size=BATCH, augment=augment)
                times[kind].append((time.perf_counter() - begun) / STEPS)
        rows[f"{side}x{side}"] = {kind: record.spread(found[1:]) for kind, found in times.items()}
    for name, found in rows.items():
        for kind, times in found.items():
            more = times["min"] / found["nothing"]["min"] - 1
            print(f"{name:8}{kind:16}{1e3 * times['min']:8.1f} ms a step{more:+9.1%}")
    record.write(out, rows)


if __name__ == "__main__":
    main()
