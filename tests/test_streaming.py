"""Training and evaluation on inputs that stay on disk: the same batches, the same bits, wherever it is interrupted."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import weakref
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilations import compiles
from locations import SUPPORT

from jaxprune import auditing, config, data, losses, mitigation, streaming, training
from jaxprune.data import streaming as streaming_reader
from jaxprune.data.streaming import Part, blocks, num_blocks, steps_in_block, training_blocks
from jaxprune.errors import TrainingDiverged, UserError
from jaxprune.mitigation.dense import logits_of
from jaxprune.networks import as_network
from jaxprune.pipeline.run import run_plan
from jaxprune.types import Batch, TrainState

pytest.importorskip("grain")


class OnDisk:
    """Stands for images on disk, and notes which of them were read."""

    def __init__(self, x: np.ndarray):
        self.x, self.read = x, []
        self.shape, self.dtype = x.shape, x.dtype

    def __getitem__(self, index):
        self.read.extend(np.asarray(index).tolist())
        return self.x[index]


def examples(n: int = 30) -> Batch:
    rng = np.random.default_rng(0)
    x, weight = rng.integers(0, 256, (n, 4, 4, 1), np.uint8), rng.integers(1, 4, n).astype(np.float32)
    return Batch(x, rng.integers(0, 3, n).astype(np.int32), rng.integers(0, 2, n).astype(np.int32), weight)


def on_disk(batch: Batch) -> Batch:
    return batch._replace(x=OnDisk(batch.x))


def recorder(state: TrainState, batch: Batch):
    return state._replace(step=state.step + 1), batch._asdict()


def seen_in_memory(key, epochs: int, batch_size: int) -> dict[str, np.ndarray]:
    """Every batch that training in memory takes, [steps, B, ...] or [R, steps, B, ...]."""
    state = TrainState(jnp.zeros(key.shape, jnp.int32), (), (), ())
    return training.fit(recorder, state, examples(), key=key, epochs=epochs, batch_size=batch_size)[1]


KEYS = {"one": jax.random.key(3), "three": jax.random.split(jax.random.key(4), 3)}


# --- the batches ---------------------------------------------------------------------------------------------------


def read_steps(source: Batch, key, *, batch_size: int, start: int, stop: int, length: int = 1, **options) -> Batch:
    """Steps `start` to `stop`, read in blocks of `length` that end with the epoch, as [steps, B, ...] of all keys."""
    steps = -(-30 // batch_size)
    stretches = list(streaming._stretches(start, stop, steps, length))
    found = list(training_blocks(source, key, stretches, batch_size=batch_size, **options))
    assert [block.y.shape[key.ndim] for block in found] == [b - a for a, b in stretches]
    return Batch(*(np.concatenate(arrays, axis=key.ndim) for arrays in zip(*found, strict=True)))


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
@pytest.mark.parametrize("batch_size", [7, 10])
@pytest.mark.parametrize(("length", "threads"), [(1, 1), (1, 4), (2, 3), (100, 16)])
def test_the_batches_are_those_of_training_in_memory(key, batch_size, length, threads):
    seen = seen_in_memory(key, 2, batch_size)
    steps = 2 * -(-30 // batch_size)
    found = read_steps(
        on_disk(examples()), key, batch_size=batch_size, start=0, stop=steps, length=length, threads=threads
    )
    for name in Batch._fields:
        mine = getattr(found, name)
        assert mine.dtype == seen[name].dtype
        np.testing.assert_array_equal(mine, seen[name])


@pytest.mark.parametrize("start", [1, 4, 5, 9])
@pytest.mark.parametrize("length", [1, 3])
def test_a_start_anywhere_goes_on_with_the_same_batches(start, length):
    whole = read_steps(on_disk(examples()), KEYS["one"], batch_size=7, start=0, stop=10)
    late = read_steps(on_disk(examples()), KEYS["one"], batch_size=7, start=start, stop=10, length=length)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[start:]), late, whole)


def test_each_host_reads_its_rows_and_no_others():
    key = KEYS["three"]
    steps = {"batch_size": 6, "start": 2, "stop": 4}
    whole = read_steps(on_disk(examples()), key, **steps)
    numbers = examples()._replace(x=np.arange(30, dtype=np.uint8)[:, None])
    order = read_steps(on_disk(numbers), key, **steps).x[..., 0]
    for replicas, rows in ((slice(0, 3), slice(0, 2)), (slice(1, 2), slice(2, 6))):
        source = on_disk(examples())
        part = read_steps(source, key, **steps, length=2, part=Part(replicas, rows))
        jax.tree.map(
            lambda a, b, at=(replicas, slice(None), rows): np.testing.assert_array_equal(a, b[at]), part, whole
        )
        assert sorted(source.x.read) == sorted(order[replicas, :, rows].ravel().tolist())


class Slow(OnDisk):
    """Takes its time to read, and notes how many read at once."""

    def __init__(self, x: np.ndarray):
        super().__init__(x)
        self.lock, self.reading, self.most = threading.Lock(), 0, 0

    def __getitem__(self, index):
        with self.lock:
            self.reading += 1
            self.most = max(self.most, self.reading)
        time.sleep(0.01)
        with self.lock:
            self.reading -= 1
            return super().__getitem__(index)


@pytest.mark.parametrize("threads", [1, 4, 7])
def test_reading_threads(threads):
    """As many threads read as were asked for even where a block is one step."""
    source = examples()._replace(x=Slow(examples().x))
    read_steps(source, KEYS["one"], batch_size=7, start=0, stop=5, threads=threads)
    assert source.x.most == threads
    source = examples()._replace(x=Slow(examples().x))
    assert len(list(blocks(source, block_bytes=16 * 10, threads=threads))) == 3
    assert source.x.most == threads


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("steps", [1, 2])
def test_three_blocks_are_held_at_most(steps, threads):
    """When a block is done, the next one is on the device and one more has been read, however long one waits."""
    source, told = on_disk(examples(70)), []
    state = jax.tree.map(jnp.asarray, begin(KEYS["one"]))

    def wait(done, state, logs):
        time.sleep(0.1)
        told.append((done, len(source.x.read)))

    streaming.fit(
        STEP, state, source, key=KEYS["one"], epochs=2, batch_size=7, block_bytes=16 * 7 * steps, on_block=wait,
        threads=threads,
    )  # fmt: skip
    assert [done for done, _ in told] == list(range(steps, 21, steps))
    for done, read in told:
        assert 7 * min(done + steps, 20) <= read <= 7 * min(done + 2 * steps, 20)
    # Whole pieces are read ahead, of which there are at least four in a block.
    assert told[0][1] > 7 * (2 * steps) + 7 * steps / 2, "something was read ahead"


def test_blocks_that_were_used_are_let_go():
    made = []
    put_together = streaming_reader._put_together

    def watched(*arguments):
        block = put_together(*arguments)
        made.append(weakref.ref(block.x.base))
        return block

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming_reader, "_put_together", watched)
        alive = []
        for _ in training_blocks(on_disk(examples()), KEYS["one"], [(i, i + 1) for i in range(10)], batch_size=7):
            alive.append(sum(block() is not None for block in made))
    assert alive == [1] * 10, "the one in hand"


@pytest.mark.parametrize(("budget", "expected"), [(1, 1), (16 * 7 * 2, 2), (16 * 7 * 4, 3), (1 << 20, 5)])
def test_blocks_are_as_long_as_fits_and_alike(budget, expected):
    # Five steps of 7 examples of 16 bytes; of four fitting, blocks of 3 and 2 rather than 4 and 1.
    assert steps_in_block(examples(), 7, 1, budget) == expected
    assert steps_in_block(examples(), 7, 3, 3 * budget) == expected


@pytest.mark.parametrize("size", [1, 4, 7, 30, 100])
def test_blocks_hold_every_example_once_and_in_order(size):
    batch = examples()
    found = list(blocks(on_disk(batch), block_bytes=16 * size))
    assert len(found) == num_blocks(batch, 16 * size) == -(-30 // size)
    assert len({block.y.shape for block in found}) == 1, "a block of another length is compiled anew"
    whole = Batch(*(np.concatenate(arrays) for arrays in zip(*found, strict=True)))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[:30], b), whole, batch)
    assert (whole.weight[30:] == 0).all()


# --- training ------------------------------------------------------------------------------------------------------


def two_layers(params, x):
    return jnp.tanh(x.reshape(x.shape[0], -1) @ params["first"]) @ params["last"]


NETWORK = as_network(two_layers).after(data.Normalise((120.0,), (70.0,)))
TX = optax.adam(0.01)
STEP = training.make_step(NETWORK, losses.cross_entropy, TX)
AUGMENT = data.chain(data.random_crop(1, 120.0), data.horizontal_flip())


def parameters(shape=()):
    rng = np.random.default_rng(1)
    return {
        "first": jnp.asarray(rng.normal(size=(*shape, 16, 5)), jnp.float32),
        "last": jnp.asarray(rng.normal(size=(*shape, 5, 3)), jnp.float32),
    }


def begin(key):
    init = lambda params: training.init_state(params, TX)  # noqa: E731
    return jax.vmap(init)(parameters(key.shape)) if key.ndim else init(parameters())


def streamed(key, *, state=None, step=STEP, **options):
    state = begin(key) if state is None else state
    return streaming.fit(step, state, on_disk(examples()), key=key, epochs=3, batch_size=7, **options)


@pytest.mark.parametrize("augment", [None, AUGMENT], ids=["plain", "augmented"])
@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_training_ends_with_the_bits_of_training_in_memory(key, augment):
    memory = training.fit(STEP, begin(key), examples(), key=key, epochs=3, batch_size=7, augment=augment)
    for steps in (1, 2, 100):
        budget = 16 * 7 * max(1, key.size) * steps
        found = streamed(key, augment=augment, block_bytes=budget, threads=3)
        jax.tree.map(np.testing.assert_array_equal, found, memory)


def test_memory_map(tmp_path):
    """A memory map trains and is evaluated as what is in memory.

    As the manual says of a file of your own.
    """
    np.save(tmp_path / "x.npy", examples().x)
    mapped = examples()._replace(x=np.load(tmp_path / "x.npy", mmap_mode="r"))
    assert isinstance(mapped.x, np.memmap)
    memory = training.fit(STEP, begin(KEYS["one"]), examples(), key=KEYS["one"], epochs=3, batch_size=7)
    found = streaming.fit(STEP, begin(KEYS["one"]), mapped, key=KEYS["one"], epochs=3, batch_size=7)
    jax.tree.map(np.testing.assert_array_equal, found, memory)
    both = [
        streaming.evaluate(two_layers, found[0].params, batch, num_groups=2) for batch in (mapped, on_disk(examples()))
    ]
    jax.tree.map(np.testing.assert_array_equal, *both)


@pytest.mark.parametrize("start", [2, 5, 9, 14])
def test_a_training_resumed_at_any_step_ends_with_the_same_bits(start):
    key, kept = KEYS["three"], {}

    def keep(done, state, logs):
        kept[done] = jax.tree.map(np.array, state)

    whole, logs = streamed(key, augment=AUGMENT, block_bytes=1, on_block=keep)
    assert sorted(kept) == list(range(1, 16))
    state = jax.tree.map(jnp.asarray, kept[start])
    resumed, late = streamed(key, augment=AUGMENT, block_bytes=16 * 7 * 3 * 2, state=state, start=start)
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
    np.testing.assert_array_equal(late["loss"], logs["loss"][:, start:])


def test_blocks_end_with_the_epoch():
    told = []
    streamed(KEYS["one"], block_bytes=16 * 7 * 3, on_block=lambda done, state, logs: told.append(done))
    assert told == [3, 5, 8, 10, 13, 15]
    told.clear()
    streamed(KEYS["one"], block_bytes=16 * 7 * 3, start=4, on_block=lambda done, state, logs: told.append(done))
    assert told == [5, 8, 10, 13, 15]


def test_a_second_training_compiles_nothing():
    streamed(KEYS["one"], block_bytes=16 * 7 * 3)
    with compiles(0, of="block"):
        final, _ = streamed(jax.random.key(9), block_bytes=16 * 7 * 3)
        streamed(KEYS["one"], block_bytes=16 * 7 * 3, state=final, start=10)


def test_what_the_caller_holds_is_left_intact():
    state = begin(KEYS["one"])
    before = jax.tree.map(np.array, state)
    streamed(KEYS["one"], state=state)
    jax.tree.map(np.testing.assert_array_equal, state, before)


def test_divergence_tells_the_step_and_reports_no_block_of_it():
    def doomed(state: TrainState, batch: Batch):
        loss = jnp.where(state.step + 1 >= 9, jnp.nan, 1.0)
        return state._replace(step=state.step + 1), {"loss": loss}

    told = []
    state = TrainState(jnp.int32(0), (), (), ())
    with pytest.raises(TrainingDiverged) as error:
        streamed(
            KEYS["one"], state=state, step=doomed, block_bytes=16 * 7 * 2,
            on_block=lambda done, state, logs: told.append(done),
        )  # fmt: skip
    assert error.value.step == 9
    assert told == [2, 4, 5, 7]  # steps 8 and 9 are the next block


def test_no_epochs_read_nothing():
    source = on_disk(examples())
    state, logs = streaming.fit(STEP, begin(KEYS["one"]), source, key=KEYS["one"], epochs=0, batch_size=7)
    assert (int(state.step), logs, source.x.read) == (0, {}, [])


def test_without_grain_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(UserError, match=r"data\.stream: grain is missing; install it with: pip install .jaxprune\["):
        streamed(KEYS["one"])


def test_data_with_more_than_examples_is_refused():
    with pytest.raises(UserError, match="data: a SimpleNamespace cannot be streamed; give a Batch"):
        streaming.fit(
            STEP, begin(KEYS["one"]), SimpleNamespace(**examples()._asdict()), key=KEYS["one"], epochs=1, batch_size=7
        )


# --- methods of retraining ------------------------------------------------------------------------------------------

# Outputs by row, held-out examples with a buffer, both, balanced batches, group DRO, and a buffer.
RETRAINED = ("distilled", "equal_loss_held_out", "ceag_held_out", "balanced", "group_dro", "equal_loss_buffer")
VALIDATION = jax.tree.map(lambda a: a[7:30], examples(30))  # 23 examples: fewer than are trained on
GROUPS = 2


@pytest.fixture(scope="module")
def method_inputs():
    """The inputs of the methods, of three replicas."""
    apply, dense = NETWORK.freeze(()), parameters((3,))

    def inputs(params, key):
        reference = mitigation.dense_reference(apply, params, examples(), num_groups=GROUPS, held_out=VALIDATION)
        return mitigation.MethodInputs(jnp.array([0.4, 0.6]), jnp.array([0.5, 0.3, 0.2]), reference, key)

    return jax.vmap(inputs)(dense, KEYS["three"])


def retraining(name, inputs):
    """The step of a method, the state of three replicas to begin with, and its data in memory and on disk."""
    method = mitigation.METHODS[name]
    values = {hyper: jnp.float32(tried[-1]) for hyper, tried in method.candidates.items()}

    def transformation(params, inputs):
        return mitigation.method_transformation(method, TX, params, inputs, values)

    first = jax.tree.map(lambda a: a[0], (parameters((3,)), inputs))
    step = mitigation.method_step(method, NETWORK, transformation(*first), num_groups=GROUPS)
    state = jax.vmap(lambda params, inputs: training.init_state(params, transformation(params, inputs)))(
        parameters((3,)), inputs
    )
    both = [mitigation.method_data(method, train, held_out, num_groups=GROUPS) for train, held_out in (
        (examples(), VALIDATION), (on_disk(examples()), on_disk(VALIDATION))
    )]  # fmt: skip
    return step, state, *both


@pytest.mark.parametrize("name", RETRAINED)
def test_methods_end_with_the_bits_of_training_in_memory(name, method_inputs):
    """Parameters, multipliers, buffers and logs; also where the training was interrupted within an epoch."""
    step, state, memory, disk = retraining(name, method_inputs)
    options = {"key": KEYS["three"], "epochs": 3, "batch_size": 7, "augment": AUGMENT}
    expected = training.fit(step, state, memory, **options)
    assert not np.array_equal(expected[0].params["last"], state.params["last"])
    kept, budget = {}, 2 * 3 * 7 * 16 * (1 + ("held_out" in name))  # two steps a block

    def keep(done, state, logs):
        kept[done] = jax.tree.map(jnp.copy, state)

    whole = streaming.fit(step, state, disk, **options, block_bytes=budget, on_block=keep, threads=3)
    jax.tree.map(np.testing.assert_array_equal, whole, expected)
    assert sorted(kept) == [2, 4, 5, 7, 9, 10, 12, 14, 15], "blocks end with the epoch"
    resumed, _ = streaming.fit(step, kept[7], disk, **options, block_bytes=budget, start=7)
    jax.tree.map(np.testing.assert_array_equal, resumed, whole[0])


def log_rows(state, batch):
    """A step that logs what it was given."""
    logs = {name: getattr(batch, name) for name in ("x", "row", "weight")}
    logs |= {f"held_out_{name}": getattr(batch.held_out, name) for name in logs}
    return state._replace(step=state.step + 1), logs


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
@pytest.mark.parametrize("balanced", [False, True])
def test_rows_and_held_out_examples_are_those_of_training_in_memory(key, balanced):
    """The held-out examples are more than those trained on, and of another shape and type."""
    held_out = examples(40)._replace(x=np.random.default_rng(1).normal(size=(40, 2)).astype(np.float32))
    state = TrainState(jnp.zeros(key.shape, jnp.int32), (), (), ())
    options = {"key": key, "epochs": 2, "batch_size": 7}
    source, beside = on_disk(examples()), on_disk(held_out)
    memory, disk = (
        data.indexed_batch(train, held_out=other, balanced=balanced, num_groups=GROUPS)
        for train, other in ((examples(), held_out), (source, beside))
    )
    _, expected = training.fit(log_rows, state, memory, **options)
    _, found = streaming.fit(log_rows, state, disk, **options, block_bytes=500)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    np.testing.assert_array_equal(found["x"], examples().x[found["row"]])
    np.testing.assert_array_equal(found["held_out_x"], held_out.x[found["held_out_row"]])
    padding = found["weight"] == 0
    assert padding.sum() == 2 * 5 * key.size
    np.testing.assert_array_equal(found["held_out_weight"], held_out.weight[found["held_out_row"]])
    assert len(source.x.read) == len(beside.x.read) == 2 * 35 * key.size, "each is read once"


def test_a_host_reads_its_part_of_the_held_out_examples():
    key, part = KEYS["three"], Part(slice(1, 2), slice(2, 6))
    source, beside = on_disk(examples()), on_disk(examples(40))
    blocks_of = lambda train, held_out, part: next(  # noqa: E731
        training_blocks(data.indexed_batch(train, held_out=held_out), key, [(0, 3)], batch_size=6, part=part)
    )
    whole, some = blocks_of(examples(), examples(40), Part()), blocks_of(source, beside, part)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[1:2, :, 2:6]), some, whole)
    for read, batch in ((source.x.read, some), (beside.x.read, some.held_out)):
        assert sorted(read) == sorted(batch.row.ravel().tolist())


def test_blocks_count_the_held_out_examples():
    train = data.indexed_batch(examples(), held_out=examples())
    assert [steps_in_block(train, 7, 1, 16 * 7 * steps) for steps in (1, 2, 4, 100)] == [1, 1, 2, 5]


@pytest.mark.parametrize(("chunk_size", "block_bytes"), [(None, 1), (7, 1), (7, 16 * 15), (12, 1 << 20)])
def test_outputs_are_those_in_memory(chunk_size, block_bytes):
    """Chunks of 7 are cut to five of 6, those of 12 to three of 10; blocks hold whole chunks."""
    batch, params, apply = examples(), parameters(), NETWORK.freeze(())
    found = streaming.logits(apply, params, on_disk(batch), chunk_size=chunk_size, block_bytes=block_bytes)
    np.testing.assert_array_equal(found, logits_of(apply, params, batch, chunk_size or 30))
    expected = np.tanh((batch.x.reshape(30, -1) - 120.0) / 70.0 @ np.asarray(params["first"])) @ params["last"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


# --- evaluation ----------------------------------------------------------------------------------------------------


def by_hand(params, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean loss and accuracy of each group, by numpy in double precision."""
    x = (batch.x.reshape(len(batch.y), -1) - 120.0) / 70.0
    logits = np.tanh(x @ np.asarray(params["first"], float)) @ np.asarray(params["last"], float)
    loss = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(batch.y)), batch.y]
    right = logits.argmax(1) == batch.y
    return tuple(
        np.array([np.average(v[batch.group == a], weights=batch.weight[batch.group == a]) for a in range(2)])
        for v in (loss, right)
    )


@pytest.mark.parametrize("block_bytes", [16, 16 * 7, 1 << 20])
@pytest.mark.parametrize("chunk_size", [None, 4])
def test_evaluation_adds_up_over_blocks(block_bytes, chunk_size):
    batch, params, apply = examples(), parameters(), NETWORK.freeze(())
    found = streaming.evaluate(
        apply, params, on_disk(batch), num_groups=2, block_bytes=block_bytes, chunk_size=chunk_size
    )
    loss, accuracy = by_hand(params, batch)
    np.testing.assert_allclose(found.loss, loss, rtol=1e-5)
    np.testing.assert_allclose(found.accuracy, accuracy, rtol=1e-6)
    np.testing.assert_allclose(found.size, np.bincount(batch.group, batch.weight))
    np.testing.assert_allclose(found.overall_loss, np.average(loss, weights=found.size), rtol=1e-5)


def test_sums_of_parts_are_the_standard_errors_of_the_whole():
    batch, dense, apply = examples(), parameters(), NETWORK.freeze(())
    pruned = jax.tree.map(lambda p: p * (jnp.abs(p) > 0.5), dense)
    some = [jax.tree.map(lambda a, s=s: a[s], batch) for s in (slice(0, 11), slice(11, 30))]
    parts = [auditing.change_sums(*(auditing.outcomes(apply, p, b) for p in (dense, pruned)), b, 2) for b in some]
    whole = auditing.sampling_error(apply, dense, pruned, batch, num_groups=2)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), auditing.sampling_error_of(sum(parts)), whole
    )


# --- several hosts -------------------------------------------------------------------------------------------------

HOST = """
import json, sys
import jax

jax.distributed.initialize(f"localhost:{sys.argv[2]}", 2, int(sys.argv[1]))
sys.path[:0] = sys.argv[3:]
from jaxprune import sharding, streaming, training
from test_streaming import STEP, TX, examples, on_disk, parameters

found = {"processes": jax.process_count()}
for replicas in (1, 2):
    mesh = sharding.make_mesh(replicas)
    keys = jax.random.split(jax.random.key(1), replicas)
    state = jax.device_get(jax.vmap(lambda params: training.init_state(params, TX))(parameters((replicas,))))
    source = on_disk(examples())
    last, logs = streaming.fit(
        STEP, sharding.place(state, mesh, "replica"), source, key=sharding.place(keys, mesh, "replica"), epochs=2,
        batch_size=8, mesh=mesh, block_bytes=300,
    )
    params = sharding.fetch(last.params)["first"].tolist()
    found[replicas] = {"mesh": dict(mesh.shape), "params": params, "loss": logs["loss"].tolist()}
    found[replicas]["read"] = len(source.x.read)
print(json.dumps(found))
"""


@pytest.mark.slow
def test_two_hosts_train_as_one_and_each_reads_its_half():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
        "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
    }
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", HOST, str(rank), port, os.path.dirname(__file__), str(SUPPORT)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        ended = [host.communicate(timeout=240) for host in hosts]
    finally:
        for host in hosts:
            host.kill()
    assert [host.returncode for host in hosts] == [0, 0], ended[0][1][-2000:] + ended[1][1][-2000:]
    one, other = (json.loads(printed.splitlines()[-1]) for printed, _ in ended)
    assert one["processes"] == 2
    for replicas, mesh in (("1", {"replica": 1, "data": 4}), ("2", {"replica": 2, "data": 2})):
        assert one[replicas] == other[replicas]
        assert one[replicas]["mesh"] == mesh
        steps, r = 2 * 4, int(replicas)
        assert one[replicas]["read"] == r * steps * 8 // 2
        keys = jax.random.split(jax.random.key(1), r)
        state = jax.vmap(lambda params: training.init_state(params, TX))(parameters((r,)))
        alone, logs = training.fit(STEP, state, examples(), key=keys, epochs=2, batch_size=8)
        np.testing.assert_allclose(one[replicas]["loss"], logs["loss"], rtol=1e-5)
        np.testing.assert_allclose(one[replicas]["params"], alone.params["first"], rtol=1e-4, atol=1e-6)


# --- as settings ---------------------------------------------------------------------------------------------------


def test_settings_that_cannot_be_streamed_are_errors():
    for until in ("theory", "report"):
        with pytest.raises(UserError, match=r"data\.stream: the theory needs its examples in memory"):
            run_plan(config.load(None, {"data.stream": True}), until)
    run_plan(config.load(None, {"data.stream": True}), "audit")
    with pytest.raises(UserError, match=r"data\.stream: digits has no stream"):
        data.load("digits", stream=True)
