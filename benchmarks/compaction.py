"""Time compact networks against the dense one, and against the same narrow networks in PyTorch.

    python benchmarks/compaction.py [--turns 7] [--only vit resnet18] [--quick]

Networks for images of 32 pixels, of which 70, 50 and 30 % of the channels of every coupling are kept: the exact number
up to 24 channels, from there the nearest multiple of 16. Sides: the dense network, the compact one, and the same
network of plain PyTorch modules with the kept widths, its tensors channels_last (left out where PyTorch is not
installed). Of each, a forward pass in evaluation mode and a training step (cross-entropy, gradients, SGD with
momentum). All sides of a network take turns in one process; each figure is the minimum over turns, compilation left
out: wall time, and the time of all processor cores, which other work on the machine alters less. FLOPs are those of the
products.

The aim is a processor time of at most the ratio of FLOPs / 0.7, and no more than PyTorch's. Also timed is the analysis
of a ResNet-50 for images of 224 pixels, beyond the tracing of its programs; the aim is 0.5 s.

--quick takes two turns of a small network. Prints a table and writes benchmarks/results/compaction.json.
"""

import argparse
import importlib.util
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # PyTorch's threads must not spin while another side is timed

import jax
import jax.numpy as jnp
import numpy as np
import optax
import record

from jaxprune import losses, models, pruning, training
from jaxprune.types import Batch

CLASSES, SHARES, AIM, ANALYSIS_AIM = 10, (0.7, 0.5, 0.3), 0.7, 0.5
EXACT_UP_TO, MULTIPLE = 24, 16


class Case(NamedTuple):
    name: str
    options: dict[str, Any]
    batch: int
    side: int = 32


CASES = {
    "resnet18, width 0.25": Case("resnet18", {"width": 0.25}, 64),
    "resnet18": Case("resnet18", {}, 16),
    "vgg19": Case("vgg19", {}, 16),
    "mobilenet_v2": Case("mobilenet_v2", {}, 64),
    "vit": Case("vit", {}, 64),
}
QUICK = {"convnet": Case("convnet", {"channels": (8, 8), "hidden": (16,)}, 4, 8)}
IN_TORCH = ("resnet18", "vgg19", "mobilenet_v2", "vit")  # the networks that are written in PyTorch below
Call = Callable[[], object]


def alternating(turns: int, sides: Mapping[str, Call]) -> dict[str, dict[str, dict[str, float]]]:
    """Seconds of each side, the sides taking turns; a first call of each, which compiles, is left out."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for turn in range(turns + 1):
        for name, call in sides.items():
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


def width_of(size: int, share: float) -> int:
    """The channels kept of a coupling."""
    exact = max(1, round(share * size))
    return exact if exact <= EXACT_UP_TO else min(size, max(MULTIPLE, round(exact / MULTIPLE) * MULTIPLE))


def of_jax(network: Any, params: Any, stats: Any, batch: Batch) -> tuple[Call, Call]:
    """A forward pass and a training step, as compiled programs."""
    forward = jax.jit(lambda params, stats, x: network.apply(params, stats, x, False)[0])
    tx = optax.sgd(0.01, momentum=0.9)
    step = jax.jit(training.make_step(network, losses.cross_entropy, tx))
    state = training.init_state(params, tx, stats)
    return lambda: forward(params, stats, batch.x), lambda: step(state, batch)


def shapes_of(params: Any, stats: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of a state dict."""
    return {name: array.shape for name, array in models.to_state_dict(params, stats).items()}


def measure(case: Case, turns: int) -> dict[str, Any]:
    shape = (case.side, case.side, 3)
    network, params, stats = models.create(
        case.name, jax.random.key(0), np.zeros(shape, np.float32), num_classes=CLASSES, **case.options
    )
    rng = np.random.default_rng(0)
    batch = Batch(
        x=jnp.asarray(rng.normal(size=(case.batch, *shape)), jnp.float32),
        y=jnp.asarray(rng.integers(0, CLASSES, case.batch)),
        group=jnp.zeros(case.batch, int),
        weight=jnp.ones(case.batch),
    )
    couplings = pruning.couplings(network, params, stats, sample=batch.x)
    forwards, steps, flops = {}, {}, {}
    forwards["dense"], steps["dense"] = of_jax(network, params, stats, batch)
    if of_torch := torch_sides(case, shapes_of(params, stats), batch):
        forwards["dense, PyTorch"], steps["dense, PyTorch"] = of_torch
    for share in SHARES:
        counts = {c.name: width_of(c.size, share) for c in couplings if c.kind == "channels"}
        keep = {name: np.arange(couplings.sizes[name]) < count for name, count in counts.items()}
        masks = couplings.masks(keep, params)
        smaller = pruning.compact(network, params, stats, masks, sample=batch.x, couplings=couplings)
        side = f"{share:g}"
        flops[side] = float(couplings.flops(counts)) / float(couplings.flops({}))
        forwards[side], steps[side] = of_jax(smaller.network, smaller.params, smaller.stats, batch)
        if of_torch := torch_sides(case, shapes_of(smaller.params, smaller.stats), batch):
            forwards[f"{side}, PyTorch"], steps[f"{side}, PyTorch"] = of_torch
    return {"flops": flops, "forward": alternating(turns, forwards), "training step": alternating(turns, steps)}


def analysis(turns: int, name: str, side: int) -> dict[str, Any]:
    """Seconds of the analysis of a network beyond the tracing of its two programs."""
    network = models.build(name, np.zeros((side, side, 3), np.float32), 1000)
    params, stats = jax.eval_shape(network.init, jax.random.key(0))
    x = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
    weight = jax.ShapeDtypeStruct((2,), jnp.float32)

    def tracing():
        jax.make_jaxpr(lambda params, stats, x: network.apply(params, stats, x, False))(params, stats, x)
        jax.make_jaxpr(lambda *inputs: network.apply(*inputs[:3], True, inputs[3]))(params, stats, x, weight)

    sides = {
        "tracing": tracing,
        "couplings": lambda: len(pruning.couplings(network, params, stats, sample=x)),
    }
    times = alternating(turns, sides)
    beyond = {clock: times["couplings"][clock]["min"] - times["tracing"][clock]["min"] for clock in ("wall", "cpu")}
    return times | {"beyond tracing": beyond}


def torch_sides(case: Case, shapes: Mapping[str, tuple[int, ...]], batch: Batch) -> tuple[Call, Call] | None:
    """The same network in PyTorch; None where it is not installed, or not written below."""
    if case.name not in IN_TORCH or importlib.util.find_spec("torch") is None:
        return None
    import torch

    module = torch_module(case, shapes).to(memory_format=torch.channels_last)
    x = torch.from_numpy(np.asarray(batch.x).transpose(0, 3, 1, 2).copy()).contiguous(memory_format=torch.channels_last)
    y = torch.from_numpy(np.asarray(batch.y, np.int64))
    optimiser = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)

    def forward():
        module.eval()
        with torch.inference_mode():
            module(x)

    def step():
        module.train()
        optimiser.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(module(x), y).backward()
        optimiser.step()

    return forward, step


def torch_module(case: Case, shapes: Mapping[str, tuple[int, ...]]) -> Any:
    """Plain modules with the widths of a state dict of ours."""
    import torch
    from torch import nn
    from torch.nn import functional

    def conv(name: str, stride: int = 1, groups: int = 1) -> Any:
        out, _, window, _ = shapes[f"{name}.weight"]
        inputs = shapes[f"{name}.weight"][1] * groups
        return nn.Conv2d(inputs, out, window, stride, window // 2, groups=groups, bias=f"{name}.bias" in shapes)

    def norm(name: str) -> Any:
        return nn.BatchNorm2d(shapes[f"{name}.weight"][0])

    def linear(name: str) -> Any:
        return nn.Linear(shapes[f"{name}.weight"][1], shapes[f"{name}.weight"][0])

    class Block(nn.Module):
        def __init__(self, at: str, stride: int):
            super().__init__()
            self.body = nn.Sequential(
                conv(f"{at}.conv1", stride), norm(f"{at}.bn1"), nn.ReLU(), conv(f"{at}.conv2"), norm(f"{at}.bn2")
            )
            down = f"{at}.downsample"
            has = f"{down}.0.weight" in shapes
            self.way = nn.Sequential(conv(f"{down}.0", stride), norm(f"{down}.1")) if has else nn.Identity()

        def forward(self, x):
            return functional.relu(self.body(x) + self.way(x))

    class Mean(nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    class Inverted(nn.Module):
        def __init__(self, at: str, stride: int, residual: bool):
            super().__init__()
            depthwise = "1" if f"{at}.conv.1.0.weight" in shapes else "0"
            first = [conv(f"{at}.conv.0.0"), norm(f"{at}.conv.0.1"), nn.ReLU6()] if depthwise == "1" else []
            middle, rest = shapes[f"{at}.conv.{depthwise}.0.weight"][0], int(depthwise) + 1
            self.body = nn.Sequential(
                *first,
                conv(f"{at}.conv.{depthwise}.0", stride, middle),
                norm(f"{at}.conv.{depthwise}.1"),
                nn.ReLU6(),
                conv(f"{at}.conv.{rest}"),
                norm(f"{at}.conv.{rest + 1}"),
            )
            self.residual = residual

        def forward(self, x):
            return x + self.body(x) if self.residual else self.body(x)

    class Layer(nn.Module):
        def __init__(self, at: str):
            super().__init__()
            features, self.heads, size = shapes[f"{at}.attention.query.weight"]
            values = shapes[f"{at}.attention.value.weight"][2]
            self.norm1, self.norm2 = nn.LayerNorm(features), nn.LayerNorm(features)
            self.query, self.key = (nn.Linear(features, self.heads * size) for _ in range(2))
            self.value, self.out = nn.Linear(features, self.heads * values), nn.Linear(self.heads * values, features)
            self.fc1, self.fc2 = linear(f"{at}.fc1"), linear(f"{at}.fc2")

        def forward(self, x):
            z = self.norm1(x)
            parts = (m(z).unflatten(2, (self.heads, -1)).transpose(1, 2) for m in (self.query, self.key, self.value))
            x = x + self.out(functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2))
            return x + self.fc2(functional.gelu(self.fc1(self.norm2(x))))

    class Transformer(nn.Module):
        def __init__(self):
            super().__init__()
            features, inputs = shapes["embedding.weight"]
            self.patch = round((inputs / 3) ** 0.5)
            self.embedding, self.head = linear("embedding"), linear("head")
            self.token, self.position = (nn.Parameter(torch.zeros(shapes[name])) for name in ("token", "position"))
            depth = sum(name.endswith("fc1.weight") for name in shapes)
            self.layers = nn.Sequential(*(Layer(f"layers.{i:02d}") for i in range(depth)))
            self.norm = nn.LayerNorm(features)

        def forward(self, x):
            p = self.patch
            x = x.unfold(2, p, p).unfold(3, p, p).permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)
            x = torch.cat([self.token.expand(len(x), 1, -1), self.embedding(x)], 1) + self.position
            return self.head(self.norm(self.layers(x)[:, 0]))

    if case.name == "resnet18":
        blocks = [Block(f"layer{s}.{i}", 2 if s > 1 and i == 0 else 1) for s in (1, 2, 3, 4) for i in (0, 1)]
        return nn.Sequential(conv("conv1"), norm("bn1"), nn.ReLU(), *blocks, Mean(), linear("fc"))
    if case.name == "vgg19":
        parts, at = [], 0
        for repeats in (2, 2, 4, 4, 4):
            for _ in range(repeats):
                parts += [conv(f"features.{at}"), norm(f"features.{at + 1}"), nn.ReLU()]
                at += 3
            parts.append(nn.MaxPool2d(2))
            at += 1
        dense = [linear("classifier.0"), nn.ReLU(), nn.Dropout(), linear("classifier.3"), nn.ReLU(), nn.Dropout()]
        return nn.Sequential(*parts, Mean(), *dense, linear("classifier.6"))
    if case.name == "mobilenet_v2":
        strides = [1, 1, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1]  # as for images of 32 pixels
        first = {0, 1, 3, 6, 10, 13, 16}  # blocks that begin a stage
        blocks = [Inverted(f"features.{i + 1}", stride, i not in first) for i, stride in enumerate(strides)]
        ends = [[conv(f"features.{i}.0"), norm(f"features.{i}.1"), nn.ReLU6()] for i in (0, 18)]
        return nn.Sequential(*ends[0], *blocks, *ends[1], Mean(), nn.Dropout(0.2), linear("classifier.1"))
    return Transformer()


def show(name: str, row: Mapping[str, Any]) -> None:
    for pass_ in ("forward", "training step"):
        times = row[pass_]
        dense = {clock: times["dense"][clock]["min"] for clock in ("wall", "cpu")}
        line = f"{name}, {pass_}: dense {1000 * dense['wall']:.1f} ms wall, {1000 * dense['cpu']:.1f} ms of processors"
        print(line + against(times, "dense"))
        for share, flops in row["flops"].items():
            ratios = {clock: times[share][clock]["min"] / dense[clock] for clock in dense}
            line = f"  {share:4} FLOPs {flops:.3f}, aim {flops / AIM:.3f}: "
            line += f"wall {ratios['wall']:.3f}, cpu {ratios['cpu']:.3f}"
            line += "  met" if ratios["cpu"] <= flops / AIM else "  MISSED"
            print(line + against(times, share), flush=True)


def against(times: Mapping[str, Any], side: str) -> str:
    """The time of a side as a share of PyTorch's, in words; empty without PyTorch."""
    theirs = times.get(f"{side}, PyTorch")
    if theirs is None:
        return ""
    ratios = (times[side][clock]["min"] / theirs[clock]["min"] for clock in ("wall", "cpu"))
    return "; of PyTorch's: wall {:.2f}, cpu {:.2f}".format(*ratios)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=7, help="calls of each side")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="networks to measure")
    parser.add_argument("--quick", action="store_true", help="two turns of a small network")
    options = parser.parse_args()
    out = record.out_file("compaction-quick" if options.quick else "compaction")
    cases = QUICK if options.quick else {name: CASES[name] for name in options.only}
    rows = {}
    # First: with millions of objects in the process its collector takes longer.
    turns, analysed, side = (1, "resnet20", 8) if options.quick else (3, "resnet50", 224)
    rows[f"analysis of {analysed}"] = times = analysis(turns, analysed, side)
    beyond = times["beyond tracing"]
    print(
        f"analysis of {analysed} beyond its tracing: {beyond['wall']:.2f} s wall, {beyond['cpu']:.2f} s of processors "
        f"({'met' if beyond['cpu'] <= ANALYSIS_AIM else 'MISSED'}: {ANALYSIS_AIM} s)"
    )
    for name, case in cases.items():
        rows[name] = measure(case, 2 if options.quick else options.turns)
        show(name, rows[name])
        jax.clear_caches()
    record.write(out, rows)


if __name__ == "__main__":
    main()
