# SPDX-License-Identifier: Apache-2.0
"""Everything together: one patient stored in many ways gives the same facts; real scans with human contours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from FoundationReportLib.measure import Search, measure
from FoundationReportLib.measure.quantities import QUANTITIES
from FoundationReportLib.model import Facts, Side, canonical_json
from FoundationSegLib import Volume
from FoundationSegLib.segmentation_io import SegmentRecord
from report_phantom import (
    BoolArray,
    FloatArray,
    ellipsoid,
    grid,
    positions,
    record,
    rotation,
    turned,
    volume_of,
    with_values,
)

DATA = Path(__file__).parents[4] / "shared" / "data"
SIZE, SPACING = (56, 48, 40), (5.0, 5.0, 6.5)
SHAPES = {
    "Right lung": ((65, 0, 20), (45, 70, 90)),
    "Left lung": ((-65, 0, 20), (45, 70, 90)),
    "spinal cord": ((0, -80, 0), (8, 8, 115)),
    "nodule": ((70, 10, 50), (19, 14, 21)),
    "heart": ((-15, 25, -20), (40, 40, 42)),
}


def _patient(directions: FloatArray) -> tuple[Volume, dict[str, BoolArray]]:
    matrix = grid(SIZE, SPACING, directions)
    points = positions(matrix, SIZE)
    own = rotation(np.random.default_rng(1))
    masks = {name: ellipsoid(points, *shape, own if name == "nodule" else None) for name, shape in SHAPES.items()}
    texture = (np.sin(points @ (0.05, 0.03, 0.02)) * 40).astype(np.int16)
    volume = with_values(volume_of(SIZE, matrix), *((mask, -200 * n) for n, mask in enumerate(masks.values())))
    return Volume(volume.array + texture, matrix, "CT"), masks


def _facts(volume: Volume, masks: dict[str, BoolArray]) -> Facts:
    return measure(volume, [record(name, mask) for name, mask in masks.items()], searched=[Search("lung", "nodule")])


def _stored(
    volume: Volume, masks: dict[str, BoolArray], order: tuple[int, ...], flips: tuple[int, ...]
) -> tuple[Volume, dict[str, BoolArray]]:
    """The same patient with the array's axes (k, j, i) in another order and direction."""

    def turn(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array.transpose(order)[tuple(slice(None, None, f) for f in flips)])

    steps = volume.ijk_to_ras[:3, 2::-1][:, list(order)]
    matrix = volume.ijk_to_ras.copy()
    for axis, flip in enumerate(flips):
        if flip < 0:
            matrix[:3, 3] += (volume.array.shape[order[axis]] - 1) * steps[:, axis]
    matrix[:3, :3] = (steps * flips)[:, ::-1]
    return Volume(turn(volume.array), matrix, "CT"), {name: turn(mask) for name, mask in masks.items()}


def _comparable(facts: Facts) -> dict[tuple[str, str, str], object]:
    return {(f.subject, f.quantity, f.of): f.value for f in facts.facts}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (0, 2, 1)])
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1), (1, -1, 1)])
def test_however_it_is_stored_the_facts_are_the_same(order: tuple[int, ...], flips: tuple[int, ...]) -> None:
    volume, masks = _patient(turned(0, 10) @ turned(2, -8))
    expected = _comparable(_facts(volume, masks))
    found = _comparable(_facts(*_stored(volume, masks, order, flips)))
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, float):
            assert found[key] == pytest.approx(value, rel=1e-6, abs=2e-5), key
        else:
            assert found[key] == value, key


def test_an_oblique_grid_measures_the_same_tissue() -> None:
    straight = _comparable(_facts(*_patient(np.eye(3))))
    tilted = _comparable(_facts(*_patient(turned(0, 17) @ turned(1, 9) @ turned(2, 30))))
    for name, shape in SHAPES.items():
        subject = name.lower().replace(" ", "-")
        truth = 4 / 3 * np.pi * np.prod(shape[1]) / 1000
        for facts in (straight, tilted):
            assert facts[subject, "volume", ""] == pytest.approx(truth, rel=0.1)
    assert tilted["nodule", "side", ""] == "right"
    assert tilted["nodule", "inside", "right-lung"] is True
    assert tilted["nodule", "max_diameter_3d", ""] == pytest.approx(42, abs=3.5)
    assert tilted["image", "plane", ""] == "axial"


def test_every_fact_is_listed_sourced_and_serialises() -> None:
    facts = _facts(*_patient(np.eye(3)))
    ids = [fact.id for fact in facts.facts]
    assert len(ids) == len(set(ids))
    subjects = {subject.id for subject in facts.subjects}
    for fact in facts.facts:
        listed = QUANTITIES[fact.quantity]
        assert fact.subject in subjects
        assert set(fact.because) <= set(ids)
        assert fact.source is not None
        assert fact.source.method
        assert fact.source.volume == facts.study["fingerprint"]
        assert fact.code == listed.code
        if listed.values:
            assert fact.value in listed.values
    assert json.loads(canonical_json(facts))["facts"]


def test_the_base_install_is_enough() -> None:
    """Nothing but numpy, SimpleITK and what FoundationSeg's base install brings."""
    program = """
import sys
for name in ("scipy", "torch", "transformers", "pydicom", "skimage"):
    sys.modules[name] = None
import numpy as np
from FoundationReportLib.measure import Search, measure
from FoundationSegLib import Volume
from FoundationSegLib.segmentation_io import SegmentRecord
lung, nodule = np.zeros((2, 12, 30, 30), bool)
lung[2:10, 5:25, 5:25] = True
nodule[5:7, 10:14, 10:14] = True
volume = Volume(lung.astype(np.int16), np.diag([-1.0, -1.0, 2.0, 1.0]), "CT")
facts = measure(volume, [SegmentRecord("right lung", lung), SegmentRecord("nodule", nodule)])
print(facts.of("nodule", "inside")[0].of)
"""
    folders = [str(Path(__file__).parents[2]), str(Path(__file__).parents[3] / "FoundationSeg")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "right-lung"


# --- Real scans -------------------------------------------------------------------------------------------------------


def _case(name: str) -> tuple[Volume, list[SegmentRecord], dict[str, float]]:
    """Volume, segments and the millilitres that the index states."""
    if not (DATA / name).is_dir():
        pytest.skip("shared/data is not beside the repository")
    index = json.loads((DATA / "index.json").read_text(encoding="utf-8"))
    case = next(case for case in index["cases"] if case["name"] == name)
    volume = Volume.read(DATA / name / "image.nii.gz")
    labels = Volume.read(DATA / name / "labels.nii.gz").array
    records = [SegmentRecord(n, labels == s["value"]) for n, s in case["structures"].items()]
    return Volume(volume.array, volume.ijk_to_ras, "CT"), records, {n: s["ml"] for n, s in case["structures"].items()}


def test_a_lung_tumour_with_human_contours() -> None:
    volume, records, ml = _case("ct_lung1_002")
    facts = measure(volume, records)
    tumour = facts.subject("gtv-1")
    assert (tumour.organ, tumour.side, tumour.finding) == ("lung", Side.RIGHT, "tumor")
    for name, expected in ml.items():
        assert facts.of(name.replace("_", "-"), "volume")[0].value == pytest.approx(expected, rel=0.01)
    states = {s.organ: facts.of(s.id, "coverage")[0].value for s in facts.subjects if facts.of(s.id, "coverage")}
    assert states["brain"] == states["prostate"] == "outside_view"
    assert states["lung"] == "assessed"


def test_sides_of_an_abdomen() -> None:
    volume, records, _ = _case("ct_ts_example_sm")
    facts = measure(volume, records)
    assert not [sentence for sentence in facts.warnings if "it is called" in sentence]
    sides = {s.name: s.side for s in facts.subjects if s.segment and s.side}
    assert len(sides) > 5
    assert all(name.endswith(side.value) or side.value in name for name, side in sides.items())
