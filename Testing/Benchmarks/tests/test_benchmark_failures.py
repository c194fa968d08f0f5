# SPDX-License-Identifier: Apache-2.0
"""Pictures of failures: whose data may be shown, which structures are chosen, and the page itself."""

from __future__ import annotations

import json

import failures
import numpy as np
import pytest
import SimpleITK as sitk
from segbench import gallery


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("CC BY 3.0 (ibsi_validation/LICENSE.md)", True),
        ("CC BY (stated in README/LICENSE.txt)", True),
        ("CC0-1.0", True),
        ("Public domain", True),
        ("CC BY-NC 3.0", False),
        ("CC BY-NC-SA 3.0 (licence text beside each case)", False),
        ("CC BY-SA 4.0", False),
        ("MSD: CC BY-SA 4.0; repo has no licence file", False),
        ("TCIA QIN-HEADNECK (CC BY 3.0 by collection; not restated in repo - verify)", False),
        ("CC BY 4.0; verify", False),
        ("GPL-3.0 (repo)", False),
        ("MIT (repo); derived from TCIA collections", False),
        ("", False),
    ],
)
def test_only_data_that_may_be_shown(licence, allowed):
    assert failures.may_be_shown(licence) is allowed


def test_further_licences_by_name_but_never_non_commercial_ones():
    assert failures.may_be_shown("MIT (repo)", ["mit"])
    assert not failures.may_be_shown("CC BY-NC 3.0", ["CC"])


def row(case, structure, scores, **more):
    return {
        "case": case, "structure": structure, "at": list(range(1, len(scores) + 1)), "dice": scores,
        "method": "compact", "series": "clicks", "variant": "tidy", "labels": "human", "modality": "CT", "ml": 12.0,
        **more,
    }  # fmt: skip


def test_worst_and_median_one_per_case():
    rows = [row(case, "s", [score, 1.0]) for case, score in zip("abcde", (0.1, 0.3, 0.5, 0.7, 0.9), strict=True)]
    rows.insert(0, row("a", "t", [0.2, 1.0]))
    chosen = failures.choose(rows, 1, 2, 2)
    assert [(word, entry["case"]) for word, entry in chosen] == [
        ("worst", "a"), ("worst", "b"), ("median", "c"), ("median", "d"),
    ]  # fmt: skip
    assert chosen[0][1]["structure"] == "s"
    assert failures.choose(rows, 7, 2, 2) == []


def test_prompts_of_every_series():
    points = [{"ras": [1.0, 2.0, 3.0], "positive": positive} for positive in (True, False, True)]
    box = {"box": [[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]]}
    stroke = {"stroke": [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]], "positive": False}
    clicks = failures.prompts_of({"series": "clicks", "prompts": points}, 2)
    assert [(prompt.ras, prompt.positive) for prompt in clicks] == [((1, 2, 3), True), ((1, 2, 3), False)]
    with_box = failures.prompts_of({"series": "box", "prompts": [box, *points]}, 1)
    assert with_box[0].ras_max == (1, 2, 3) and len(with_box) == 2
    (drawn,) = failures.prompts_of({"series": "strokes", "prompts": [stroke]}, 3)
    assert drawn.points[1] == (1, 0, 0) and not drawn.positive


@pytest.fixture
def data(tmp_path):
    """Two cases with a bright ball, one of which may be shown."""
    k, j, i = np.ogrid[:24, :32, :32]
    mask = (k - 12) ** 2 + (j - 16) ** 2 + (i - 16) ** 2 <= 64
    records = []
    for name, licence in (("free", "CC BY 4.0"), ("bound", "CC BY-NC 4.0")):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        noise = np.random.default_rng(0).normal(0, 5, mask.shape)
        sitk.WriteImage(sitk.GetImageFromArray((mask * 100 + noise).astype(np.int16)), str(folder / "image.nii.gz"))
        sitk.WriteImage(sitk.GetImageFromArray(mask.astype(np.uint8)), str(folder / "labels.nii.gz"))
        structures = {"ball": {"value": 1, "voxels": int(mask.sum())}}
        records.append(
            {"name": name, "modality": "CT", "labels_by": "human", "images": ["image.nii.gz"], "licence": licence}
            | {"labels": "labels.nii.gz", "structures": structures, "repo": "some/where"}
        )
    (tmp_path / "data" / "index.json").write_text(json.dumps({"cases": records}))
    return tmp_path / "data"


class TestCommand:
    def run(self, data, tmp_path, rows):
        path = tmp_path / "accuracy.json"
        path.write_text(json.dumps({"environment": {"date": "2026-01-01T00:00", "commit": "c" * 40}, "rows": rows}))
        return failures.main([str(path), "--data", str(data), "--at", "1", "--out", str(tmp_path / "page.png")])

    def test_page_shows_what_may_be_shown_and_says_whose_it_is(self, data, tmp_path, capsys):
        # RAS of the voxel (12, 16, 16) of an image without a header of its own.
        prompts = [{"ras": [-16.0, -16.0, 12.0], "positive": True}]
        rows = [row(case, "ball", [-1.0], prompts=prompts) for case in ("free", "bound")]
        assert self.run(data, tmp_path, rows) == 0
        text = (tmp_path / "page.md").read_text()
        assert "the 1 of 2 human-labelled" in text and "some/where" in text and "CC BY 4.0" in text
        assert "bound" not in text and str(tmp_path) not in text
        page = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "page.png")))
        assert page.shape[1] > 900 and page.shape[2] >= 3
        blue = np.array([int(gallery.REFERENCE[at : at + 2], 16) for at in (1, 3, 5)])
        assert (np.abs(page[..., :3].astype(int) - blue).max(axis=-1) < 30).sum() > 200  # the reference's outline
        err = capsys.readouterr().err
        assert "has changed since" in err  # no mask has the Dice of this made-up run

    def test_nothing_to_show_is_one_sentence(self, data, tmp_path, capsys):
        assert self.run(data, tmp_path, [row("bound", "ball", [0.5], prompts=[])]) == 2
        assert "none may be shown" in capsys.readouterr().err
