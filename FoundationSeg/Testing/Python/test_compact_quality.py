# SPDX-License-Identifier: Apache-2.0
"""The predicted IoU and what it means: the map's arithmetic, its file, and how it is fitted on synthetic volumes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from FoundationSegLib.catalogue import model_card
from FoundationSegLib.compact.quality import CALIBRATION, QualityMap, expected_calibration_error, isotonic
from FoundationSegLib.errors import ModelError
from FoundationSegLib.resources import resource_folder
from hypothesis import given
from hypothesis import strategies as st

jsonschema = pytest.importorskip("jsonschema")


def test_calibration_error_of_a_worked_example() -> None:
    # Bin 0.2 to 0.3: mean 0.25 against 0.35 (two of four); bin 0.9 to 1: mean 0.95 against 0.85, 1.0 included.
    predicted, reached = [0.22, 0.28, 0.9, 1.0], [0.3, 0.4, 0.8, 0.9]
    assert expected_calibration_error(predicted, reached) == pytest.approx(0.1)
    # Errors of both signs within a bin cancel, between bins they do not.
    assert expected_calibration_error([0.25, 0.25], [0.15, 0.35]) == pytest.approx(0)
    assert expected_calibration_error([0.25, 0.45], [0.15, 0.55]) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="as many"):
        expected_calibration_error([], [])


def test_isotonic_pools_what_falls() -> None:
    found = isotonic(np.array([1.0, 3.0, 1.0, 2.0, 5.0, 4.0]), np.array([1.0, 1.0, 3.0, 1.0, 1.0, 1.0]))
    np.testing.assert_allclose(found, [1, 1.5, 1.5, 2, 4.5, 4.5])


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=300))
def test_map_of_anything_is_strictly_increasing_and_stays_in_range(pairs: list[tuple[float, float]]) -> None:
    quality = QualityMap.fit(*zip(*pairs, strict=True))
    values = [quality(value) for value in np.linspace(0, 1, 50)]
    assert min(values) >= 0 and max(values) <= 1 and (np.diff(values) > 0).all()


def test_map_mends_an_overconfident_model_on_new_predictions() -> None:
    rng = np.random.default_rng(0)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        predicted = rng.uniform(0.2, 0.95, count)
        return predicted, np.clip(0.8 * predicted - 0.1 + rng.normal(0, 0.1, count), 0, 1)

    quality = QualityMap.fit(*draw(1000))
    predicted, reached = draw(1000)
    assert expected_calibration_error(predicted, reached) > 0.2
    assert expected_calibration_error([quality(value) for value in predicted], reached) < 0.04


def test_map_of_a_model_that_is_right_changes_little() -> None:
    predicted = np.linspace(0, 1, 2000)
    quality = QualityMap.fit(predicted, predicted)
    assert max(abs(quality(value) - value) for value in predicted) < 0.02


class TestFile:
    stored = replace(QualityMap.fit([0.2, 0.8], [0.1, 0.9]), weights_sha256="a" * 64, about={"what": "a test"})

    def test_round_trip(self, tmp_path: Path) -> None:
        path = tmp_path / CALIBRATION
        path.write_text(json.dumps(self.stored.to_dict()), encoding="utf-8")
        assert QualityMap.read(path, "a" * 64) == self.stored

    def test_absent_or_of_other_weights_is_no_map(self, tmp_path: Path) -> None:
        path = tmp_path / CALIBRATION
        assert QualityMap.read(path, "a" * 64) is None
        path.write_text(json.dumps(self.stored.to_dict()), encoding="utf-8")
        assert QualityMap.read(path, "b" * 64) is None

    @pytest.mark.parametrize(
        "content",
        ["no JSON", "[]", "{}", '{"raw": [0, 1], "expected": [0.5, 0.2], "weights_sha256": ""}'],
    )
    def test_damaged(self, tmp_path: Path, content: str) -> None:
        path = tmp_path / CALIBRATION
        path.write_text(content, encoding="utf-8")
        with pytest.raises(ModelError, match="calibration"):
            QualityMap.read(path, "a" * 64)

    def test_what_is_shipped_belongs_to_the_shipped_weights_and_is_in_the_card(self) -> None:
        path = resource_folder("Weights") / CALIBRATION
        card = model_card("compact").data
        if not path.is_file():
            assert "calibration" not in card, "the card speaks of a calibration that is not shipped"
            pytest.skip("no calibration is shipped with these weights")
        quality = QualityMap.read(path, card["weights"]["sha256"])
        assert quality is not None, (
            "the calibration was fitted for other weights; run FoundationSegLib.compact.calibrate"
        )
        assert card["calibration"] == quality.to_dict()


class TestFitting:
    """On two small volumes: the same every time, honest about what it did, and fit for the model card."""

    def test_volumes_are_repeatable_and_the_targets_lie_in_them(self) -> None:
        calibrate = pytest.importorskip("FoundationSegLib.compact.calibrate", reason="needs SciPy")
        config = calibrate.CalibrationConfig(volumes=2, size=40)
        first, second = (list(calibrate.synthetic_cases(config)) for _ in range(2))
        (alone,) = calibrate.synthetic_cases(replace(config, volumes=1))
        assert [case.volume.fingerprint for case in first] == [case.volume.fingerprint for case in second]
        assert alone.volume.fingerprint == first[0].volume.fingerprint != first[1].volume.fingerprint
        for case in first:
            assert len(case.targets) == config.targets
            for target in case.targets:
                assert target.shape == case.volume.shape and 30 <= target.sum() < target.size

    def test_clicks_are_in_the_largest_error_and_boxes_around_the_target(self) -> None:
        calibrate = pytest.importorskip("FoundationSegLib.compact.calibrate", reason="needs SciPy")
        (case,) = calibrate.synthetic_cases(calibrate.CalibrationConfig(volumes=1, size=40))
        volume, rng = case.volume, np.random.default_rng(0)
        target = np.zeros(volume.shape, bool)
        target[2:8, 10:20, 10:20] = True
        leak = target.copy()
        leak[2:8, 10:20, 22:36] = True
        for tidy in (True, False):
            for mask, region, positive in ((None, target, True), (leak, leak & ~target, False)):
                click = calibrate._next_click(target, mask, volume, rng, tidy)
                place = np.rint(volume.ras_to_kji(click.ras)).astype(int)
                assert region[tuple(place)] and click.positive is positive
        assert calibrate._next_click(target, target, volume, rng, True) is None
        box = calibrate._box(target, volume, rng, True)
        corners = volume.ras_to_kji(box.corners_ras)
        np.testing.assert_allclose(corners.min(0), [1.5, 9.5, 9.5], atol=1e-6)
        np.testing.assert_allclose(corners.max(0), [7.5, 19.5, 19.5], atol=1e-6)

    def test_command_writes_the_map_beside_the_weights_and_into_the_card(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        calibrate = pytest.importorskip("FoundationSegLib.compact.calibrate", reason="needs SciPy")
        weights = tmp_path / "weights"
        weights.mkdir()
        for file in resource_folder("Weights").glob("compact*"):
            (weights / file.name).write_bytes(file.read_bytes())
        card = tmp_path / "compact.json"
        card.write_text((resource_folder("Models") / "compact.json").read_text(encoding="utf-8"), encoding="utf-8")
        command = [str(weights), "--volumes", "2", "--size", "40", "--clicks", "2", "--card", str(card)]
        assert calibrate.main(command) == 0
        stored = json.loads((weights / CALIBRATION).read_text(encoding="utf-8"))
        written = json.loads(card.read_text(encoding="utf-8"))
        assert written["calibration"] == stored
        before = json.loads((resource_folder("Models") / "compact.json").read_text(encoding="utf-8"))
        assert {**written, "calibration": None} == {**before, "calibration": None}
        schema = json.loads((resource_folder("Models") / "model-card.schema.json").read_text(encoding="utf-8"))
        jsonschema.validate(written, schema)
        quality = QualityMap.read(weights / CALIBRATION, stored["weights_sha256"])
        assert quality is not None and quality.about["volumes"] == 2
        assert 6 <= quality.about["predictions"] <= 12
        assert str(tmp_path) not in (weights / CALIBRATION).read_text(encoding="utf-8")
        assert "calibration error" in capsys.readouterr().out
