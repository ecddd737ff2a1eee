import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from jaxprune import data
from jaxprune.data.sources.synthetic import make_synthetic
from jaxprune.errors import UserError

DESIGN = data.SyntheticDesign((9000, 20000), (0.5, 1.5), (0.0, 0.2))


def drawn():
    table = make_synthetic(DESIGN.sizes, DESIGN.margins, DESIGN.noise)
    return table.x, table.labels["label"][0], table.attributes["cell"][0]


def test_cells_are_the_factorial_design_with_exact_sizes() -> None:
    _, _, group = drawn()
    assert DESIGN.cells[1] == (9000, 0.5, 0.2)
    assert DESIGN.group_names[1] == "n=9000 margin=0.5 noise=0.2"
    np.testing.assert_array_equal(np.bincount(group), [size for size, _, _ in DESIGN.cells])


def test_bayes_error_is_what_the_bayes_classifier_gets() -> None:
    x, y, group = drawn()
    wrong = DESIGN.bayes_logits(x).argmax(1) != y
    for g, error in enumerate(DESIGN.bayes_error()):
        n = np.sum(group == g)
        assert abs(wrong[group == g].mean() - error) < 4 * np.sqrt(error * (1 - error) / n)


def test_bayes_error_is_the_integral_of_the_smaller_posterior() -> None:
    """∫ min_y p(y) p(t | y) dt, integrated numerically."""
    for (_, margin, noise), error in zip(DESIGN.cells, DESIGN.bayes_error(), strict=True):

        def smaller(t: float, margin=margin, noise=noise) -> float:
            plus, minus = norm.pdf(t - margin) / 2, norm.pdf(t + margin) / 2
            return min((1 - noise) * plus + noise * minus, noise * plus + (1 - noise) * minus)

        # The kink lies at 0; each half is smooth.
        np.testing.assert_allclose(quad(smaller, -12, 0)[0] + quad(smaller, 0, 12)[0], error, rtol=1e-8)


def test_bayes_logits_are_calibrated() -> None:
    x, y, _ = drawn()
    p = np.exp(DESIGN.bayes_logits(x))
    np.testing.assert_allclose(p.sum(1), 1)
    for low in (0.1, 0.4, 0.7):
        at = (p[:, 1] > low) & (p[:, 1] < low + 0.1)
        assert abs(y[at].mean() - p[at, 1].mean()) < 4 * np.sqrt(0.25 / at.sum())


def test_size_changes_nothing_but_the_size() -> None:
    errors = DESIGN.bayes_error().reshape(2, 2, 2)
    np.testing.assert_array_equal(errors[0], errors[1])


def test_factors_reach_the_data_set_by_name() -> None:
    people = data.load("synthetic", sizes=(100,), margins=(1.0, 2.0, 3.0))
    assert people.group_names == ("margin=1", "margin=2", "margin=3")
    assert sum(people.group_sizes(split).sum() for split in data.SPLITS) == 300


@pytest.mark.parametrize(
    ("options", "setting"),
    [
        ({"sizes": (3,)}, "data.sizes: 3"),
        ({"margins": (-1.0,)}, "data.margins: -1"),
        ({"noise": (0.5,)}, "data.noise: 0.5"),
        ({"noise": (0.0, 0.0)}, "data.noise: 0.0 is given twice"),
    ],
)
def test_factors_out_of_range_are_refused(options, setting) -> None:
    with pytest.raises(UserError, match=setting):
        data.load("synthetic", **options)


def test_factors_of_another_source_are_refused() -> None:
    with pytest.raises(UserError, match=r"data\.noise: adult has no noise"):
        data.load("adult", noise=(0.1,))
