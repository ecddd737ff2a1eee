"""Times a Lagrangian step and every method against a plain step, and R replicas against one, in compiled epochs.

    python benchmarks/training_step.py

Prints a table and writes benchmarks/results/training_step.json. Both sides alternate in one process; each figure is the
minimum of nine epochs, compilation left out.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import record

from jaxprune import data, losses, mitigation, models, training

EPOCHS = 9


def state_of(network, tx, keys):
    params, stats = jax.vmap(network.init)(keys)
    return jax.vmap(lambda p, s: training.init_state(p, tx, s))(params, stats)


def alternating(*runs) -> list[list[float]]:
    """Seconds of several calls of each function, the functions taking turns."""
    for run in runs:
        run()
    times = [[] for _ in runs]
    for _ in range(EPOCHS):
        for run, found in zip(runs, times, strict=True):
            begun = time.perf_counter()
            run()
            found.append(time.perf_counter() - begun)
    return times


def methods(people, network, keys) -> dict[str, dict[str, dict[str, float]]]:
    """An epoch of every method that does not differ by its masks alone, against naive fine-tuning; groups as loaded."""
    params, stats = jax.vmap(network.init)(keys)
    groups, splits = people.num_groups, (people.train, people.validation)

    def surroundings(params, stats):
        shares = [jnp.full(size, 1 / size) for size in (groups, people.num_classes)]
        apply = network.freeze(stats)
        dense = mitigation.dense_reference(apply, params, splits[0], num_groups=groups, held_out=splits[1])
        return mitigation.MethodInputs(*shares, dense, keys[0])

    around = jax.vmap(surroundings)(params, stats)

    def runner(name: str):
        method = mitigation.METHODS[name]
        values = {hyper: jnp.float32(tried[0]) for hyper, tried in method.candidates.items()}

        def transformation(params, around):
            return mitigation.method_transformation(method, optax.adam(1e-3), params, around, values)

        state = jax.vmap(lambda p, s, a: training.init_state(p, transformation(p, a), s))(params, stats, around)
        one = jax.tree.map(lambda leaf: leaf[0], (params, around))
        step = mitigation.method_step(method, network, transformation(*one), num_groups=groups)
        data = mitigation.method_data(method, *splits, num_groups=groups)
        return lambda: training.fit(step, state, data, key=keys, epochs=1, batch_size=256)

    plain, rows = runner("naive"), {}
    for name, method in mitigation.METHODS.items():
        if name == "naive" or method.masks or method.by_validation:
            continue
        seconds = alternating(plain, runner(name))
        rows[f"epoch, {name}"] = {"naive": record.spread(seconds[0]), name: record.spread(seconds[1])}
    return rows


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    out = record.out_file("training_step")
    people = data.load("adult")
    network = models.build("mlp", people.train.x[0], people.num_classes)
    keys = jax.random.split(jax.random.key(0), 5)
    rows = {}
    for num_groups in (2, 5, 10, 100):
        group = (np.arange(len(people.train.y)) % num_groups).astype(np.int32)
        train = people.train._replace(group=group)
        plain = optax.adam(1e-3)
        fair = mitigation.lagrangian(optax.adam(1e-3), mitigation.equal_loss(num_groups), optax.sgd(1e-3))
        sides = (
            (training.make_step(network, losses.cross_entropy, plain), state_of(network, plain, keys)),
            (mitigation.make_lagrangian_step(network, losses.cross_entropy, fair), state_of(network, fair, keys)),
        )
        runs = [
            lambda step=step, state=state, train=train: training.fit(
                step, state, train, key=keys, epochs=1, batch_size=256
            )
            for step, state in sides
        ]
        seconds = alternating(*runs)
        plain_times, fair_times = map(record.spread, seconds)
        rows[f"epoch, 5 replicas, {num_groups} groups"] = {"plain": plain_times, "Lagrangian": fair_times}
    tx = optax.adam(1e-3)
    step = training.make_step(network, losses.cross_entropy, tx)
    five, one = state_of(network, tx, keys), jax.tree.map(lambda leaf: leaf[0], state_of(network, tx, keys))
    together, alone = alternating(
        lambda: training.fit(step, five, people.train, key=keys, epochs=1, batch_size=256),
        lambda: training.fit(step, one, people.train, key=keys[0], epochs=1, batch_size=256),
    )
    rows["epoch, steady state"] = {
        "5 x one replica": record.spread([5 * t for t in alone]),
        "5 replicas": record.spread(together),
    }
    rows |= methods(people, network, keys)
    print(f"{'':36}{'seconds':>22}{'ratio':>10}")
    for name, sides in rows.items():
        (first, a), (second, b) = ((side, times["min"]) for side, times in sides.items())
        print(f"{name:36}{first} {a:.3f}, {second} {b:.3f}{b / a:10.3f}")
    record.write(out, rows)


if __name__ == "__main__":
    main()
