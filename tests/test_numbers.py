"""How numbers are written."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jaxprune.numbers import (
    NONE,
    fixed,
    listing,
    nats,
    p_value,
    percent,
    plural,
    points,
    scaled,
    signed,
    significant,
)


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.9, "90 %"), (0.995, "99.5 %"), (0.9996, "99.96 %"), (1.0, "100 %"), (0.0, "0 %"), (0.0004, "0.04 %"),
        (0.07, "7 %"), (1 / 3, "33.33 %"), (0.99999, "99.999 %"), (1 - 1e-9, "> 99.9999 %"), (1e-9, "< 0.0001 %"),
        (1 + 1e-9, "> 100 %"), (-0.2, "-20 %"), (-1e-9, "> -0.0001 %"), (12.5, "1250 %"), (math.nan, NONE),
    ],
)  # fmt: skip
def test_shares_as_percentages(share, text) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(("share", "text"), [(0.1234, "12 %"), (0.995, "99.5 %"), (0.004, "0.4 %"), (1.256, "126 %")])
def test_percentages_have_more_digits_only_where_they_are_needed(share, text) -> None:
    assert percent(share, 2) == text


@given(share=st.floats(-2, 2), digits=st.integers(1, 6))
@example(share=0.995, digits=1)
@example(share=1 - 2**-53, digits=4)
@example(share=5e-324, digits=1)
def test_a_percentage_is_0_or_100_only_where_the_share_is(share, digits) -> None:
    text = percent(share, digits)
    assert (text == "0 %") == (share == 0)
    assert (text == "100 %") == (100 * share == 100)
    assert "e" not in text
    if not text.startswith(("<", ">")):
        whole = 10.0 ** (math.floor(math.log10(abs(100 * share))) - digits + 1) if share else 0.0
        assert abs(float(text.removesuffix(" %")) - 100 * share) <= whole / 2 * (1 + 1e-9)


@given(value=st.floats(-1000, 1000), digits=st.integers(0, 3))
def test_fixed_numbers_are_landmarks_only_where_they_are_within_float32(value, digits) -> None:
    text = fixed(value, digits, landmarks=(-100, 0, 100))
    assert abs(float(text) - value) <= 0.5 * 10.0**-digits * (1 + 1e-9)
    for landmark in (-100, 0, 100):
        if float(text) == landmark:
            assert abs(value - landmark) <= 0.5e-4 * (1 + 1e-9)
    assert not text.startswith("-0.0") or float(text) != 0


def test_signs() -> None:
    assert (signed(0.3), signed(-0.3, 1), signed(-0.0001), signed(math.nan)) == ("+0.300", "-0.3", "0.000", NONE)


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(43.9, 3, "43.9"), (120.4, 2, "120"), (0.5, 3, "0.500"), (1234.5, 3, "1234"), (0.00123, 1, "0.001"),
     (20.4, 1, "20"), (1.23e-7, 3, "1.23e-07"), (4.56e8, 2, "4.6e+08"), (0.0, 3, "0.00"), (-2.5, 3, "-2.50"),
     (math.inf, 3, NONE)],
)  # fmt: skip
def test_significant_digits(value, digits, text) -> None:
    assert significant(value, digits) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(43016, "B", "43.0 kB"), (999, "B", "999 B"), (999.6, "B", "1.00 kB"), (0, "B", "0 B"), (12, "", "12"),
     (1.5e-5, "s", "15.0 µs"), (0.25, "s", "250 ms"), (2.5, "s", "2.50 s"), (4.49e9, "", "4.49 G"),
     (3e-12, "s", "0.00300 ns"), (2e15, "B", "2000 TB"), (-1200, "B", "-1.20 kB"), (math.nan, "s", NONE)],
)  # fmt: skip
def test_prefixes_of_units(value, unit, text) -> None:
    assert scaled(value, unit) == text


def test_units_counts_and_lists() -> None:
    assert (points(0.01), points(0.015), points(-0.2)) == ("1 point", "1.5 points", "-20 points")
    assert nats(0.3121) == "0.312 nats"
    assert [plural(n, "seed") for n in (0, 1, 2, 1000)] == ["0 seeds", "1 seed", "2 seeds", "1,000 seeds"]
    assert plural(2, "person", "people") == "2 people"
    assert [listing(list("abc"[:n])) for n in range(4)] == ["", "a", "a and b", "a, b and c"]
    assert listing(["a", "b"], "or") == "a or b"


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.0124, "p = 0.012"), (0.00099, "p < 0.001"), (0.0, "p < 0.001"), (1.0, "p = 1.000"), (0.9999, "p > 0.999"),
     (math.nan, f"p {NONE}")],
)  # fmt: skip
def test_p_values(p, text) -> None:
    assert p_value(p) == text
