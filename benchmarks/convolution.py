"""Times the convolutional networks inside and outside of loops, and a ResNet-18 training step against PyTorch's.

    python benchmarks/convolution.py [--quick]

Prints a table and writes benchmarks/results/convolution.json. The sides of each ratio take turns in one process; each
figure is the minimum over turns, compilation left out. Peer: `pip install torch`, in
channels_last; left out where it is absent.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import record

from jaxprune import losses, models, training
from jaxprune.types import Batch

STEPS = 3


def alternating(turns: int, **runs) -> dict[str, dict[str, float]]:
    """Seconds of a step in several calls of each function, of `STEPS` steps each, the functions taking turns."""
    for run in runs.values():
        run()
    found = {name: [] for name in runs}
    for _ in range(turns):
        for name, run in runs.items():
            begun = time.perf_counter()
            run()
            found[name].append((time.perf_counter() - begun) / STEPS)
    return {name: record.spread(times) for name, times in found.items()}


def examples(batch: int) -> Batch:
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(STEPS, batch, 32, 32, 3)), jnp.float32)
    y = jnp.asarray(rng.integers(0, 5, (STEPS, batch)))
    return Batch(x, y, y, jnp.ones((STEPS, batch)))


def resnet(width: int, batches: Batch):
    """A ResNet-18 with its step and state, as in the paper: SGD with momentum and weight decay."""
    network, params, stats = models.create(
        "resnet18", jax.random.key(0), batches.x[0, 0], num_classes=5, width=width / 64
    )
    tx = optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(0.1, momentum=0.9))
    return network, training.make_step(network, losses.cross_entropy, tx), training.init_state(params, tx, stats)


def training_step(width: int, batch: int, turns: int) -> dict[str, dict[str, float]]:
    """A step in a scan, outside of it, and PyTorch's."""
    batches = examples(batch)
    _, step, state = resnet(width, batches)
    scanned = jax.jit(lambda state, batches: jax.lax.scan(step, state, batches)[0])
    single = jax.jit(step)

    def inside():
        jax.block_until_ready(scanned(state, batches))

    def outside():
        now = state
        for i in range(STEPS):
            now, _ = single(now, jax.tree.map(lambda leaf, i=i: leaf[i], batches))
        jax.block_until_ready(now)

    return alternating(turns, inside=inside, outside=outside, **pytorch(width, batches))


def pytorch(width: int, batches: Batch) -> dict:
    try:
        import torch
        from torch import nn
        from torch.nn import functional
    except ImportError:
        return {}

    class Block(nn.Module):
        def __init__(self, before, after, stride):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)
            self.conv2, self.bn2 = nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)
            changes = stride > 1 or before != after
            project = (nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)) if changes else ()
            self.shortcut = nn.Sequential(*project)

        def forward(self, x):
            y = functional.relu(self.bn1(self.conv1(x)), inplace=True)
            return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x), inplace=True)

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            blocks, before = [], width
            for stage in range(4):
                for i in range(2):
                    blocks.append(Block(before, width * 2**stage, 2 if stage and not i else 1))
                    before = width * 2**stage
            self.conv1, self.bn1 = nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
            self.blocks, self.fc = nn.Sequential(*blocks), nn.Linear(before, 5)

        def forward(self, x):
            return self.fc(self.blocks(functional.relu(self.bn1(self.conv1(x)), inplace=True)).mean((2, 3)))

    network = ResNet().to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    inputs = [torch.tensor(np.asarray(x)).permute(0, 3, 1, 2) for x in batches.x]  # is channels_last in memory
    labels = [torch.tensor(np.asarray(y)).long() for y in batches.y]

    def run():
        for x, y in zip(inputs, labels, strict=True):
            optimiser.zero_grad()
            functional.cross_entropy(network(x), y).backward()
            optimiser.step()

    return {"pytorch": run}


def hessian_vector_product(width: int, batch: int, turns: int) -> dict[str, dict[str, float]]:
    """A product in a loop, outside of it, and a gradient."""
    batches = examples(batch)
    network, _, state = resnet(width, batches)
    one = jax.tree.map(lambda leaf: leaf[0], batches)
    apply = network.freeze(state.stats)

    def gradient(params, one):
        return jax.grad(lambda p: losses.cross_entropy(apply(p, one.x), one.y).mean())(params)

    def product(params, one, vector):
        return jax.jvp(lambda p: gradient(p, one), (params,), (vector,))[1]

    vector = jax.tree.map(jnp.ones_like, state.params)
    loop = jax.jit(
        lambda params, one, vector: jax.lax.fori_loop(0, STEPS, lambda _, v: product(params, one, v), vector)
    )
    single, first = jax.jit(product), jax.jit(gradient)

    def inside():
        jax.block_until_ready(loop(state.params, one, vector))

    def outside():
        now = vector
        for _ in range(STEPS):
            now = single(state.params, one, now)
        jax.block_until_ready(now)

    def gradients():
        for _ in range(STEPS):
            jax.block_until_ready(first(state.params, one))

    return alternating(turns, inside=inside, outside=outside, gradient=gradients)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="narrow networks only")
    quick = parser.parse_args().quick
    out, rows = record.out_file("convolution-quick" if quick else "convolution"), {}
    for width, batch in ((16, 64),) if quick else ((16, 64), (64, 32)):
        for what, measure in (("training step", training_step), ("Hessian-vector product", hessian_vector_product)):
            times = measure(width, batch, 3 if quick else 7)
            rows[f"{what}, width {width}, batch {batch}"] = times
            inside = times["inside"]["min"]
            ratios = ", ".join(f"inside/{k} {inside / t['min']:.2f}" for k, t in times.items() if k != "inside")
            print(f"{what}, width {width}, batch {batch}: {inside * 1000:.0f} ms inside a loop; {ratios}", flush=True)
    record.write(out, rows)


if __name__ == "__main__":
    main()
