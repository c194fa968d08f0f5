# SPDX-License-Identifier: Apache-2.0
"""Calibration of the predicted IoU: which predictions count, the figures against worked examples, and the command."""

from __future__ import annotations

import json

import calibration
import numpy as np
import pytest
from FoundationSegLib.compact.quality import QualityMap
from segbench import reliability


def row(patient, predicted, reached, **more):
    count = len(reached)
    return {
        "case": patient, "patient": patient, "structure": "s", "modality": "CT", "kind": "organ", "labels": "human",
        "variant": "tidy", "series": "clicks", "method": "compact", "at": list(range(1, count + 1)),
        "predicted": predicted, "iou": reached, "prompts": [{}] * count, **more,
    }  # fmt: skip


class TestPoints:
    def test_only_prompts_that_were_made_and_answered_count(self):
        points = reliability.points_of(
            [
                row("a", [0.5, None, 0.7, 0.7], [0.4, 0.4, 1.0, 1.0], prompts=[{}] * 3),
                row("b", [None, None], [0.1, 0.2]),
                row("c", [0.3], [0.2], series="box", at=[0], modality=None),
            ]
        )
        np.testing.assert_array_equal(points.predicted, [0.5, 0.7, 0.3])
        np.testing.assert_array_equal(points.reached, [0.4, 1.0, 0.2])
        assert points.at.tolist() == [1, 3, 0] and points.modality.tolist() == ["CT", "CT", "-"]
        assert len(reliability.points_of([])) == 0

    def test_curve_leaves_empty_bins_out_and_puts_one_into_the_last(self):
        points = reliability.points_of([row("a", [0.05, 0.07, 1.0], [0.2, 0.4, 0.9])])
        assert reliability.curve(points) == [
            (0.0, 0.1, 2, pytest.approx(0.06), pytest.approx(0.3)),
            (0.9, 1.0, 1, 1.0, 0.9),
        ]


class TestFigures:
    def test_one_group(self):
        points = reliability.points_of([row("a", [0.55, 0.65], [0.35, 0.75]), row("b", [0.55], [0.45])])
        found = reliability.reliability("all", points)
        assert (found.predictions, found.patients) == (3, 2)
        assert found.ece == pytest.approx((2 * 0.15 + 0.1) / 3)
        assert found.bias == pytest.approx(0.2 / 3) and found.absolute == pytest.approx(0.4 / 3)
        # Only one of the two patients, or both: errors between 0.1 (b alone) and 0.15 (a alone).
        assert found.low == pytest.approx(0.1) and found.high == pytest.approx(0.15)

    def test_interval_keeps_the_predictions_of_a_patient_together(self):
        rng = np.random.default_rng(0)
        predicted = rng.uniform(0.5, 0.6, 200)
        off = np.repeat(rng.choice([-0.2, 0.2], 4), 50)
        off[:100], off[100:] = 0.2, -0.2
        rows = [row(f"p{n}", *(list(v[n * 50 : n * 50 + 50]) for v in (predicted, predicted + off))) for n in range(4)]
        together = reliability.interval(reliability.points_of(rows))
        alone = [row(f"p{n}", [float(predicted[n])], [float((predicted + off)[n])]) for n in range(200)]
        apart = reliability.interval(reliability.points_of(alone))
        assert together is not None and apart is not None
        assert together[1] == pytest.approx(0.2) and apart[1] < 0.05

    def test_one_patient_has_no_interval_and_nobody_to_learn_from(self):
        points = reliability.points_of([row("a", [0.5, 0.6], [0.1, 0.2])])
        assert reliability.interval(points) is None and reliability.leave_one_out(points) is None

    def test_groups(self):
        rows = [
            row("a", [0.5, 0.6], [0.1, 0.2]),
            row("b", [0.4, 0.4, 0.8], [0.4, 0.4, 0.6], series="box", at=[0, 1, 2], modality="MR", kind="lesion"),
        ]
        found = {line.group: line for line in reliability.groups(reliability.points_of(rows))}
        assert list(found) == [
            "all predictions",
            "CT",
            "MR",
            "lesions",
            "organs",
            "click 1",
            "click 2",
            "box+0",
            "box+2",
        ]
        assert found["box+2"].bias == pytest.approx(0.2) and found["click 1"].predictions == 1

    def test_a_patient_left_out_does_not_teach_its_own_map(self):
        rng = np.random.default_rng(1)

        def patient(name, gain):
            predicted = rng.uniform(0.3, 0.9, 200)
            return row(name, predicted.tolist(), (gain * predicted).tolist())

        alike = reliability.leave_one_out(reliability.points_of([patient(name, 0.6) for name in "abc"]))
        assert alike is not None and reliability.reliability("", alike).ece < 0.02
        # The third is of another kind: the map of the two others is wrong for it, and that must show.
        odd = reliability.leave_one_out(
            reliability.points_of([patient("a", 0.6), patient("b", 0.6), patient("c", 1.0)])
        )
        assert odd is not None
        assert reliability.reliability("", odd.where(odd.patient == "c")).bias < -0.15


class TestCommand:
    def document(self, tmp_path, rows):
        path = tmp_path / "accuracy.json"
        path.write_text(json.dumps({"environment": {"date": "today", "commit": "c" * 40}, "rows": rows}))
        return path

    def test_from_rows_to_tables_and_a_picture(self, tmp_path, capsys):
        predicted = np.linspace(0.3, 0.9, 60)
        rows = [row(name, predicted.tolist(), (predicted - 0.2).tolist()) for name in "ab"]
        rows.append(row("m", [0.9], [0.0], labels="model"))
        rows.append(row("u", [0.9], [0.0], variant="untidy"))
        quality = QualityMap.fit(predicted, predicted - 0.2)
        (tmp_path / "map.json").write_text(json.dumps(quality.to_dict()))
        out = tmp_path / "new" / "result"
        command = [str(self.document(tmp_path, rows)), "--variants", "tidy", "--out", str(out)]
        assert calibration.main([*command, "--map", str(tmp_path / "map.json")]) == 0
        result = json.loads(out.with_name("result.json").read_text())["versions"]
        ece = {name: version["groups"][0]["ece"] for name, version in result.items()}
        assert ece[calibration.AS_REPORTED] == pytest.approx(0.2)
        assert ece[calibration.BY_MAP] < 0.02 and ece[calibration.LEFT_OUT] < 0.02
        assert result[calibration.AS_REPORTED]["groups"][0]["predictions"] == 120
        assert out.with_name("result.png").read_bytes()[1:4] == b"PNG"
        for text in (capsys.readouterr().out, out.with_name("result.md").read_text()):
            assert "all predictions" in text and "0.200" in text
        assert str(tmp_path) not in out.with_name("result.md").read_text()

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ([], "has no predicted IoU of compact"),
            ([{k: v for k, v in row("a", [0.1], [0.1]).items() if k != "predicted"}], "older accuracy.py"),
            ([row("a", [None], [0.1])], "has no predicted IoU"),
        ],
    )
    def test_nothing_to_compare_is_one_sentence(self, tmp_path, capsys, rows, message):
        assert calibration.main([str(self.document(tmp_path, rows)), "--out", str(tmp_path / "r")]) == 2
        assert message in capsys.readouterr().err

    def test_no_result_of_the_benchmark(self, tmp_path, capsys):
        (tmp_path / "x.json").write_text("{")
        assert calibration.main([str(tmp_path / "x.json")]) == 2
        assert "no result of accuracy.py" in capsys.readouterr().err
