# SPDX-License-Identifier: Apache-2.0
"""From a model's scores to probabilities, fitted on labelled cases."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import EngineError

_SCHEMA = "foundation-report/calibrations/1"


@dataclass(frozen=True)
class Calibration:
    """From a raw score s in (0, 1) to a probability: 1 / (1 + exp(-(a logit(s) + b))) (Platt scaling).

    Attributes:
        cases: how many labelled ones it was fitted on.
        source: what these were.
        model, revision: whose scores; others are not calibrated by it.
    """

    finding: str
    a: float
    b: float
    cases: int
    source: str
    model: str = ""
    revision: str = ""

    def __call__(self, score: float) -> float:
        return float(sigmoid(np.float64(self.a * _logit(score) + self.b)))


def fit_calibration(
    finding: str, scores: Sequence[float], labels: Sequence[bool], source: str, model: str = "", revision: str = ""
) -> Calibration:
    """Platt scaling by Newton's method, with Platt's smoothed targets (Platt 1999; Lin et al. 2007).

    Raises EngineError: fewer than ten cases, or only one kind.
    """
    y = np.asarray(labels, dtype=bool)
    if len(y) < 10 or y.all() or not y.any() or len(y) != len(scores):
        raise EngineError(f"The calibration of {finding} needs at least 10 labelled cases of both kinds; give more.")
    positive, negative = int(y.sum()), int((~y).sum())
    target = np.where(y, (positive + 1) / (positive + 2), 1 / (negative + 2))
    x = np.stack([[_logit(score) for score in scores], np.ones(len(y))], axis=1)
    weights = np.zeros(2)
    for _ in range(100):
        p = sigmoid(x @ weights)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + 1e-6 * np.eye(2)
        step = np.linalg.solve(hessian, x.T @ (p - target) + 1e-6 * weights)
        weights = weights - step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-9:
            break
    return Calibration(finding, float(weights[0]), float(weights[1]), len(y), source, model, revision)


def expected_calibration_error(probabilities: Sequence[float], labels: Sequence[bool], bins: int = 10) -> float:
    """Mean over equally wide bins of |share of positives - mean probability|, weighted by their cases (Naeini 2015)."""
    p, y = np.asarray(probabilities, dtype=float), np.asarray(labels, dtype=float)
    place = np.minimum((p * bins).astype(int), bins - 1)
    parts = [(place == b) for b in range(bins) if (place == b).any()]
    return float(sum(part.mean() * abs(y[part].mean() - p[part].mean()) for part in parts))


def save_calibrations(path: str | os.PathLike[str], calibrations: Sequence[Calibration]) -> None:
    """As JSON, atomically."""
    from FoundationSegLib.atomic import atomic_output

    with atomic_output(path) as file:
        data = {"schema": _SCHEMA, "calibrations": [vars(one) for one in calibrations]}
        file.write((json.dumps(data, indent=1, sort_keys=True) + "\n").encode())


def load_calibrations(path: str | os.PathLike[str]) -> dict[str, Calibration]:
    """By finding. Raises EngineError for a file that is none."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        if data["schema"] != _SCHEMA:
            raise ValueError(data["schema"])
        found = [Calibration(**entry) for entry in data["calibrations"]]
        if not all(math.isfinite(one.a) and math.isfinite(one.b) for one in found):
            raise ValueError("a number is not finite")
    except OSError as error:
        raise EngineError(f"{Path(path).name} cannot be read ({error.strerror}); check the path.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"{Path(path).name} is no file of calibrations; make it with save_calibrations.") from error
    return {one.finding: one for one in found}


def _logit(score: float) -> float:
    clipped = min(max(score, 1e-6), 1 - 1e-6)
    return math.log(clipped / (1 - clipped))


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-np.clip(x, -60, 60)))
