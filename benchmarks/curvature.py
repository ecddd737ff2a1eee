"""Times the largest Hessian eigenvalue of five uneven groups against other tools, at the same weights.

    python benchmarks/curvature.py [--images 500] [--blocks 3] [--side 32] [--repeats 3] [--steps 300] [--data FILE.npz]

The network is CIFAR's ResNet-20 (with --blocks 3) with its norms as affine maps, as in evaluation mode, trained for
--steps of batches of 32, on the training images (`image`, `label`, `split`) of --data, of which group a has the classes
2a and 2a + 1, or else on noise with a faint pattern for each class (with 0 steps its weights are random, and the
largest eigenvalue lies farther from the next than in trained networks). Peers that are not installed are left out:
pyhessian, hessian-eigenthings, curvlinops-for-pytorch, matfree. Each stops at a tolerance of its own kind (1e-3,
PyHessian at smaller ones too, as its error exceeds its tolerance; ours is of the residual, and the error is about its
square). The error that counts is against scipy's eigsh on float64 products (tolerance 1e-5; curvlinops' where it is
installed, else ours). Seconds are the minimum of the repeats after a first call, whose excess is compilation; calls of
more than a minute are not repeated. Also measured: the norms of all examples' gradients against one gradient; the time
of five products for half, all, twice and four times as many images, and the memory that the compiler says it takes.

Prints a table and writes benchmarks/results/curvature.json.
"""

import argparse
import importlib.util
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import record
from jax.flatten_util import ravel_pytree
from scipy.sparse.linalg import LinearOperator, eigsh

from jaxprune import theory
from jaxprune.compat import enable_x64
from jaxprune.losses import cross_entropy
from jaxprune.models.conv import convolve
from jaxprune.types import Batch

SHARES = (0.45, 0.25, 0.15, 0.1, 0.05)
CLASSES, TOLERANCE = 10, 1e-3
ANEW = 2**28  # bytes: enough for the vectors of a search, too few for what linearised products keep


def make_weights(blocks: int, seed: int = 0) -> dict[str, np.ndarray]:
    """He-normal kernels and affine norms, in the layout [height, width, in, out]."""
    rng = np.random.default_rng(seed)
    found, before = {}, 3
    for name, width in layer_widths(blocks):
        found[f"{name}/kernel"] = rng.normal(size=(3, 3, before, width)) * np.sqrt(2 / (9 * before))
        found[f"{name}/scale"] = rng.uniform(0.4, 0.8, width)
        found[f"{name}/shift"] = rng.normal(size=width) * 0.1
        before = width
    found["head/kernel"] = rng.normal(size=(before, CLASSES)) / np.sqrt(before)
    found["head/bias"] = np.zeros(CLASSES)
    return {name: value.astype(np.float32) for name, value in found.items()}


def layer_widths(blocks: int) -> list[tuple[str, int]]:
    """The convolutions in order: the stem, then two for each block of each stage."""
    inner = [(f"{s}-{b}-{i}", w) for s, w in enumerate((16, 32, 64)) for b in range(blocks) for i in range(2)]
    return [("stem", 16), *inner]


def in_jax(blocks: int) -> Callable:
    def conv(p, name, x, stride=1):
        made = convolve(x, p[f"{name}/kernel"], stride=stride, padding=1)
        return made * p[f"{name}/scale"] + p[f"{name}/shift"]

    def apply(p, x):
        x = jax.nn.relu(conv(p, "stem", x))
        for s in range(3):
            for b in range(blocks):
                stride = 2 if s and not b else 1
                short = x[:, ::stride, ::stride]
                y = conv(p, f"{s}-{b}-1", jax.nn.relu(conv(p, f"{s}-{b}-0", x, stride)))
                short = jnp.pad(short, ((0, 0),) * 3 + ((0, y.shape[-1] - short.shape[-1]),))
                x = jax.nn.relu(y + short)
        return x.mean((1, 2)) @ p["head/kernel"] + p["head/bias"]

    return apply


def trained(apply: Callable, params: dict, x: np.ndarray, y: np.ndarray, steps: int) -> dict[str, np.ndarray]:
    """The weights after some steps of SGD with momentum on batches of 32."""
    tx = optax.sgd(0.01, momentum=0.9)

    @jax.jit
    def run(params: dict) -> dict:
        def step(carry: Any, key: jax.Array) -> Any:
            params, state = carry
            rows = jax.random.randint(key, (32,), 0, len(y))
            loss, gradient = jax.value_and_grad(lambda p: jnp.mean(cross_entropy(apply(p, x[rows]), y[rows])))(params)
            updates, state = tx.update(gradient, state)
            return (optax.apply_updates(params, updates), state), loss

        carry, losses = jax.lax.scan(step, (params, tx.init(params)), jax.random.split(jax.random.key(2), steps))
        return carry[0], losses

    x, y = jnp.asarray(x), jnp.asarray(y)
    params, losses = run(params)
    print(f"loss {float(np.mean(losses[:20])):.2f} at first, {float(np.mean(losses[-20:])):.2f} after {steps} steps")
    return {name: np.asarray(value) for name, value in params.items()}


def in_torch(blocks: int, weights: dict[str, np.ndarray]):
    import torch
    from torch import nn
    from torch.nn import functional

    class Layer(nn.Module):
        def __init__(self, name, stride):
            super().__init__()
            kernel = weights[f"{name}/kernel"]
            self.conv = nn.Conv2d(kernel.shape[2], kernel.shape[3], 3, stride, 1, bias=False)
            self.conv.weight.data = torch.tensor(kernel.transpose(3, 2, 0, 1).copy())
            self.scale = nn.Parameter(torch.tensor(weights[f"{name}/scale"]))
            self.shift = nn.Parameter(torch.tensor(weights[f"{name}/shift"]))

        def forward(self, x):
            return self.conv(x) * self.scale[:, None, None] + self.shift[:, None, None]

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = Layer("stem", 1)
            names = [(s, b, i) for s in range(3) for b in range(blocks) for i in range(2)]
            strides = [2 if s and not b and not i else 1 for s, b, i in names]
            self.layers = nn.ModuleList(
                Layer(f"{s}-{b}-{i}", stride) for (s, b, i), stride in zip(names, strides, strict=True)
            )
            self.head = nn.Linear(64, CLASSES)
            self.head.weight.data = torch.tensor(weights["head/kernel"].T.copy())
            self.head.bias.data = torch.tensor(weights["head/bias"])

        def forward(self, x):
            x = functional.relu(self.stem(x))
            for first, second in zip(self.layers[::2], self.layers[1::2], strict=True):
                stride = first.conv.stride[0]
                y = second(functional.relu(first(x)))
                short = x[:, :, ::stride, ::stride]
                x = functional.relu(y + functional.pad(short, (0, 0, 0, 0, 0, y.shape[1] - short.shape[1])))
            return self.head(x.mean((2, 3)))

    return Network().eval()


def timed(function: Callable[[], np.ndarray], repeats: int) -> dict[str, object]:
    """Values, the seconds of the best later call, and how much longer the first took; minutes are not repeated."""
    times = []
    while len(times) <= repeats and sum(times) < 60:
        begun = time.perf_counter()
        values = function()
        times.append(time.perf_counter() - begun)
    later = times[1:] or times
    best = min(later)
    first = max(0.0, times[0] - best)
    each = record.spread(later)
    return {"values": np.asarray(values, float).tolist(), "seconds": best, "first": first, "calls": each}


def ours(apply: Callable, params: dict, batch: Batch, memory: int, tolerance: float = TOLERANCE) -> np.ndarray:
    found = theory.group_top_eigenvalues(
        apply, params, batch, num_groups=len(SHARES), key=jax.random.key(0), tolerance=tolerance, memory=memory
    )
    return np.asarray(found.value)


def with_matfree(apply: Callable, params: dict, groups: list[Batch]) -> Callable[[], np.ndarray]:
    """A function to be timed; its program is compiled once for every size of a group."""
    from matfree import decomp, eig

    flat, unravel = ravel_pytree(params)

    @jax.jit
    def top(flat: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        def loss(v: jax.Array) -> jax.Array:
            return jnp.mean(cross_entropy(apply(unravel(v), x), y))

        def product(v: jax.Array) -> jax.Array:
            return jax.jvp(jax.grad(loss), (flat,), (v,))[1]

        return eig.eigh_partial(decomp.tridiag_sym(15))(product, jax.random.normal(jax.random.key(0), flat.shape))[0]

    return lambda: np.array([np.max(top(flat, g.x, g.y)) for g in groups])


def of_torch(groups: list[Batch], wide: bool = False) -> list[tuple]:
    import torch

    kind = torch.float64 if wide else torch.float32
    return [
        (torch.tensor(g.x.transpose(0, 3, 1, 2).copy(), dtype=kind), torch.tensor(g.y, dtype=torch.long))
        for g in groups
    ]


def with_pyhessian(network, data: list[tuple], tolerance: float = TOLERANCE) -> np.ndarray:
    import torch
    from pyhessian import hessian

    loss = torch.nn.CrossEntropyLoss()
    return np.array([
        hessian(network, loss, data=pair, cuda=False).eigenvalues(maxIter=1000, tol=tolerance, top_n=1)[0][0]
        for pair in data
    ])  # fmt: skip


def with_eigenthings(network, data: list[tuple]) -> np.ndarray:
    from hessian_eigenthings import HessianOperator, lanczos, supervised_loss
    from torch.nn import functional

    loss = supervised_loss(functional.cross_entropy)
    found = [
        lanczos(HessianOperator(network, [pair], loss), k=1, max_iter=30, which="LA", tol=TOLERANCE, seed=0)
        for pair in data
    ]
    return np.array([float(f.eigenvalues.max()) for f in found])


def with_curvlinops(network, data: list[tuple], tolerance: float = TOLERANCE) -> np.ndarray:
    import torch
    from curvlinops import HessianLinearOperator

    found = []
    for pair in data:
        loss = torch.nn.CrossEntropyLoss()
        parameters = [p for p in network.parameters() if p.requires_grad]
        try:
            operator = HessianLinearOperator(network, loss, parameters, [pair])
        except (TypeError, ValueError, AttributeError):  # later versions take names
            operator = HessianLinearOperator(network, loss, dict(network.named_parameters()), [pair])
        top = eigsh(operator.to_scipy(), k=1, which="LA", tol=tolerance, return_eigenvectors=False)
        found.append(float(top[0]))
    return np.array(found)


def truth(apply: Callable, params: dict, batch: Batch) -> np.ndarray:
    """ARPACK in float64 on our products, one group at a time, all filled up to one size."""
    size, found = np.bincount(batch.group).max(), []
    with enable_x64(True):
        wide = jax.tree.map(np.float64, params)
        product = jax.jit(lambda operator, v: operator(v))
        for a in range(len(SHARES)):
            rows = np.flatnonzero(batch.group == a)
            filled = np.resize(rows, size)
            weight = (np.arange(size) < len(rows)).astype(float)
            data = Batch(batch.x[filled].astype(np.float64), batch.y[filled], np.zeros(size, np.int32), weight)
            operator = theory.group_operator(apply, wide, data, num_groups=1, memory=0)

            def one(v: np.ndarray, operator: Any = operator) -> np.ndarray:
                return np.asarray(product(operator, v.reshape(1, -1)))[0]

            linear = LinearOperator((operator.num_params,) * 2, matvec=one, dtype=np.float64)
            found.append(eigsh(linear, k=1, which="LA", tol=1e-5, return_eigenvectors=False)[0])
    return np.array(found)


def gradient_seconds(apply: Callable, params: dict, batch: Batch, repeats: int) -> dict[str, dict[str, float]]:
    """One gradient of all examples, and the norms of all examples' gradients, in the same chunks."""
    size = 32
    norms = partial(theory.example_gradient_norms, apply, params, batch, chunk_size=size)
    chunks = theory.by_group(batch._replace(group=np.zeros_like(batch.group)), 1, size)
    sides = {
        "one gradient of all examples": partial(theory.group_gradients, apply, params, chunks, num_groups=1),
        "norms of every example's gradient": norms,
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(1 + max(5, repeats)):  # in turns, so that a busy moment of the machine meets both
        for name, function in sides.items():
            begun = time.perf_counter()
            jax.block_until_ready(function())
            if repeat:
                times[name].append(time.perf_counter() - begun)
    return {name: record.spread(seconds) for name, seconds in times.items()}


def scaling(apply: Callable, params: dict, batch: Batch, repeats: int) -> dict[str, dict[str, Any]]:
    """Seconds and bytes of five products of every group, for several numbers of images."""
    rows = {}
    for times in (0.5, 1, 2, 4):
        sizes = (np.bincount(batch.group) * times).astype(int)
        index = np.concatenate([np.resize(np.flatnonzero(batch.group == a), n) for a, n in enumerate(sizes)])
        chosen = theory.by_group(Batch(*(leaf[index] for leaf in batch)), len(SHARES), 10)
        for name, memory in (("linearised once", 2**36), ("evaluated anew", 0)):
            operator = theory.group_operator(apply, params, chosen, num_groups=len(SHARES), memory=memory)
            start = jax.random.normal(jax.random.key(0), (len(SHARES), operator.num_params))
            search = jax.jit(
                lambda operator, start: (
                    theory.extreme_eigenvalues(operator, start, tolerance=0, max_iterations=5, both=False).largest
                )
            )
            compiled = search.lower(operator, start).compile()
            taken = timed(lambda: np.asarray(compiled(operator, start).value), repeats)  # noqa: B023
            used = compiled.memory_analysis()
            size = (used.temp_size_in_bytes + used.argument_size_in_bytes) if used else 0
            rows[f"{len(index)} images, {name}"] = {k: taken[k] for k in ("seconds", "calls")} | {"bytes": float(size)}
    return rows


def made_up(side: int, group: np.ndarray, learnable: bool) -> tuple[np.ndarray, ...]:
    """Noise that differs by group, with a faint pattern for each class where there is to be something to learn."""
    rng = np.random.default_rng(1)
    x = (rng.normal(size=(len(group), side, side, 3)) + 0.2 * group[:, None, None, None]).astype(np.float32)
    y = rng.integers(0, CLASSES, len(group)).astype(np.int32)
    if learnable:
        x += 0.5 * rng.normal(size=(CLASSES, *x.shape[1:])).astype(np.float32)[y]
    return x, y, x, y


def real_images(path: str, sizes: list[int]) -> tuple[np.ndarray, ...]:
    """The first images of every two classes, as many as each group has, and all training images to train on."""
    with np.load(path) as data:
        chosen = data["split"] == 0
        images, label = data["image"][chosen], data["label"][chosen].astype(np.int32)
    images = (images.astype(np.float32) - images.mean((0, 1, 2))) / images.std((0, 1, 2))
    rows = np.concatenate([np.flatnonzero(label // 2 == a)[:size] for a, size in enumerate(sizes)])
    return images[rows].astype(np.float32), label[rows], images.astype(np.float32), label


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--data", default="")
    options = parser.parse_args()
    out = record.out_file("curvature")
    sizes = [max(1, round(share * options.images)) for share in SHARES]
    group = np.repeat(np.arange(len(SHARES)), sizes).astype(np.int32)
    examples = real_images(options.data, sizes) if options.data else made_up(options.side, group, options.steps > 0)
    x, y, *everything = examples
    batch = Batch(x, y, group, np.ones(len(group), np.float32))
    groups = [Batch(*(leaf[group == a] for leaf in batch)) for a in range(len(SHARES))]
    params, apply = make_weights(options.blocks), in_jax(options.blocks)
    if options.steps:
        params = trained(apply, params, *everything, options.steps)
    if importlib.util.find_spec("curvlinops"):  # whose float64 products are several times faster than XLA's on a CPU
        wide = in_torch(options.blocks, params).double()
        exact = with_curvlinops(wide, of_torch(groups, wide=True), tolerance=1e-5)
    else:
        exact = truth(apply, params, batch)
    sides = {
        "jaxprune, linearised once": lambda: ours(apply, params, batch, 2**34),
        "jaxprune, evaluated anew": lambda: ours(apply, params, batch, ANEW),
        "jaxprune, linearised, tol 5e-03": lambda: ours(apply, params, batch, 2**34, 5e-3),
    }
    if importlib.util.find_spec("matfree"):
        sides["matfree, 15 steps each"] = with_matfree(apply, params, groups)
    if importlib.util.find_spec("torch"):
        network, data = in_torch(options.blocks, params), of_torch(groups)
        peers = {
            "hessian_eigenthings": ("hessian-eigenthings, loop", with_eigenthings),
            "curvlinops": ("curvlinops and eigsh, loop", with_curvlinops),
        }
        if importlib.util.find_spec("pyhessian"):
            for tolerance in (1e-3, 1e-4, 1e-5):
                sides[f"PyHessian, loop, tol {tolerance:.0e}"] = partial(with_pyhessian, network, data, tolerance)
        for module, (name, function) in peers.items():
            if importlib.util.find_spec(module):
                sides[name] = partial(function, network, data)
    print(f"{len(batch.y)} images, groups {sizes}, {sum(v.size for v in params.values()):,} parameters")
    print(f"{'':32}{'seconds':>10}{'first +':>10}{'largest error':>15}", flush=True)
    rows = {}
    for name, function in sides.items():
        row = timed(function, options.repeats)
        row["error"] = float(np.max(np.abs(np.array(row["values"]) / exact - 1)))
        print(f"{name:32}{row['seconds']:10.2f}{row['first']:10.2f}{row['error']:15.1e}", flush=True)
        rows[name] = row
    seconds = gradient_seconds(apply, params, batch, options.repeats)
    for name, value in seconds.items():
        print(f"{name:36}{value['min']:8.2f} s")
    gradient, norm = (value["min"] for value in seconds.values())
    print(f"{'norms / gradient':36}{norm / gradient:8.2f}")
    grown = scaling(apply, params, batch, options.repeats)
    for name, row in grown.items():
        print(f"five products, {name:28}{row['seconds']:8.2f} s{row['bytes'] / 2**20:10.0f} MB", flush=True)
    found = {
        "options": vars(options),
        "exact": exact.tolist(),
        "eigenvalues": rows,
        "gradients": seconds,
        "size": grown,
    }
    record.write(out, found)


if __name__ == "__main__":
    main()
