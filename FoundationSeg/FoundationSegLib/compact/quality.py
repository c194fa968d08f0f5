# SPDX-License-Identifier: Apache-2.0
"""What the model's predicted IoU means: how far it is from what was reached, and a monotone map that brings it nearer.

The map is fitted by `calibrate` on simulated sessions in synthetic volumes and stored beside the weights. NumPy only:
this is on the path of every prediction.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ModelError

FloatArray = npt.NDArray[np.float64]

CALIBRATION = "compact.calibration.json"
ECE_BINS = 10
_KNOTS = 12  # bins of equal count that the map is fitted to
_LEAST_IN_BIN = 25
# A flat step of an isotonic fit would make two answers equal; this much of the identity keeps their order.
_SLOPE = 0.02


def bin_of(predicted: npt.ArrayLike, bins: int = ECE_BINS) -> npt.NDArray[np.int64]:
    """Which of `bins` equal parts of [0, 1] each prediction falls into; 1.0 belongs to the last."""
    return np.clip(np.floor(np.asarray(predicted, float) * bins), 0, bins - 1).astype(np.int64)


def expected_calibration_error(predicted: npt.ArrayLike, reached: npt.ArrayLike, bins: int = ECE_BINS) -> float:
    """ECE of a predicted quality, which unlike a class probability is compared with a quality, not with a frequency.

    Predictions are put into `bins` equal parts of [0, 1]; in each the mean prediction is compared with the mean of what
    was reached; the absolute differences are averaged, weighted by the number of predictions:

        ECE = sum_b (n_b / n) |mean_b(predicted) - mean_b(reached)|

    0 says that the predictions are right on average at every level, not that each is right. Chance alone makes it
    positive: with few predictions it is too large. Raises ValueError without a prediction.
    """
    x, y = np.asarray(predicted, float), np.asarray(reached, float)
    if x.size == 0 or x.shape != y.shape:
        raise ValueError(f"The calibration error needs as many predictions as results, not {x.shape} and {y.shape}.")
    place = bin_of(x, bins)
    return float(np.abs(np.bincount(place, x - y, bins)).sum() / x.size)


@dataclass(frozen=True)
class QualityMap:
    """A strictly increasing, piecewise linear map from the predicted to the expected IoU, [0, 1] to [0, 1].

    Attributes:
        raw, expected: the knots, both strictly increasing, with the first raw 0 and the last 1.
        weights_sha256: of the weights that it was fitted for; "" where it is not stored.
        about: how it was fitted, as JSON.
    """

    raw: tuple[float, ...]
    expected: tuple[float, ...]
    weights_sha256: str = ""
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        x, y = np.array(self.raw, float), np.array(self.expected, float)
        if not (
            x.shape == y.shape
            and x.size >= 2
            and (x[0], x[-1]) == (0.0, 1.0)
            and (np.diff(x) > 0).all()
            and (np.diff(y) > 0).all()
            and 0 <= y[0] <= y[-1] <= 1
        ):
            raise ModelError("The calibration of the predicted IoU is damaged; run FoundationSegLib.compact.calibrate.")

    def __call__(self, predicted: float) -> float:
        """The IoU to expect where the network predicts `predicted`."""
        return float(np.interp(predicted, self.raw, self.expected))

    @classmethod
    def fit(cls, predicted: npt.ArrayLike, reached: npt.ArrayLike, knots: int = _KNOTS) -> QualityMap:
        """The increasing map that fits best in the mean square, through the means of bins of equal count.

        Isotonic regression by pooling adjacent violators, over at most `knots` bins so that a handful of predictions
        never makes a step of its own, linear between the bins' means.
        Raises ValueError without a prediction.
        """
        x, y = np.asarray(predicted, float).ravel(), np.asarray(reached, float).ravel()
        if x.size == 0 or x.size != y.size:
            raise ValueError(f"A map needs as many predictions as results, not {x.size} and {y.size}.")
        order = np.argsort(x, kind="stable")
        parts = [part for part in np.array_split(order, min(knots, max(1, x.size // _LEAST_IN_BIN))) if part.size]
        places = np.array([x[part].mean() for part in parts])
        levels = isotonic(np.array([y[part].mean() for part in parts]), np.array([float(part.size) for part in parts]))
        places, first = np.unique(np.clip(places, 0, 1).round(4), return_index=True)
        levels = levels[first]
        inner = (places > 0) & (places < 1)
        # Beyond what was seen the map goes on with the last correction.
        low, high = max(levels[0] - places[0], 0), min(levels[-1] + 1 - places[-1], 1)
        knot_x = np.concatenate([[0.0], places[inner], [1.0]])
        knot_y = np.concatenate([[low], levels[inner], [high]])
        knot_y = ((1 - _SLOPE) * knot_y + _SLOPE * knot_x).round(6)
        return cls(tuple(knot_x.tolist()), tuple(knot_y.tolist()))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> QualityMap:
        """The inverse of `to_dict`. Raises ModelError."""
        try:
            known = {"raw", "expected", "weights_sha256"}
            about = {name: value for name, value in data.items() if name not in known}
            raw, expected = tuple(map(float, data["raw"])), tuple(map(float, data["expected"]))
            return cls(raw, expected, str(data["weights_sha256"]), about)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelError(
                "The calibration of the predicted IoU is damaged; run FoundationSegLib.compact.calibrate."
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, in the file beside the weights and under "calibration" in the model card."""
        knots = {"raw": list(self.raw), "expected": list(self.expected)}
        return {**self.about, "weights_sha256": self.weights_sha256, **knots}

    @classmethod
    def read(cls, path: Path, weights_sha256: str) -> QualityMap | None:
        """The stored map; None where there is none, or where it was fitted for other weights and so says nothing.

        Raises ModelError where the file is damaged.
        """
        if not path.is_file():
            return None
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError(f"The calibration {path.name} cannot be read; install the extension again.") from error
        found = cls.from_dict(data)
        return found if found.weights_sha256 == weights_sha256 else None


def isotonic(values: FloatArray, weights: FloatArray) -> FloatArray:
    """The non-decreasing sequence nearest to `values` (n,) in the weighted mean square (pool adjacent violators)."""
    blocks: list[tuple[float, float, int]] = []  # mean, weight, length
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        blocks.append((value, weight, 1))
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            (a, wa, na), (b, wb, nb) = blocks[-2:]
            blocks[-2:] = [((a * wa + b * wb) / (wa + wb), wa + wb, na + nb)]
    return np.concatenate([np.full(length, mean) for mean, _, length in blocks])
