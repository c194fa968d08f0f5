# SPDX-License-Identifier: Apache-2.0
"""How far the IoU that a model predicts is from the IoU that it reached, from the rows of `accuracy.py`.

* **What is compared**: for every prompt that was made, the predicted IoU and the IoU of the whole volume's mask with
  the reference. What was repeated because nothing was left to correct, and failures, do not count.
* **Error**: expected calibration error in ten bins (`FoundationSegLib.compact.quality` defines it), the mean of
  predicted minus reached (bias: positive is overconfident), the mean absolute difference, and Pearson's correlation.
* **Interval**: 95 %, by bootstrap over patients (2,000 draws): all predictions of one person stay together, because
  they are not independent. Resampling adds noise, so the interval of the ECE leans upwards; with one patient there is
  none.
* **Recalibrated by leaving one patient out**: the monotone map is fitted on all other patients and applied to this one.
  This says what a map could reach at most; the shipped map is fitted on synthetic volumes and never on these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from FoundationSegLib.compact.quality import ECE_BINS, QualityMap, bin_of, expected_calibration_error
from numpy.typing import NDArray

Row = dict[str, Any]
FloatArray = NDArray[np.float64]
DRAWS = 2000


@dataclass(frozen=True)
class Points:
    """Predicted and reached IoU (n,), and per prediction the patient, modality, kind, series and number of clicks."""

    predicted: FloatArray
    reached: FloatArray
    patient: NDArray[np.str_]
    modality: NDArray[np.str_]
    kind: NDArray[np.str_]
    series: NDArray[np.str_]
    at: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.predicted)

    def where(self, chosen: NDArray[np.bool_]) -> Points:
        """The predictions that a mask (n,) selects."""
        return Points(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Reliability:
    """One line of the table. `low` and `high`: interval of the ECE, None with a single patient."""

    group: str
    predictions: int
    patients: int
    predicted: float
    reached: float
    ece: float
    low: float | None
    high: float | None
    absolute: float
    correlation: float | None

    @property
    def bias(self) -> float:
        return self.predicted - self.reached


def points_of(rows: Iterable[Row]) -> Points:
    """Every prediction with an expectation of its own, in the order of the rows."""
    found: list[tuple[Any, ...]] = []
    for row in rows:
        made = len(row["prompts"])
        values = zip(row["predicted"][:made], row["iou"][:made], row["at"][:made], strict=True)
        for predicted, reached, at in values:
            if predicted is not None:
                about = (row["patient"], row["modality"] or "-", row["kind"], row["series"])
                found.append((predicted, reached, *about, at))
    columns = list(zip(*found, strict=True)) if found else [()] * 7
    patient, modality, kind, series = (np.array(column, str) for column in columns[2:6])
    predictions, results = np.array(columns[0], float), np.array(columns[1], float)
    return Points(predictions, results, patient, modality, kind, series, np.array(columns[6], np.int64))


def curve(points: Points) -> list[tuple[float, float, int, float, float]]:
    """The reliability curve: (lower edge, upper edge, predictions, mean predicted, mean reached) of bins in use."""
    place = bin_of(points.predicted)
    return [
        (
            number / ECE_BINS,
            (number + 1) / ECE_BINS,
            int((place == number).sum()),
            float(points.predicted[place == number].mean()),
            float(points.reached[place == number].mean()),
        )
        for number in range(ECE_BINS)
        if (place == number).any()
    ]


def interval(points: Points, seed: int = 0, draws: int = DRAWS) -> tuple[float, float] | None:
    """2.5th and 97.5th percentile of the ECE over resampled patients; None when there is only one."""
    patients, number = np.unique(points.patient, return_inverse=True)
    if len(patients) < 2:
        return None
    # Per patient and bin the sums that the error is made of, so that a draw is one product of matrices.
    place = bin_of(points.predicted)
    gaps, counts = np.zeros((len(patients), ECE_BINS)), np.zeros(len(patients))
    np.add.at(gaps, (number, place), points.predicted - points.reached)
    np.add.at(counts, number, 1)
    weights = np.random.default_rng(seed).multinomial(len(patients), [1 / len(patients)] * len(patients), draws)
    errors = np.abs(weights @ gaps).sum(axis=1) / (weights @ counts)
    low, high = np.percentile(errors, (2.5, 97.5)).tolist()
    return low, high


def reliability(group: str, points: Points) -> Reliability:
    """The figures of one group of predictions. Raises ValueError when it is empty."""
    x, y = points.predicted, points.reached
    ece = expected_calibration_error(x, y)
    between = interval(points)
    varied = len(points) > 2 and x.std() > 0 and y.std() > 0
    return Reliability(
        group=group,
        predictions=len(points),
        patients=len(np.unique(points.patient)),
        predicted=float(x.mean()),
        reached=float(y.mean()),
        ece=ece,
        low=None if between is None else between[0],
        high=None if between is None else between[1],
        absolute=float(np.abs(x - y).mean()),
        correlation=float(np.corrcoef(x, y)[0, 1]) if varied else None,
    )


def groups(
    points: Points, clicks: Sequence[int] = (1, 2, 3, 5, 10), boxes: Sequence[int] = (0, 2)
) -> list[Reliability]:
    """All predictions, then by modality, by kind, and by the prompts that were given."""
    chosen: list[tuple[str, NDArray[np.bool_]]] = [("all predictions", np.ones(len(points), bool))]
    chosen += [(name, points.modality == name) for name in sorted(set(points.modality.tolist()))]
    chosen += [(f"{name}s", points.kind == name) for name in sorted(set(points.kind.tolist()))]
    for series, label, counts in (("clicks", "click", clicks), ("box", "box+", boxes), ("strokes", "stroke", (1, 3))):
        for at in counts:
            name = f"{label}{at}" if series == "box" else f"{label} {at}"
            chosen.append((name, (points.series == series) & (points.at == at)))
    return [reliability(name, points.where(mask)) for name, mask in chosen if mask.any()]


def mapped(points: Points, quality: Callable[[float], float]) -> Points:
    """The same results, each prediction brought through a map."""
    return replace(points, predicted=np.array([quality(value) for value in points.predicted.tolist()]))


def leave_one_out(points: Points) -> Points | None:
    """Each patient's predictions through a map fitted on the other patients; None when there is only one."""
    patients = np.unique(points.patient)
    if len(patients) < 2:
        return None
    changed = points.predicted.copy()
    for patient in patients:
        out = points.patient == patient
        quality = QualityMap.fit(points.predicted[~out], points.reached[~out])
        changed[out] = [quality(value) for value in points.predicted[out].tolist()]
    return replace(points, predicted=changed)


def table(lines: Sequence[Reliability]) -> tuple[list[str], list[list[str]]]:
    """Header and cells."""
    header = ["group", "n", "patients", "predicted", "reached", "bias", "ECE", "95 %", "abs. diff.", "corr."]
    cells = []
    for line in lines:
        between = "-" if line.low is None or line.high is None else f"{line.low:.3f} to {line.high:.3f}"
        correlation = "-" if line.correlation is None else f"{line.correlation:.2f}"
        means = [f"{line.predicted:.3f}", f"{line.reached:.3f}", f"{line.bias:+.3f}", f"{line.ece:.3f}"]
        counts = [line.group, str(line.predictions), str(line.patients)]
        cells.append([*counts, *means, between, f"{line.absolute:.3f}", correlation])
    return header, cells
