"""Noise of a component: its variation between undrifted days, estimated from the residuals of few days.

A residual is the deviation of a day from the mean of the days of its kind, times the square root of its rows.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LAGS = 7  # largest lag of the autocorrelation, in days


@dataclass(frozen=True)
class Noise:
    """Variation of a component between undrifted days.

    Attributes:
        trace: Trace of its covariance, per row.
        numerator_df, denominator_df: Degrees of freedom of the test statistic; the latter is infinite for independent rows.
        lags: Autocorrelation of the column at 1, 2, ... days: a customer who travels does so for several days.
    """

    trace: float
    numerator_df: float
    denominator_df: float
    lags: tuple[float, ...] = ()

    def variance_inflation(self, days: int) -> float:
        """Variance inflation of the mean of consecutive days by autocorrelation, over independent days; at least 1."""
        return max(
            1.0, 1 + 2 * sum((1 - lag / days) * correlation for lag, correlation in enumerate(self.lags[: days - 1], 1))
        )

    def p_value(self, statistic: float) -> float:
        """Upper tail of the F distribution; chi-squared for independent rows.

        The denominator has ``numerator_df * denominator_df`` degrees of freedom.
        """
        if np.isinf(self.denominator_df):
            return float(stats.chi2.sf(statistic * self.numerator_df, self.numerator_df))
        return float(stats.f.sf(statistic, self.numerator_df, self.numerator_df * self.denominator_df))


def estimate_noise(residuals: np.ndarray, denominator_df: int) -> Noise:
    """Estimate the trace of the covariance and its effective number of dimensions from residuals ``[days, q]``.

    The degrees of freedom are the trace squared over the trace of the square (Satterthwaite), both corrected for the
    bias of few days (Bai and Saranadasa).
    """
    covariance = residuals.T @ residuals / denominator_df
    trace, raw = float(np.trace(covariance)), float((covariance**2).sum())
    square = (
        denominator_df**2 / ((denominator_df - 1) * (denominator_df + 2)) * max(raw - trace**2 / denominator_df, 0.0)
    )
    numerator_df = (trace**2 - 2 * square / denominator_df) / square if square else len(covariance)
    return Noise(trace, float(np.clip(numerator_df, 1.0, len(covariance))), float(denominator_df))


def estimate_autocorrelations(residuals: Sequence[np.ndarray], kinds: Sequence[str]) -> tuple[float, ...]:
    """Autocorrelations ``[LAGS]`` of days, from residuals ``[days, q]`` of each component of a column.

    They are averaged over all residuals, since few days give a noisy estimate. Residuals are deviations from the mean
    of their kind, which biases the correlation of independent days below zero; the bias is corrected.
    """
    counts, correlations = Counter(kinds), []
    for lag in range(1, min(LAGS, len(kinds) - 1) + 1):
        bias = np.mean([(kind == later) / counts[kind] for kind, later in zip(kinds, kinds[lag:], strict=False)])
        pairs = [(r[lag:] * r[:-lag]).sum(axis=1).mean() / (r**2).sum(axis=1).mean() for r in residuals if r.any()]
        correlations.append(float(np.mean(pairs) * (1 - len(counts) / len(kinds)) + bias) if pairs else 0.0)
    return tuple(correlations)
