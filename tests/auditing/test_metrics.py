"""Who is hurt: metrics, impact, intervals and sampling errors, against numpy, scipy and fairlearn."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import compiles
from scipy import stats
from scipy.special import log_softmax

from jaxprune.auditing import MINIMUM_SEEDS, GroupMetrics, evaluate, impact, mean_interval, sampling_error
from jaxprune.networks import Network
from jaxprune.types import Batch

G = 4


def linear(params, x):
    return x @ params["w"] + params["b"]


def weights(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return {"w": scale * rng.normal(size=(4, 3)).astype(np.float32), "b": rng.normal(size=3).astype(np.float32)}


def examples(n=23, *, seed=0, weighted=False, groups=(0, 1, 3)):
    """Examples in all groups but group 2, of unlike sizes, in a random order."""
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.resize(np.repeat(groups, (5, 2, 1)), n)).astype(np.int32)
    weight = rng.uniform(0.5, 2.0, n) if weighted else np.ones(n)
    x, y = rng.normal(size=(n, 4)).astype(np.float32), rng.integers(0, 3, n).astype(np.int32)
    return Batch(x, y, group, weight.astype(np.float32))


def losses_and_hits(params, batch):
    logits = np.asarray(batch.x, float) @ params["w"] + params["b"]
    return -log_softmax(logits, 1)[np.arange(len(batch.y)), batch.y], np.argmax(logits, 1) == batch.y


def pad(batch, extra, x=0.0, seed=5):
    """`extra` more examples of weight 0 in every group, label and place."""
    rng = np.random.default_rng(seed)
    more = Batch(
        np.full((extra, 4), x, np.float32),
        rng.integers(0, 3, extra).astype(np.int32),
        rng.integers(0, G, extra).astype(np.int32),
        np.zeros(extra, np.float32),
    )
    order = rng.permutation(len(batch.y) + extra)
    return Batch(*(np.concatenate(pair)[order] for pair in zip(batch, more, strict=True)))


def assert_same(a, b, **tolerance):
    for field, left, right in zip(a._fields, a, b, strict=True):
        np.testing.assert_allclose(left, right, err_msg=field, **tolerance)


# --- evaluate ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_evaluate_is_numpys_weighted_average_of_each_group(weighted):
    params, batch = weights(1), examples(weighted=weighted)
    found = evaluate(linear, params, batch, num_groups=G)
    losses, hits = losses_and_hits(params, batch)
    for a in range(G):
        of = batch.group == a
        if a == 2:
            assert found.size[a] == 0
            assert np.isnan(found.loss[a])
            assert np.isnan(found.accuracy[a])
        else:
            np.testing.assert_allclose(found.size[a], batch.weight[of].sum(), rtol=1e-6)
            np.testing.assert_allclose(found.loss[a], np.average(losses[of], weights=batch.weight[of]), rtol=1e-5)
            np.testing.assert_allclose(found.accuracy[a], np.average(hits[of], weights=batch.weight[of]), rtol=1e-6)
    np.testing.assert_allclose(found.overall_loss, np.average(losses, weights=batch.weight), rtol=1e-5)
    np.testing.assert_allclose(found.overall_accuracy, np.average(hits, weights=batch.weight), rtol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_evaluate_agrees_with_fairlearn(weighted):
    fairlearn = pytest.importorskip("fairlearn.metrics")
    metrics = pytest.importorskip("sklearn.metrics")
    params, batch = weights(2), examples(40, weighted=weighted)
    predictions = np.argmax(linear(params, batch.x), 1)
    frame = fairlearn.MetricFrame(
        metrics=metrics.accuracy_score,
        y_true=batch.y,
        y_pred=predictions,
        sensitive_features=batch.group,
        sample_params={"sample_weight": batch.weight},
    )
    found = evaluate(linear, params, batch, num_groups=G)
    np.testing.assert_allclose(found.accuracy[frame.by_group.index.to_numpy()], frame.by_group.to_numpy(), rtol=1e-6)
    np.testing.assert_allclose(found.overall_accuracy, frame.overall, rtol=1e-6)
    np.testing.assert_allclose(found.accuracy_spread, frame.difference(), rtol=1e-6)
    assert found.worst_group == frame.by_group.idxmin()


@pytest.mark.parametrize("chunk_size", [1, 2, 7, 22, 1000])  # 23 is prime, so that all but the last two are ragged
def test_the_chunk_size_does_not_change_the_result(chunk_size):
    params, batch = weights(1), examples(weighted=True)
    whole = evaluate(linear, params, batch, num_groups=G, chunk_size=23)
    assert_same(evaluate(linear, params, batch, num_groups=G, chunk_size=chunk_size), whole, rtol=2e-6)


@pytest.mark.parametrize("x", [0.0, np.nan])
def test_padding_changes_nothing(x):
    params, batch = weights(1), examples(weighted=True)
    padded = pad(batch, len(batch.y), x)
    found = evaluate(linear, params, padded, num_groups=G, chunk_size=10)
    assert_same(found, evaluate(linear, params, batch, num_groups=G, chunk_size=10), rtol=2e-6)


def test_the_order_of_the_examples_does_not_matter():
    params, batch = weights(1), examples(weighted=True)
    order = np.random.default_rng(8).permutation(len(batch.y))
    shuffled = evaluate(linear, params, Batch(*(a[order] for a in batch)), num_groups=G)
    assert_same(shuffled, evaluate(linear, params, batch, num_groups=G), rtol=2e-6)


def test_an_example_of_weight_two_counts_as_two():
    params, batch = weights(1), examples()
    heavy = batch._replace(weight=np.where(np.arange(23) == 4, 2, 1).astype(np.float32))
    twice = Batch(*(np.concatenate([a, a[4:5]]) for a in batch))
    assert_same(evaluate(linear, params, heavy, num_groups=G), evaluate(linear, params, twice, num_groups=G), rtol=2e-6)


def test_one_persons_nan_stays_in_their_group():
    batch = examples()
    at = int(np.flatnonzero(batch.group == 1)[0])
    batch.x[at] = np.nan
    found = evaluate(linear, weights(1), batch, num_groups=G)
    np.testing.assert_array_equal(np.isnan(found.loss), [False, True, True, False])  # group 2 is absent
    assert np.isnan(found.overall_loss)  # and is not hidden from the whole


def test_evaluate_takes_any_loss_per_example():
    params, batch = weights(1), examples()

    def squared(logits, y):
        return (logits[:, 0] - y) ** 2

    found = evaluate(linear, params, batch, num_groups=G, loss=squared)
    residual = (batch.x @ params["w"] + params["b"])[:, 0] - batch.y
    np.testing.assert_allclose(found.loss[0], np.mean(residual[batch.group == 0] ** 2), rtol=1e-5)


def test_other_parameters_and_statistics_are_not_compiled_again():
    network = Network(None, lambda params, stats, x, train: (linear(params, x - stats["mean"]), stats))
    batch = examples()
    first, second = ({"mean": np.full(4, m, np.float32)} for m in (0.0, 1.0))
    one = evaluate(network.freeze(first), weights(1), batch, num_groups=G)
    with compiles(0):
        two = evaluate(network.freeze(second), weights(2), batch, num_groups=G)
    shifted = batch._replace(x=batch.x - 1)
    assert_same(two, evaluate(linear, weights(2), shifted, num_groups=G), rtol=1e-5)
    assert not np.allclose(one.overall_loss, two.overall_loss)  # the second call did not read the first's arrays


def test_replicas_are_evaluated_under_vmap():
    batch = examples(weighted=True)
    each = [weights(seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *each)
    found = jax.tree.map(np.asarray, jax.vmap(lambda p: evaluate(linear, p, batch, num_groups=G))(stacked))
    assert found.loss.shape == (3, G)
    assert found.overall_loss.shape == (3,)
    for r, params in enumerate(each):
        alone = evaluate(linear, params, batch, num_groups=G)
        assert_same(jax.tree.map(lambda leaf, r=r: leaf[r], found), alone, rtol=2e-6)
    np.testing.assert_allclose(
        found.accuracy_spread, np.nanmax(found.accuracy, 1) - np.nanmin(found.accuracy, 1), rtol=1e-6
    )


def metrics_of(accuracy, loss=0.0, size=1.0, overall_accuracy=0.0, overall_loss=0.0):
    accuracy = jnp.asarray(accuracy)
    return GroupMetrics(
        jnp.broadcast_to(size, accuracy.shape),
        jnp.broadcast_to(loss, accuracy.shape),
        accuracy,
        jnp.asarray(overall_loss),
        jnp.asarray(overall_accuracy),
    )


def test_spread_and_worst_group_pass_over_absent_groups():
    found = metrics_of([[0.5, jnp.nan, 0.25, 0.25], [1.0, 0.75, 1.0, jnp.nan]])
    np.testing.assert_array_equal(found.accuracy_spread, [0.25, 0.25])
    np.testing.assert_array_equal(found.worst_group, [2, 1])  # the first on a tie


# --- impact -----------------------------------------------------------------------------------------------------------


def test_impact_of_given_numbers():
    dense = metrics_of([0.75, 0.5, jnp.nan], jnp.array([0.5, 1.0, jnp.nan]), 1.0, 0.625, 0.75)
    pruned = metrics_of([0.5, 0.625, jnp.nan], jnp.array([2.5, 0.75, jnp.nan]), 1.0, 0.5, 1.75)
    found = impact(dense, pruned)
    np.testing.assert_array_equal(found.excessive_loss, [2, -0.25, np.nan])
    np.testing.assert_array_equal(found.accuracy_drop, [0.25, -0.125, np.nan])
    np.testing.assert_array_equal(found.excess_accuracy_gap, [0.125, -0.25, np.nan])
    assert found.overall_excessive_loss == 1
    assert found.overall_accuracy_drop == 0.125
    assert found.excessive_loss_spread == 2.25
    assert found.max_excess_accuracy_gap == 0.125


def test_impact_of_two_networks_against_numpy():
    dense, pruned, batch = weights(1), weights(2), examples(weighted=True)
    found = impact(evaluate(linear, dense, batch, num_groups=G), evaluate(linear, pruned, batch, num_groups=G))
    (before, right), (after, still) = losses_and_hits(dense, batch), losses_and_hits(pruned, batch)
    overall = np.average(right * 1.0 - still, weights=batch.weight)
    for a in (0, 1, 3):
        average = partial(np.average, weights=batch.weight[batch.group == a])
        drop = average((right * 1.0 - still)[batch.group == a])
        np.testing.assert_allclose(found.excessive_loss[a], average((after - before)[batch.group == a]), rtol=1e-4)
        np.testing.assert_allclose(found.accuracy_drop[a], drop, atol=1e-6)
        np.testing.assert_allclose(found.excess_accuracy_gap[a], drop - overall, atol=1e-6)
    np.testing.assert_allclose(
        found.overall_excessive_loss, np.average(after - before, weights=batch.weight), rtol=1e-4
    )
    np.testing.assert_allclose(found.overall_accuracy_drop, overall, atol=1e-6)


def test_excess_accuracy_gaps_cancel_over_the_population():
    """Σ_a p_a ψ_a = 0: the weights of the overall accuracy are the shares of the groups."""
    batch = examples(60, weighted=True)
    dense = evaluate(linear, weights(1), batch, num_groups=G)
    found = impact(dense, evaluate(linear, weights(5), batch, num_groups=G))
    gaps = np.asarray(found.excess_accuracy_gap)
    assert np.nanmax(np.abs(gaps)) > 0.01  # else the sum says nothing
    shares = np.asarray(dense.size) / np.sum(dense.size)
    np.testing.assert_allclose(np.nansum(shares * gaps), 0, atol=1e-6)
    np.testing.assert_allclose(np.nansum(shares * found.excessive_loss), found.overall_excessive_loss, rtol=1e-5)


def test_the_impact_of_nothing_is_zero():
    batch = examples()
    same = evaluate(linear, weights(1), batch, num_groups=G)
    found = impact(same, same)
    for field in (found.excessive_loss, found.accuracy_drop, found.excess_accuracy_gap):
        np.testing.assert_array_equal(field, [0, 0, np.nan, 0])
    assert found.excessive_loss_spread == found.max_excess_accuracy_gap == found.overall_excessive_loss == 0


def test_impact_broadcasts_over_leading_axes():
    """Several sparsities against one dense network, with replicas: [S, R, G] against [R, G]."""
    rng = np.random.default_rng(3)
    dense = GroupMetrics(*(rng.uniform(size=shape) for shape in ((2, G), (2, G), (2, G), (2,), (2,))))
    pruned = GroupMetrics(*(rng.uniform(size=shape) for shape in ((5, 2, G), (5, 2, G), (5, 2, G), (5, 2), (5, 2))))
    found = impact(dense, pruned)
    for s in range(5):
        alone = impact(dense, GroupMetrics(*(field[s] for field in pruned)))
        assert_same(type(found)(*(field[s] for field in found)), alone, rtol=1e-6)
        np.testing.assert_allclose(found.excessive_loss_spread[s], np.ptp(alone.excessive_loss, axis=-1), rtol=1e-6)
        np.testing.assert_allclose(found.max_excess_accuracy_gap[s], np.max(alone.excess_accuracy_gap, -1), rtol=1e-6)


# --- mean_interval ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("count", [4, 5, 10])
def test_intervals_are_those_of_scipy(count, confidence):
    values = np.random.default_rng(count).normal(5, 2, count)
    found = mean_interval(values, confidence=confidence)
    low, high = stats.t.interval(confidence, count - 1, loc=values.mean(), scale=stats.sem(values))
    np.testing.assert_allclose(found, (values.mean(), low, high), rtol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_intervals_along_an_axis_leave_nan_out(axis):
    values = np.random.default_rng(1).normal(size=(6, 7, 8))
    values[0, 0, 0] = values[2, 3, :2] = np.nan
    found = mean_interval(values, axis=axis)
    rows = np.moveaxis(values, axis, -1)
    assert found.mean.shape == found.low.shape == found.high.shape == rows.shape[:-1]
    for at in np.ndindex(rows.shape[:-1]):
        given = rows[at][~np.isnan(rows[at])]
        expected = stats.t.interval(0.95, len(given) - 1, loc=given.mean(), scale=stats.sem(given))
        np.testing.assert_allclose((found.mean[at], found.low[at], found.high[at]), (given.mean(), *expected))


def test_fewer_than_four_seeds_have_a_mean_and_no_interval():
    """Column k has k finite values, 1 to k."""
    values = np.where(np.arange(5)[:, None] < np.arange(6), np.arange(1.0, 6)[:, None], np.nan)
    interval = mean_interval(values)
    np.testing.assert_array_equal(interval.mean, [np.nan, 1, 1.5, 2, 2.5, 3])
    few = np.arange(6) < MINIMUM_SEEDS
    np.testing.assert_array_equal(np.isnan(interval.low), few)
    np.testing.assert_array_equal(np.isnan(interval.high), few)


def test_intervals_are_cut_off_at_the_range_and_only_there():
    values = np.array([0.9, 1.0, 1.0, 1.0, 1.0])
    low, high = stats.t.interval(0.95, 4, loc=0.98, scale=stats.sem(values))
    assert low < 0.95 < 1 < high
    np.testing.assert_allclose(mean_interval(values, upper=1), (0.98, low, 1), rtol=1e-12)
    np.testing.assert_allclose(mean_interval(values, lower=0.95), (0.98, 0.95, high), rtol=1e-12)
    np.testing.assert_allclose(mean_interval(values, lower=0, upper=2), (0.98, low, high), rtol=1e-12)


def test_a_range_upside_down_is_refused():
    with pytest.raises(ValueError, match="lower = 1 is above upper = 0"):
        mean_interval(np.zeros(5), lower=1, upper=0)


def test_seeds_that_agree_have_an_interval_of_no_width():
    np.testing.assert_array_equal(mean_interval(np.full(5, 0.25)), [0.25] * 3)


def test_the_interval_covers_the_mean_as_often_as_it_says():
    """3000 experiments of four seeds each: 95 % ± 4 standard errors of a share."""
    found = mean_interval(np.random.default_rng(0).normal(1.0, 1.0, (4, 3000)))
    covered = np.mean((found.low <= 1) & (found.high >= 1))
    assert abs(covered - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 3000)


@pytest.mark.parametrize("seeds", [4, 5, 10])
@pytest.mark.parametrize(("mean", "deviation"), [(0.99, 0.003), (0.97, 0.008), (0.02, 0.006)])
def test_intervals_of_accuracies_near_the_ends_cover_as_often(seeds, mean, deviation):
    """Near-normal accuracies, their intervals cut off at 0 and 1: at least 93 % in 10,000 experiments."""
    shape = mean * (1 - mean) / deviation**2 - 1
    accuracies = np.random.default_rng(seeds).beta(mean * shape, (1 - mean) * shape, (seeds, 10_000))
    interval = mean_interval(accuracies, lower=0, upper=1)
    assert np.all((interval.low >= 0) & (interval.high <= 1))
    assert np.mean((interval.low <= mean) & (mean <= interval.high)) >= 0.93


# --- sampling_error ---------------------------------------------------------------------------------------------------


def changes(dense, pruned, batch):
    (before, right), (after, still) = losses_and_hits(dense, batch), losses_and_hits(pruned, batch)
    return after - before, right * 1.0 - still


def test_sampling_errors_are_those_of_each_persons_change():
    dense, pruned, batch = weights(1), weights(2), examples(40)
    found = sampling_error(linear, dense, pruned, batch, num_groups=G)
    for name, change in zip(("excessive_loss", "accuracy_drop"), changes(dense, pruned, batch), strict=True):
        for a in (0, 1, 3):
            of = change[batch.group == a]
            expected = np.std(of, ddof=1) / np.sqrt(len(of))
            np.testing.assert_allclose(getattr(found, name)[a], expected, rtol=1e-4, err_msg=name)
        assert np.isnan(getattr(found, name)[2])


def test_sampling_errors_need_two_people():
    batch = examples(8)  # five, two and one in groups 0, 1 and 3
    found = sampling_error(linear, weights(1), weights(2), batch, num_groups=G)
    np.testing.assert_array_equal(np.isnan(found.excessive_loss), [False, False, True, True])
    np.testing.assert_array_equal(np.isnan(found.accuracy_drop), [False, False, True, True])


@pytest.mark.parametrize("chunk_size", [1, 7, 1000])
def test_sampling_errors_do_not_depend_on_chunks_padding_or_the_size_of_weights(chunk_size):
    dense, pruned, batch = weights(1), weights(2), examples()
    whole = sampling_error(linear, dense, pruned, batch, num_groups=G)
    other = pad(batch, 11, np.nan)
    other = other._replace(weight=3 * other.weight)
    found = sampling_error(linear, dense, pruned, other, num_groups=G, chunk_size=chunk_size)
    assert_same(found, whole, rtol=1e-4)


def test_sampling_errors_read_the_statistics_of_each_network():
    """Both networks are the same but for their statistics, so that only `dense_apply` makes a difference."""
    network = Network(None, lambda params, stats, x, train: (linear(params, x * stats), stats))
    params, batch = weights(1), examples(40)
    old, new = np.full(4, 0.5, np.float32), np.full(4, 2.0, np.float32)
    found = sampling_error(network.freeze(new), params, params, batch, num_groups=G, dense_apply=network.freeze(old))
    before, after = (losses_and_hits({**params, "w": params["w"] * s[:, None]}, batch)[0] for s in (old, new))
    for a in (0, 1, 3):
        of = (after - before)[batch.group == a]
        np.testing.assert_allclose(found.excessive_loss[a], np.std(of, ddof=1) / np.sqrt(len(of)), rtol=1e-4)
    unchanged = sampling_error(network.freeze(new), params, params, batch, num_groups=G)
    np.testing.assert_array_equal(unchanged.excessive_loss, [0, 0, np.nan, 0])


def test_pairing_makes_a_common_shift_cost_little():
    """A loss that rises alike for all has next to no sampling error, however unlike the losses are.

    The bound is relative to the shift: squares are summed in float32.
    """
    batch = examples(40)

    def spread(logits, y):
        return 3.0 * logits[:, 0] ** 2 + logits[:, 1]

    dense = weights(1)
    pruned = {**dense, "b": dense["b"] + np.array([0, 7.3, 0], np.float32)}
    found = sampling_error(linear, dense, pruned, batch, num_groups=G, loss=spread)
    sizes = np.bincount(batch.group, minlength=G)[[0, 1, 3]]
    assert (np.asarray(found.excessive_loss)[[0, 1, 3]] < 2e-3 * 7.3 / np.sqrt(sizes)).all()


def test_replicas_have_sampling_errors_under_vmap():
    batch = examples(40)
    stacked = [jax.tree.map(lambda *leaves: np.stack(leaves), weights(s), weights(s + 1)) for s in (1, 5)]
    found = jax.vmap(lambda p, q: sampling_error(linear, p, q, batch, num_groups=G))(*stacked)
    found = jax.tree.map(np.asarray, found)
    for r in range(2):
        alone = sampling_error(linear, weights(1 + r), weights(5 + r), batch, num_groups=G)
        assert_same(jax.tree.map(lambda leaf, r=r: leaf[r], found), alone, rtol=1e-4)
