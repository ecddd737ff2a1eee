"""Functions timed in turns, with intervals of their medians."""

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy import stats

from jaxprune.errors import UserError

MINIMUM_ROUNDS = 6  # the extremes of five values hold their median with 93.75 % alone


class Median(NamedTuple):
    """A median with an interval of order statistics.

    Attributes:
      value: The median of the sample.
      low: The lower end.
      high: The upper end; both are NaN for samples too small for the coverage.
    """

    value: float
    low: float
    high: float


class Timing(NamedTuple):
    """The time of one of several functions that were called in turns.

    Attributes:
      seconds: Of one call: the median over rounds.
      ratio: Of its time to that of the first function in the same round: the median over rounds.
      rounds: Turns that it had.
      calls: Calls in each of them.
    """

    seconds: Median
    ratio: Median
    rounds: int
    calls: int


def median_interval(values: Sequence[float] | np.ndarray, confidence: float = 0.95) -> Median:
    """Return the median of a sample with its distribution-free interval.

    The interval [x_(j), x_(n+1-j)] of the sorted values holds the median of any continuous distribution with
    probability 1 - 2 P(B < j), B binomial of n and 1/2 (David and Nagaraja 2003, Order Statistics, section 7.1); j is
    the largest at which that is at least the confidence. It is about independent values.

    Args:
      values: [n].
      confidence: The least coverage.

    Returns:
      The median and its interval; for 95 %, the ends are NaN below six values.

    Raises:
      UserError: There are no values.

    Example:
      >>> from jaxprune import costs
      >>> costs.median_interval([5.0, 1.0, 3.0, 2.0, 4.0, 6.0])
      Median(value=3.5, low=1.0, high=6.0)
    """
    ordered = np.sort(np.asarray(values, np.float64).ravel())
    n = len(ordered)
    if not n:
        raise UserError("values: there are none to take the median of; give at least one")
    j = int(stats.binom.ppf((1 - confidence) / 2, n, 0.5))  # the smallest j with P(B <= j) >= (1 - confidence) / 2
    low, high = (ordered[j - 1], ordered[n - j]) if j else (math.nan, math.nan)
    return Median(float(np.median(ordered)), float(low), float(high))


def time_in_turns(
    functions: Mapping[str, Callable[[], Any]],
    *,
    seconds: float = 2.0,
    rounds: int = 100,
    shortest: float = 3e-4,
    confidence: float = 0.95,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time functions in turns, so that a busy machine slows all alike.

    In every round each function has one turn, of about as many calls as fill `shortest`; every other round goes
    backwards. After each call the results are waited for. Rounds end when the time is used up; a first one always runs.

    Args:
      functions: Name -> function without arguments, which returns arrays; the first is what ratios are to.
      seconds: Of all rounds together, at most (a round that has begun is finished). What the functions take to warm up,
        two calls each, or one where that takes as long, comes before it.
      rounds: At most.
      shortest: Seconds of a turn; a longer call has a turn for itself.
      confidence: Coverage of the intervals.
      clock: Returns seconds.

    Returns:
      Name -> its time, in the order of the functions.

    Raises:
      UserError: There are no functions.
    """
    if not functions:
        raise UserError("functions: there is nothing to time; give at least one")
    calls = {name: _calls(function, shortest, seconds, clock) for name, function in functions.items()}
    taken: dict[str, list[float]] = {name: [] for name in functions}
    begun = clock()
    for number in range(max(rounds, 1)):
        order = list(functions) if number % 2 == 0 else list(functions)[::-1]
        for name in order:
            taken[name].append(_turn(functions[name], calls[name], clock))
        # Another round of usual length has to fit.
        if (clock() - begun) * (number + 2) / (number + 1) > seconds:
            break
    first = np.array(next(iter(taken.values())))
    return {
        name: Timing(
            seconds=median_interval(turns, confidence),
            ratio=median_interval(np.array(turns) / first, confidence),
            rounds=len(turns),
            calls=calls[name],
        )
        for name, turns in taken.items()
    }


def _calls(function: Callable[[], Any], shortest: float, seconds: float, clock: Callable[[], float]) -> int:
    """Warm a function up; return the calls that fill a turn."""
    once = _turn(function, 1, clock)
    if once < seconds:  # it may have been compiled, which says nothing of the calls to come
        once = _turn(function, 1, clock)
    return max(1, round(shortest / once))


def _turn(function: Callable[[], Any], calls: int, clock: Callable[[], float]) -> float:
    """The mean seconds of a call over a turn."""
    begun = clock()
    for _ in itertools.repeat(None, calls):
        jax.block_until_ready(function())
    return max(clock() - begun, 1e-9) / calls
