"""Random changes of images against numpy, and how training draws them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import compiles

from jaxprune import config, data, losses, pipeline, training
from jaxprune.errors import UserError
from jaxprune.pipeline.addresses import stage_of
from jaxprune.pipeline.build import resolve
from jaxprune.pipeline.nodes import DENSE
from jaxprune.types import Batch, TrainState


def pictures(n, shape=(5, 4, 3), dtype=np.uint8, seed=0):
    x = np.random.default_rng(seed).integers(0, 256, (n, *shape))
    return x.astype(dtype)


def windows(image, padding, fill):
    """Every window that a crop may cut, by numpy."""
    height, width, channels = image.shape
    padded = np.empty((height + 2 * padding, width + 2 * padding, channels), image.dtype)
    padded[:] = fill
    padded[padding : padding + height, padding : padding + width] = image
    return [
        padded[i : i + height, j : j + width] for i in range(2 * padding + 1) for j in range(2 * padding + 1)
    ]  # fmt: skip


def places(x, cropped, padding, fill):
    """Which window each image became, -1 for none."""
    found = []
    for image, result in zip(x, np.asarray(cropped), strict=True):
        same = [k for k, window in enumerate(windows(image, padding, fill)) if np.array_equal(window, result)]
        found.append(same[0] if same else -1)
    return np.array(found)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(("padding", "fill", "shown"), [(1, 0.0, 0), (3, (10.0, 20.6, 30.4), None), (4, 7.0, 7)])
def test_a_crop_is_a_window_of_the_padded_image(dtype, padding, fill, shown):
    x = pictures(30, dtype=dtype)
    cropped = data.random_crop(padding, fill)(jax.random.key(1), jnp.asarray(x))
    assert cropped.dtype == dtype
    assert cropped.shape == x.shape
    if shown is None:
        shown = np.array([10, 21, 30]) if dtype == np.uint8 else np.float32([10, 20.6, 30.4])
    found = places(x, cropped, padding, shown)
    assert (found >= 0).all()
    assert len(set(found.tolist())) > 3, "all images are shifted alike"


def test_all_places_of_a_crop_are_equally_likely():
    x = pictures(3600, (3, 3, 1))
    counts = np.bincount(places(x, data.random_crop(1)(jax.random.key(0), jnp.asarray(x)), 1, 0), minlength=9)
    np.testing.assert_allclose(counts, 400, atol=5 * np.sqrt(3600 * 8 / 81))


def test_a_flip_mirrors_left_and_right_in_half_of_the_images():
    x = pictures(1000)
    flipped = np.asarray(data.horizontal_flip()(jax.random.key(0), jnp.asarray(x)))
    mirrored = np.array([np.array_equal(a[:, ::-1], b) for a, b in zip(x, flipped, strict=True)])
    same = np.array([np.array_equal(a, b) for a, b in zip(x, flipped, strict=True)])
    assert (mirrored ^ same).all()
    assert abs(mirrored.mean() - 0.5) < 5 * 0.5 / np.sqrt(1000)


def test_a_chain_applies_all_with_randomness_of_their_own():
    x = pictures(400)
    result = np.asarray(data.chain(data.random_crop(1), data.horizontal_flip())(jax.random.key(0), jnp.asarray(x)))
    straight = places(x, result, 1, 0)
    mirrored = places(x, result[:, :, ::-1], 1, 0)
    assert ((straight >= 0) ^ (mirrored >= 0)).all()
    for found in (straight, mirrored):  # every place occurs with and without the flip
        assert set(found[found >= 0].tolist()) == set(range(9))
    twice = data.chain(data.horizontal_flip(), data.horizontal_flip())(jax.random.key(0), jnp.asarray(x))
    assert not np.array_equal(twice, x), "both flips drew the same"


@pytest.mark.parametrize("augment", [data.random_crop(2), data.horizontal_flip()])
def test_padding_of_the_batch_does_not_reach_the_other_examples(augment):
    x = pictures(8)
    other = np.concatenate([x[:5], pictures(3, seed=1)])
    key = jax.random.key(4)
    np.testing.assert_array_equal(augment(key, jnp.asarray(x))[:5], augment(key, jnp.asarray(other))[:5])


def test_a_crop_without_padding_is_refused():
    with pytest.raises(ValueError, match="padding is 0"):
        data.random_crop(0)


# --- in training ---------------------------------------------------------------------------------------------------

AUGMENT = data.chain(data.random_crop(1), data.horizontal_flip())


def recorder(state: TrainState, batch: Batch):
    """A step that logs what it is given."""
    return state._replace(step=state.step + 1), {"x": batch.x, "y": jnp.where(batch.weight > 0, batch.y, -1)}


def record(key, epochs, *, augment=AUGMENT, **options):
    n = 10
    images = Batch(pictures(n), np.arange(n), np.zeros(n, int), np.ones(n, np.float32))
    state = TrainState(jnp.zeros(key.shape, jnp.int32), (), (), ())
    return training.fit(recorder, state, images, key=key, epochs=epochs, batch_size=4, augment=augment, **options)[1]


def test_training_sees_augmented_images_in_the_same_order():
    plain, changed = record(jax.random.key(0), 3, augment=None), record(jax.random.key(0), 3)
    np.testing.assert_array_equal(changed["y"], plain["y"])
    x = pictures(10)
    np.testing.assert_array_equal(plain["x"][plain["y"] >= 0], x[plain["y"][plain["y"] >= 0]])
    seen = {}
    for image, label in zip(changed["x"][changed["y"] >= 0], changed["y"][changed["y"] >= 0], strict=True):
        own = [w for window in windows(x[label], 1, 0) for w in (window, window[:, ::-1])]
        assert any(np.array_equal(image, w) for w in own)
        seen.setdefault(int(label), set()).add(image.tobytes())
    assert sum(len(images) > 1 for images in seen.values()) > 5, "every epoch augments alike"


def test_augmentation_goes_on_with_the_same_bits():
    whole, late = record(jax.random.key(0), 4), record(jax.random.key(0), 4, start=2)
    np.testing.assert_array_equal(late["x"], whole["x"][6:])


def test_every_replica_augments_by_itself_as_if_alone():
    keys = jax.random.split(jax.random.key(5), 3)
    together = record(keys, 2)
    for r in range(3):
        np.testing.assert_array_equal(together["x"][r], record(keys[r], 2)["x"])
    assert not np.array_equal(together["x"][0], together["x"][1])


def test_equal_augmentations_compile_once():
    record(jax.random.key(0), 1)
    with compiles(0, of="epoch"):
        record(jax.random.key(1), 3, augment=data.chain(data.random_crop(1), data.horizontal_flip()))


# --- as settings ---------------------------------------------------------------------------------------------------

SMALL = {"data.name": "digits", "model.hidden": (4,), "seeds": 2, "train.epochs": 1, "prune.sparsities": (0.5,)}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"data.name": "adult", "train.flip": True}, "train.flip: the inputs of adult are rows of numbers"),
        ({"data.name": "adult", "train.crop": 2}, "train.crop: the inputs of adult are rows of numbers"),
        ({"data.name": "digits", "train.crop": 8}, "train.crop: 8 pixels would shift images of 8x8 out of view"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_errors(settings, said):
    with pytest.raises(UserError, match=said):
        resolve(config.load(None, settings))


def test_nothing_is_augmented_unless_asked():
    assert resolve(config.load(None, SMALL)).augment is None


def test_the_settings_become_a_crop_filled_with_the_mean_and_a_flip():
    experiment = resolve(config.load(None, SMALL | {"train.crop": 2, "train.flip": True}))
    mean = experiment.dataset.train.x.mean()
    x = np.full((50, 8, 8, 1), 200, np.uint8)
    changed = np.asarray(experiment.augment(jax.random.key(0), jnp.asarray(x)))
    assert set(np.unique(changed).tolist()) == {200, round(mean)}
    assert resolve(config.load(None, SMALL | {"train.flip": True})).augment == data.chain(data.horizontal_flip())


@pytest.mark.slow
def test_a_run_trains_on_augmented_images_in_stages_of_its_own(tmp_path):
    settings = config.load(None, SMALL | {"train.crop": 1, "seeds": 1})
    experiment = resolve(settings)
    plain = resolve(config.load(None, SMALL | {"seeds": 1}))
    stages = [stage_of(e, DENSE).address for e in (experiment, plain)]
    assert stages[0] != stages[1]
    made = pipeline.run(settings, tmp_path / "run", until="train").made["dense"]
    params, stats = experiment.initialise()

    def init(params, stats, masks):
        return training.init_state(params, experiment.primal(experiment.span("dense"), masks), stats)

    state = jax.vmap(init)(params, stats, experiment.all_kept(params))
    options = {"key": experiment.shuffle_keys["dense"], "epochs": 1, "batch_size": 256}
    crop = data.chain(data.random_crop(1, experiment.dataset.normalise.shift))
    step = training.make_step(
        experiment.network, losses.cross_entropy, experiment.primal(experiment.span("dense"), None)
    )
    by_hand, without = (
        training.fit(step, state, experiment.train_data, augment=augment, **options)[1]["loss"]
        for augment in (crop, None)
    )
    logged = np.load(made / "logs.npz")["loss"]
    np.testing.assert_allclose(logged, by_hand, rtol=1e-6)
    assert not np.allclose(logged, without, rtol=1e-3)
