# SPDX-License-Identifier: Apache-2.0
"""Fits what the predicted IoU means, on synthetic volumes: `python -m FoundationSegLib.compact.calibrate`.

Simulated sessions run through the same calls as a user's, on synthetic volumes that are larger than a region, so that
the choice of scale, the growing of the region and everything beyond its faces count as they do in use. From what the
model predicted and what was reached a monotone map is fitted (`quality.QualityMap`) and written beside the weights.
No image of a patient takes part. A few minutes on one core; needs SciPy, not torch.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..atomic import atomic_output
from ..prompts import Box, Point, Prompt
from ..region_segmenter import RegionModel, RegionPolicy
from ..resources import resource_folder
from ..session import SegmentationSession
from ..volume import Volume
from .predictor import CompactPredictor
from .quality import CALIBRATION, QualityMap, expected_calibration_error
from .synthesis import synthesise

BoolArray = npt.NDArray[np.bool_]
Rng = np.random.Generator
_LEAST_VOXELS = 30


@dataclass(frozen=True)
class CalibrationConfig:
    """One run; stored with the map."""

    seed: int = 7_410_881
    volumes: int = 40
    targets: int = 2
    size: int = 96  # voxels along an edge before slices are thinned out
    spacing_mm: tuple[float, float] = (0.6, 3.0)  # drawn log-uniformly
    most_anisotropic: int = 4  # slice distance over pixel size
    clicks: int = 5
    box_share: float = 0.4  # of the targets begin with a box
    untidy_share: float = 0.5  # of the targets get clicks at any depth and a box that is off


@dataclass(frozen=True)
class SyntheticCase:
    """A synthetic volume with things to point at: bool masks of the volume's shape."""

    name: str
    volume: Volume
    targets: tuple[BoolArray, ...]


@dataclass(frozen=True)
class Outcome:
    """One prediction: how many clicks it followed, with or without a box, what was predicted and what was reached."""

    case: str
    clicks: int
    box: bool
    predicted: float
    reached: float


def synthetic_cases(config: CalibrationConfig) -> Iterator[SyntheticCase]:
    """Volumes of one seed, each from a seed of its own, so that fewer volumes are the first of more.

    `size` voxels along i and j, cubic or with slices up to `most_anisotropic` times as far apart along k.
    """
    for number in range(config.volumes):
        rng = np.random.default_rng([config.seed, number])
        while True:
            thinned = int(rng.integers(1, config.most_anisotropic + 1)) if rng.random() < 0.5 else 1
            scene = synthesise(rng, config.size, config.targets)
            image = scene.image[::thinned]
            targets = tuple(np.ascontiguousarray(mask[::thinned]) for mask in scene.targets)
            if all(mask.sum() >= _LEAST_VOXELS for mask in targets) and float(np.ptp(image)) > 0:
                break
        low, high = np.log(config.spacing_mm)
        mm = float(np.exp(rng.uniform(low, high)))
        matrix = np.diag([-mm, -mm, mm * thinned, 1.0])  # axial slices, as scanners deliver them
        yield SyntheticCase(f"synthetic-{number:03d}", Volume(np.ascontiguousarray(image), matrix), targets)


def _deepest(region: BoolArray, spacing: npt.NDArray[np.float64], rng: Rng, tidy: bool) -> npt.NDArray[np.float64]:
    """A voxel (k, j, i) of a region: its deepest, or with less care any, the deeper the likelier."""
    (box,) = ndimage.find_objects(region.astype(np.uint8))
    depth = ndimage.distance_transform_edt(np.pad(region[box], 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
    at = int(depth.argmax()) if tidy else int(rng.choice(depth.size, p=depth.ravel() / depth.sum()))
    place = np.array(np.unravel_index(at, depth.shape), float)
    return place + [part.start for part in box]


def _next_click(target: BoolArray, mask: BoolArray | None, volume: Volume, rng: Rng, tidy: bool) -> Point | None:
    """A click on the target, or with a mask on the largest piece of its errors; None where there is no error."""
    spacing = np.array(volume.spacing_mm[::-1])
    region, positive = target, True
    if mask is not None:
        best = 0
        for error, sign in ((target & ~mask, True), (mask & ~target, False)):
            labels, count = ndimage.label(error)
            if count:
                sizes = np.bincount(labels.ravel())
                sizes[0] = 0
                if sizes.max() > best:
                    best, region, positive = int(sizes.max()), labels == int(sizes.argmax()), sign
        if best == 0:
            return None
    r, a, s = volume.kji_to_ras(_deepest(region, spacing, rng, tidy)).tolist()
    return Point((r, a, s), positive)


def _box(target: BoolArray, volume: Volume, rng: Rng, tidy: bool) -> Box:
    """The box around a target; with less care each face is off by up to a tenth of the extent."""
    kji = np.argwhere(target)
    corners = volume.kji_to_ras(np.stack([kji.min(0) - 0.5, kji.max(0) + 0.5]))
    low, high = corners.min(0), corners.max(0)
    if not tidy:
        extent = high - low
        low, high = low + rng.uniform(-0.1, 0.1, 3) * extent, high + rng.uniform(-0.1, 0.1, 3) * extent
    (r, a, s), (r2, a2, s2) = low.tolist(), high.tolist()
    return Box((r, a, s), (r2, a2, s2))


def simulate_session(
    session: SegmentationSession, case: SyntheticCase, target: BoolArray, config: CalibrationConfig, rng: Rng
) -> Iterator[Outcome]:
    """A first prompt and corrections of the largest error, one at a time, until none is left or the clicks are used."""
    with_box, tidy = rng.random() < config.box_share, rng.random() >= config.untidy_share
    volume, segment, clicks = case.volume, "target", 0
    prompt: Prompt | None = _box(target, volume, rng, tidy) if with_box else None
    if prompt is None:
        prompt, clicks = _next_click(target, None, volume, rng, tidy), 1
    clicked = set()
    while prompt is not None:
        result = session.add(segment, prompt)
        mask = session.mask(segment)
        if result.predicted_iou is not None:
            both, either = int((mask & target).sum()), int((mask | target).sum())
            yield Outcome(case.name, clicks, with_box, result.predicted_iou, both / max(either, 1))
        clicks += 1
        following = _next_click(target, mask, volume, rng, tidy) if clicks <= config.clicks else None
        if isinstance(prompt, Point):
            clicked.add(prompt.ras)
        # Where the last click stands but did not help, a person would give up rather than click there again.
        prompt = None if following is None or following.ras in clicked else following
    session.remove(segment)


def load_folder(folder: Path, policy: RegionPolicy | None = None) -> RegionModel:
    """The exported model in a folder, with what it predicts left as it is, ready for a session."""
    predictor = CompactPredictor(folder, "uncalibrated", "cpu")
    return RegionModel(predictor, policy or predictor.policy)


def run_sessions(model: RegionModel, config: CalibrationConfig) -> Iterator[Outcome]:
    """Every prediction of every simulated session."""
    for number, case in enumerate(synthetic_cases(config)):
        session = SegmentationSession(case.volume, model=model)
        for index, target in enumerate(case.targets):
            rng = np.random.default_rng([config.seed, number, index, 1])
            yield from simulate_session(session, case, target, config, rng)


def fit(outcomes: list[Outcome], config: CalibrationConfig, weights_sha256: str) -> QualityMap:
    """The map for all outcomes; its errors, which are stored with it, are those of maps fitted to the other volumes."""
    predicted, reached = (np.array([getattr(o, name) for o in outcomes]) for name in ("predicted", "reached"))
    cases = sorted({o.case for o in outcomes})
    # Every fifth volume is left out in turn, all its predictions together.
    fold = np.array([cases.index(o.case) % 5 for o in outcomes])
    mapped = predicted.copy()
    for number in range(min(5, len(cases))):
        if (fold != number).any():
            part = QualityMap.fit(predicted[fold != number], reached[fold != number])
            mapped[fold == number] = [part(value) for value in predicted[fold == number]]
    about = {
        "what": "The IoU to expect for a predicted IoU, fitted on simulated sessions in synthetic volumes.",
        "command": "python -m FoundationSegLib.compact.calibrate",
        "configuration": {**config.__dict__, "spacing_mm": list(config.spacing_mm)},
        "volumes": len(cases),
        "predictions": len(outcomes),
        "ece_before": round(expected_calibration_error(predicted, reached), 4),
        "ece_after": round(expected_calibration_error(mapped, reached), 4),
        "ece_note": "10 bins; after: each volume by a map fitted to other volumes; synthetic volumes, not patients",
    }
    return replace(QualityMap.fit(predicted, reached), weights_sha256=weights_sha256, about=about)


def json_text(data: Any) -> str:
    """Indented JSON with lists of numbers on one line, as people keep model cards."""
    text = json.dumps(data, indent=2, ensure_ascii=False)
    numbers = re.compile(r"\[\s+(-?[\d.eE+-]+(?:,\s+-?[\d.eE+-]+)*)\s+\]")
    return numbers.sub(lambda found: "[" + re.sub(r",\s+", ", ", found.group(1)) + "]", text) + "\n"


def write(path: Path, data: Any) -> None:
    with atomic_output(path) as file:
        file.write(json_text(data).encode("utf-8"))


def main(arguments: list[str] | None = None) -> int:
    """Fits, writes and says how good the fit is."""
    defaults = CalibrationConfig()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, nargs="?", help="folder of exported weights (default: the shipped ones)")
    parser.add_argument("--card", type=Path, help='model card whose "calibration" is replaced by the map as well')
    parser.add_argument("--volumes", type=int, default=defaults.volumes)
    parser.add_argument("--size", type=int, default=defaults.size, help="voxels along an edge of a volume")
    parser.add_argument("--clicks", type=int, default=defaults.clicks)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    options = parser.parse_args(arguments)
    if options.volumes < 2 or options.size < 32 or options.clicks < 1:
        parser.error("at least 2 volumes of 32 voxels along an edge, and 1 click")
    config = replace(defaults, volumes=options.volumes, size=options.size, clicks=options.clicks, seed=options.seed)
    folder = options.weights or resource_folder("Weights")
    model, outcomes, seen = load_folder(folder), list[Outcome](), ""
    for outcome in run_sessions(model, config):
        if outcome.case != seen:
            seen = outcome.case
            print(f"{seen} of {config.volumes}", file=sys.stderr, flush=True)
        outcomes.append(outcome)
    quality = fit(outcomes, config, model.identity.sha256)
    write(folder / CALIBRATION, quality.to_dict())
    if options.card is not None:
        card = json.loads(options.card.read_text(encoding="utf-8"))
        write(options.card, {**card, "calibration": quality.to_dict()})
    print(
        f"{len(outcomes)} predictions on {config.volumes} volumes: expected calibration error "
        f"{quality.about['ece_before']:.3f}, {quality.about['ece_after']:.3f} with the map."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
