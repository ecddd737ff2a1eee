"""Images that stay bytes until the device has them."""

import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import compiles

from jaxprune import auditing, config, data, losses, models, theory, training
from jaxprune.data.normalisation import centred, image_sums, normalise_with
from jaxprune.networks import as_network
from jaxprune.pipeline.build import resolve
from jaxprune.types import Batch


def pictures(n: int = 40, shape: tuple[int, ...] = (6, 5, 3), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


@pytest.fixture(scope="module")
def own_images(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("own") / "faces.npz"
    np.savez(path, x=pictures(), y=np.arange(40) % 2, town=np.arange(40) // 2 % 2)
    return str(path)


@pytest.mark.parametrize("shape", [(6, 5, 3), (8, 8, 1), (1, 1, 4), (2, 9, 2)])
def test_sums_are_exact(shape) -> None:
    x = pictures(shape=shape)
    whole = x.astype(object)  # Python's integers do not overflow
    np.testing.assert_array_equal(image_sums(x)[:, 0], whole.sum((1, 2)).astype(np.int64))
    np.testing.assert_array_equal(image_sums(x)[:, 1], (whole**2).sum((1, 2)).astype(np.int64))


def test_sums_are_exact_for_images_converted_a_few_at_a_time() -> None:
    x = np.full((3, 1500, 1500, 1), 255, np.uint8)  # more values than are converted at once
    np.testing.assert_array_equal(image_sums(x)[:, 1, 0], [1500 * 1500 * 255**2] * 3)


def test_moments_are_those_of_the_pixels_and_count_repeats() -> None:
    x = pictures()
    index = np.array([0, 3, 3, 3, 7])
    normalise = normalise_with(image_sums(x)[index], 30)
    np.testing.assert_allclose(normalise.shift, x[index].mean((0, 1, 2), dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(normalise.scale, x[index].std((0, 1, 2), dtype=np.float64), rtol=1e-6)
    expected = (x - np.float32(normalise.shift)) / np.float32(normalise.scale)
    np.testing.assert_allclose(normalise(x), expected, rtol=1e-6, atol=1e-7)


def test_a_channel_that_never_changes_is_not_divided_by_zero() -> None:
    x = pictures()
    x[..., 1] = 200
    normalised = np.asarray(normalise_with(image_sums(x), 30)(x))
    np.testing.assert_array_equal(normalised[..., 1], 0)
    assert np.isfinite(normalised).all()


def test_bytes_of_an_npz_file_stay_bytes_and_are_normalised_by_the_training_split(own_images) -> None:
    dataset = data.load(own_images)
    assert {dataset.split(split).x.dtype for split in data.SPLITS} == {np.dtype(np.uint8)}
    train = np.asarray(dataset.normalise(dataset.train.x), np.float64)
    np.testing.assert_allclose(train.mean((0, 1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(train.std((0, 1, 2)), 1, atol=1e-6)
    raw = np.concatenate([dataset.split(split).x for split in data.SPLITS])
    assert {image.tobytes() for image in raw} == {image.tobytes() for image in pictures()}


def test_moments_are_taken_without_a_float_copy_of_everything() -> None:
    x = pictures(2000, (64, 64, 3))
    tracemalloc.start()
    image_sums(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * x.nbytes  # a float64 copy takes 8 times as much


def test_the_fingerprint_tells_normalisations_apart(people) -> None:
    import dataclasses

    one, other = data.Normalise((0.0,), (1.0,)), data.Normalise((1.0,), (1.0,))
    prints = {dataclasses.replace(people, normalise=n).fingerprint() for n in (one, other)}
    assert len(prints | {people.fingerprint()}) == 3


def linear(params, x):
    return x.reshape(x.shape[0], -1) @ params


def test_everything_sees_through_bytes_what_it_sees_in_normalised_floats(own_images) -> None:
    """Training, audit and theory on bytes behind `after` give what they give on floats normalised beforehand."""
    dataset = data.load(own_images)
    plain = as_network(linear)
    behind = plain.after(dataset.normalise)
    floats = dataset.train._replace(x=np.asarray(dataset.normalise(dataset.train.x)))
    params = jnp.asarray(np.random.default_rng(1).normal(size=(90, 2)), jnp.float32) / 10

    def results(network, batch: Batch):
        import optax

        tx = optax.sgd(0.1)
        step = training.make_step(network, losses.cross_entropy, tx)
        state, logs = training.fit(
            step, training.init_state(params, tx), batch, key=jax.random.key(0), epochs=2, batch_size=7
        )
        apply = network.freeze(())
        return (
            state.params,
            logs["loss"],
            auditing.evaluate(apply, params, batch, num_groups=2),
            theory.group_gradients(apply, params, batch, num_groups=2),
            theory.boundary_distance(apply, params, batch, num_groups=2),
            theory.taylor(apply, params, params / 2, batch, num_groups=2),
            theory.group_top_eigenvalues(apply, params, batch, num_groups=2, key=jax.random.key(0)).value,
        )

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5),
        results(behind, dataset.train),
        results(plain, floats),
    )


def test_a_gradient_with_respect_to_float_inputs_is_that_of_the_formula() -> None:
    normalise = data.Normalise((1.0, 2.0, 3.0), (2.0, 4.0, 8.0))
    apply = as_network(lambda params, x: x.reshape(x.shape[0], -1) @ params).after(normalise).freeze(())
    x = jnp.asarray(pictures(2, (2, 2, 3)), jnp.float32)
    params = jnp.asarray(np.random.default_rng(1).normal(size=(12, 2)), jnp.float32)
    gradient = jax.grad(lambda x: jnp.sum(apply(params, x)))(x)
    expected = np.tile(np.asarray(params).sum(1).reshape(2, 2, 3) / np.array([2.0, 4.0, 8.0]), (2, 1, 1, 1))
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_doubles_stay_doubles() -> None:
    assert data.Normalise((1.0,), (2.0,))(np.ones((1, 2, 2, 1))).dtype == np.float64


def test_equal_normalisations_compile_once() -> None:
    compiled = jax.jit(lambda network, params, x: network.apply(params, (), x, False)[0], static_argnums=0)
    network, x, params = as_network(linear), pictures(3), jnp.ones((90, 2))
    with compiles(1):
        for _ in range(2):
            compiled(network.after(data.Normalise((1.0,) * 3, (2.0,) * 3)), params, x)


def test_the_pipeline_puts_the_normalisation_before_the_network() -> None:
    experiment = resolve(config.load(None, {"data.name": "digits", "model.hidden": (4,), "seeds": 1}))
    digits = experiment.dataset
    bare = models.build("mlp", digits.train.x[0], 10, hidden=(4,))
    params, stats = jax.tree.map(lambda leaf: leaf[0], experiment.initialise())
    found = experiment.network.freeze(stats)(params, digits.test.x[:5])
    expected = bare.freeze(stats)(params, np.asarray(digits.normalise(digits.test.x[:5])))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert {experiment.on_device(split).x.dtype for split in data.SPLITS} == {np.dtype(np.uint8)}


@pytest.mark.parametrize("kind", [np.float64, np.int64, np.int32])
def test_rows_keep_a_small_signal_on_a_large_offset(tmp_path, kind):
    """Seconds since 1970 have steps of 128 as float32."""
    rng = np.random.default_rng(0)
    signal = rng.permutation(200)
    x = np.stack([1_700_000_000 + signal, signal], axis=1).astype(kind)
    np.savez(tmp_path / "rows.npz", x=x, y=np.arange(200) % 2)
    dataset = data.load(str(tmp_path / "rows.npz"))
    for split in data.SPLITS:
        inputs = dataset.split(split).x
        assert inputs.dtype == np.float32
        np.testing.assert_allclose(inputs[:, 0], inputs[:, 1], atol=1e-5)
    np.testing.assert_allclose(dataset.train.x.std(0), 1, atol=1e-5)
    np.testing.assert_allclose(dataset.train.x.mean(0), 0, atol=1e-5)


def test_centred_rows_keep_the_range_of_float32_and_what_is_no_number():
    wide = np.array([[1e300, 1e-300, 5, np.nan, np.inf], [3e300, 2e-300, 7, 1, 1], [2e300, 4e-300, 6, 3, 2]])
    found = centred(wide)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:, 2], [-1, 1, 0])
    np.testing.assert_allclose(found[:, 0] / found[1, 0], [-1, 1, 0])
    np.testing.assert_allclose(found[:, 1] / found[2, 1], [-0.5, 0, 1], rtol=1e-6)
    np.testing.assert_array_equal(found[:, 3], [np.nan, -1, 1])
    assert np.isinf(found[0, 4])
    single = np.array([[0.1, 1e6 + 0.125]], np.float32)
    np.testing.assert_array_equal(centred(single), single)
