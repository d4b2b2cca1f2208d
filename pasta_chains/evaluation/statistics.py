"""How sure a mean is, and whether a difference is more than chance."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import MissingExtraError

try:
    import numpy as np
    from scipy import stats
except ImportError as error:
    raise MissingExtraError(error.name or "scipy", "evaluation") from error

_RESAMPLES = 9999
_SEED = 0
_BATCH = 200
"""Resamples at a time; all of them, of 5,000 samples, would take a gigabyte."""


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % confidence interval of a mean of values from 0 to 1.

    Wilson's score interval where each value is 0 or 1, otherwise a percentile bootstrap.
    """
    if set(values) <= {0.0, 1.0}:
        count = int(sum(values))
        found = stats.binomtest(count, len(values)).proportion_ci(method="wilson")
        return float(found.low), float(found.high)
    if len(set(values)) == 1:
        return values[0], values[0]
    resampled = stats.bootstrap(
        (np.asarray(values),),
        np.mean,
        n_resamples=_RESAMPLES,
        batch=_BATCH,
        method="percentile",
        rng=_SEED,
    ).confidence_interval
    return float(resampled.low), float(resampled.high)


def paired_p(values: Sequence[float], others: Sequence[float]) -> float:
    """How likely chance alone makes the means of paired values differ as much, two-sided.

    The exact McNemar test where each value is 0 or 1, otherwise a test that permutes signs.

    Args:
        values: One for each sample.
        others: Of the same samples.
    """
    differences = np.asarray(values) - np.asarray(others)
    if not differences.any():
        return 1.0
    if set(differences.tolist()) <= {-1.0, 0.0, 1.0}:
        better, worse = int((differences > 0).sum()), int((differences < 0).sum())
        return float(stats.binomtest(better, better + worse).pvalue)
    if len(differences) == 1:  # either sign is as large
        return 1.0
    found = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        n_resamples=_RESAMPLES,
        batch=_BATCH,
        rng=_SEED,
    )
    return float(found.pvalue)
