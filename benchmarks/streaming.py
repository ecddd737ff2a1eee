"""Times training on a prepared set whose images stay on disk against training in memory, and takes the memory of both.

    python benchmarks/streaming.py FOLDER_OF_PREPARED_SETS [NAME] [--image-size 64] [--epochs 2]

Prints a table and writes benchmarks/results/streaming.json. Each side is a process of its own (peak memory is that
of the whole process); the sides alternate, and each figure is the best of all repeats. The epoch that compiles is
left out.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import record

BATCH = 128
MODELS = {"mlp": {"hidden": (64,)}, "convnet": {"channels": (8, 16), "hidden": (32,)}}


def side(options: argparse.Namespace) -> dict[str, float]:
    """One process: what training took from its second epoch on."""
    import jax
    import optax

    from jaxprune import data, losses, models, streaming, training

    begun = time.perf_counter()
    kept = {"image_size": options.image_size} if options.image_size else {}
    people = data.load(options.name, directory=options.folder, stream=options.side == "streamed", **kept)
    loaded = time.perf_counter() - begun
    sample = people.train.x[0]
    network = models.build(options.model, sample, people.num_classes, **MODELS[options.model]).after(people.normalise)
    tx = optax.sgd(1e-3)
    step = training.make_step(network, losses.cross_entropy, tx)
    keys = jax.random.split(jax.random.key(0), options.replicas)
    params, stats = jax.vmap(network.init)(keys)
    state = jax.vmap(lambda p, s: training.init_state(p, tx, s))(params, stats)
    steps = training.num_steps(people.train, BATCH)
    common = {"key": keys, "batch_size": BATCH}
    if options.side == "streamed":
        state, _ = streaming.fit(step, state, people.train, epochs=1, **common)
        begun = time.perf_counter()
        streaming.fit(step, state, people.train, epochs=1 + options.epochs, start=steps, **common)
    else:
        train = jax.device_put(people.train)
        state, _ = training.fit(step, state, train, epochs=1, **common)
        begun = time.perf_counter()
        training.fit(step, state, train, epochs=1 + options.epochs, start=1, **common)
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"load s": loaded, "steps/s": steps * options.epochs / seconds, "peak GB": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("name", nargs="?", default="utkface")
    parser.add_argument("--image-size", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--side", choices=("in memory", "streamed"))
    parser.add_argument("--model", choices=list(MODELS), default="convnet")
    parser.add_argument("--replicas", type=int, default=1)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(side(options)))
        return
    out, written = record.out_file("streaming"), {}
    for model, replicas in (("mlp", 1), ("mlp", 3), ("convnet", 1)):
        runs: dict[str, list[dict[str, float]]] = {"in memory": [], "streamed": []}
        for _ in range(options.repeats):
            for kind, results in runs.items():
                more = ["--side", kind, "--model", model, "--replicas", str(replicas)]
                done = subprocess.run([sys.executable, *sys.argv, *more], capture_output=True, text=True, check=True)
                results.append(json.loads(done.stdout.splitlines()[-1]))
        best = {"load s": min, "steps/s": max, "peak GB": min}
        name = f"{model}, {replicas} replica{'s' * (replicas > 1)}"
        for kind, rs in runs.items():
            figures = {k: f(r[k] for r in rs) for k, f in best.items()}
            print(f"{name:22}{kind:12}" + "".join(f"{k} {v:8.2f}   " for k, v in figures.items()), flush=True)
        written[name] = {kind: {k: record.spread([r[k] for r in rs]) for k in best} for kind, rs in runs.items()}
    record.write(out, written)


if __name__ == "__main__":
    main()
