# SPDX-License-Identifier: Apache-2.0
"""The benchmark from a data folder to its tables, on a small made-up folder and with methods whose scores are known."""

from __future__ import annotations

import json

import accuracy
import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage
from segbench import baselines, cases, environment, methods, report, simulate
from segbench.cache import Cache
from segbench.metrics import SurfaceScore, dice
from segbench.regions import BACKGROUND, FOREGROUND, Grid, Prompts, Workspace, region_of, working_spacing

ANGLE = np.deg2rad(20)
TURN = np.array([[np.cos(ANGLE), -np.sin(ANGLE), 0], [np.sin(ANGLE), np.cos(ANGLE), 0], [0, 0, 1]])


def oblique(spacing=(1.0, 1.5, 2.0), origin=(5.0, -9.0, 30.0)):
    matrix = np.eye(4)
    matrix[:3, :3] = TURN * spacing
    matrix[:3, 3] = origin
    return matrix


def bright_ball(shape=(24, 32, 40), centre=(12, 16, 20), radius_mm=10.0, matrix=None):
    """A bright ball on dark noise: voxels, grid, reference."""
    grid = Grid(shape, oblique() if matrix is None else matrix)
    spacing = grid.spacing_kji
    squared = sum(
        (np.arange(n).reshape([-1 if a == axis else 1 for a in range(3)]) - c) ** 2 * s**2
        for axis, (n, c, s) in enumerate(zip(shape, centre, spacing, strict=True))
    )
    mask = np.asarray(squared <= radius_mm**2)
    noise = np.random.default_rng(0).normal(0, 5, shape)
    return (mask * 200 + noise).astype(np.int16), grid, mask


def click(grid, kji, positive=True):
    return grid.to_ras(np.array(kji, float))[0], positive


RECORD = {
    "name": "one",
    "modality": "CT; thorax",
    "labels_by": "human: contours",
    "images": ["image_t1c.nii.gz", "image_flair.nii.gz"],
    "labels": "labels.nii.gz",
    "structures": {
        "lung_l": {"value": 1, "voxels": 900},
        "edema": {"value": 2, "voxels": 100},
        "speck": {"value": 3, "voxels": 29},
        "gtv_1": {"value": 4, "voxels": 30},
    },
    "overlapping_masks": {
        "Lung L": {"file": "masks/lung_l.nii.gz", "voxels": 950},
        "PTV-1": {"file": "masks/ptv.nii.gz", "voxels": 950},
        "Patient": {"file": "masks/patient.nii.gz", "voxels": 9500},
        "Heart": {"file": "masks/heart.nii.gz", "voxels": 50},
    },
}


class TestCases:
    def test_what_is_measured_and_what_is_left_out(self, tmp_path):
        case = cases.parse_case(RECORD, tmp_path)
        found = {structure.name: structure for structure in case.structures}
        assert list(found) == ["lung_l", "edema", "gtv_1", "heart"]
        assert case.skipped == {"speck": "fewer than 30 voxels", "ptv_1": "no anatomy", "patient": "no anatomy"}
        assert found["lung_l"].mask == "masks/lung_l.nii.gz" and found["lung_l"].value is None
        assert found["edema"].image == "image_flair.nii.gz" and found["gtv_1"].image == "image_t1c.nii.gz"
        assert [structure.kind for structure in case.structures] == ["organ", "lesion", "lesion", "organ"]
        assert (case.group, case.modality) == ("human", "CT")

    @pytest.mark.parametrize(
        ("labels_by", "group"),
        [
            ("human semi-automatic: x", "human"),
            ("human/semi-automatic (ROI)", "human"),
            ("model: TotalSegmentator", "model"),
            ("unclear: semi-automatic (human-corrected)", "unclear"),
        ],
    )
    def test_who_labelled(self, labels_by, group):
        assert cases.labels_group(labels_by) == group

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("ms_lesion", "lesion"),
            ("primary_tumour_01", "lesion"),
            ("necrosis", "lesion"),
            ("gtv_mass", "lesion"),
            ("L2", "organ"),
            ("massa_intermedia", "organ"),
            ("hippocampus_anterior", "organ"),
        ],
    )
    def test_kind(self, name, kind):
        assert cases.kind_of(name) == kind

    def test_filters(self, tmp_path):
        def case(name, group, count):
            entries = tuple(cases.Structure(f"s{i}", "organ", "image", 100 + i * i, i) for i in range(count))
            return cases.Case(name, tmp_path, None, group, group, "labels", entries)

        every = [case("a", "human", 2), case("b", "model", 61), case("ct_lung_ibsi_phantom", "human", 1)]
        chosen = cases.choose(every, most_model=5)
        assert [entry.name for entry in chosen] == ["a", "b"]
        assert [structure.name for structure in chosen[1].structures] == ["s0", "s15", "s30", "s45", "s60"]
        assert [entry.name for entry in cases.choose(every, names=["ct_lung_ibsi_phantom"])] == ["ct_lung_ibsi_phantom"]
        assert [entry.name for entry in cases.choose(every, group="human")] == ["a"]
        assert cases.choose(every, kind="lesion") == []
        with pytest.raises(cases.DataError, match="no case is called c"):
            cases.choose(every, names=["c"])
        with pytest.raises(cases.DataError, match="no structure is called s99"):
            cases.choose(every, structures=["s1", "s99"])

    def test_a_folder_that_is_no_data_folder(self, tmp_path):
        with pytest.raises(cases.DataError, match=r"index\.json"):
            cases.load_cases(tmp_path)


class TestRegions:
    def test_grid_and_back(self):
        grid = Grid((10, 20, 30), oblique())
        points = np.array([[1.0, 2, 3], [9.5, -0.5, 29]])
        np.testing.assert_allclose(grid.to_kji(grid.to_ras(points)), points, atol=1e-9)
        np.testing.assert_allclose(grid.to_ras(np.array([[0.0, 0, 1]]))[0], oblique()[:3, :3] @ [1, 0, 0] + [5, -9, 30])

    def test_region_follows_from_the_clicks_alone(self):
        grid = Grid((100, 200, 300), np.diag([1.0, 1.0, 2.0, 1.0]))
        part = region_of(grid, Prompts([click(grid, (50, 100, 150))]))
        assert part == (slice(30, 71), slice(60, 141), slice(110, 191))
        part = region_of(grid, Prompts([click(grid, (50, 100, 150)), click(grid, (50, 100, 299), False)]))
        assert part == (slice(30, 71), slice(60, 141), slice(110, 300))
        part = region_of(grid, Prompts(box=(np.array([100.0, 50, 40]), np.array([120.0, 90, 60]))))
        assert part == (slice(17, 34), slice(46, 95), slice(97, 124))
        with pytest.raises(ValueError, match="without a prompt"):
            region_of(grid, Prompts())

    def test_budget_is_kept_and_nothing_is_upsampled(self):
        spacing = np.array([5.0, 1.0, 1.0])
        step = working_spacing((40, 200, 200), spacing, 100_000)
        assert np.prod(np.ceil(np.array([200.0, 200, 200]) / step)) <= 100_000
        assert step[0] >= 5 and step[1] == step[2] > 1
        np.testing.assert_array_equal(working_spacing((10, 10, 10), spacing, 1000), spacing)

    def test_coarse_grid_lies_where_the_voxels_are(self):
        array, grid, mask = bright_ball((48, 64, 80), (20, 30, 45), 20.0)
        work = Workspace(array, grid, Prompts([click(grid, (20, 30, 45))]), 8000)
        assert np.prod(work.shape) <= 8000
        assert dice(work.back(work.image > 100), mask) > 0.9
        shifted = np.roll(mask, 2, axis=2)
        assert dice(work.back(work.image > 100), shifted) < dice(work.back(work.image > 100), mask) - 0.02

    def test_a_place_is_the_same_on_the_coarse_grid_and_back(self):
        shape, kji = (40, 60, 80), np.array([22.0, 31.0, 37.0])
        grid = Grid(shape, oblique())
        ras, _ = click(grid, kji)
        for axis in range(3):
            ramp = np.broadcast_to(np.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(3)]), shape)
            work = Workspace(ramp, grid, Prompts([(ras, True)]), 5000)
            found = ndimage.map_coordinates(work.image, work.index(ras).T, order=1)[0]
            assert found == pytest.approx(kji[axis], abs=0.01)
            # And back: the plane where a ramp passes a half comes to lie between the same two voxels.
            inside = tuple(slice(span.start + 6, span.stop - 6) for span in work.part)
            back = work.back((work.image - kji[axis] - 0.5) / 1000 + 0.5)
            np.testing.assert_array_equal(back[inside], (ramp > kji[axis])[inside])

    def test_seeds_where_balls_meet_belong_to_the_nearer_click(self):
        grid = Grid((21, 21, 21), np.eye(4))
        prompts = Prompts([click(grid, (10, 10, 8)), click(grid, (10, 10, 12), False)])
        seeds = Workspace(np.zeros(grid.shape), grid, prompts, 10**6).seeds(5.0)
        assert seeds[10, 10, 9] == FOREGROUND and seeds[10, 10, 11] == BACKGROUND
        assert (seeds[0] == BACKGROUND).all() and seeds[10, 10, 1] == 0

    def test_outside_of_the_box_is_background_and_its_middle_a_guess_until_denied(self):
        grid = Grid((30, 30, 30), np.eye(4))
        box = (np.array([8.0, 8, 8]), np.array([22.0, 22, 22]))
        seeds = Workspace(np.zeros(grid.shape), grid, Prompts(box=box), 10**6).seeds(3.0)
        part = region_of(grid, Prompts(box=box))
        full = np.full(grid.shape, 9)
        full[part] = seeds
        assert full[15, 15, 15] == FOREGROUND and full[7, 15, 15] == BACKGROUND and full[9, 15, 15] == 0
        denied = Prompts([click(grid, (15, 15, 15), False)], box)
        assert not (Workspace(np.zeros(grid.shape), grid, denied, 10**6).seeds(3.0) == FOREGROUND).any()


@pytest.mark.parametrize("name", list(baselines.BASELINES))
class TestPeers:
    """Each peer on a target that it must find, on an oblique anisotropic volume."""

    def peer(self, name):
        if reason := methods.missing(name):
            pytest.skip(reason)
        return baselines.BASELINES[name]

    def test_finds_a_bright_ball(self, name):
        peer = self.peer(name)
        array, grid, mask = bright_ball()
        inside, outside = click(grid, (12, 16, 20)), click(grid, (3, 5, 5), False)
        box = simulate.clicks.tight_box(mask, grid.ijk_to_ras)
        least = {"balls-15mm": 0.4, "box": 0.4}.get(name, 0.75)
        if name != "box":
            assert dice(peer(array, grid, Prompts([inside, outside])), mask) > least
        assert dice(peer(array, grid, Prompts([inside], box)), mask) > least
        assert dice(peer(array, grid, Prompts([], box)), mask) > least

    def test_mask_is_boolean_and_of_the_volume(self, name):
        peer = self.peer(name)
        array, grid, mask = bright_ball()
        box = simulate.clicks.tight_box(mask, grid.ijk_to_ras)
        for clicks in ([], [click(grid, (12, 16, 20), False)], [click(grid, (0, 0, 0))]):
            result = peer(array, grid, Prompts(clicks, box))
            assert result.shape == grid.shape and result.dtype == bool

    def test_negative_click_takes_tissue_away(self, name):
        if name == "box":
            pytest.skip("clicks do not change the bare box")
        peer = self.peer(name)
        array, grid, mask = bright_ball(radius_mm=9.0)
        other = np.roll(mask, 15, axis=2)  # a twin that touches it: 30 mm long in all
        array = np.where(other | mask, 200, 0).astype(np.int16)
        inside = click(grid, (12, 16, 17))
        both = peer(array, grid, Prompts([inside, click(grid, (12, 16, 35))]))
        one = peer(array, grid, Prompts([inside, click(grid, (12, 16, 35), False)]))
        assert both[12, 16, 35] and not one[12, 16, 35] and one[12, 16, 17]


class Scripted:
    """Gives prepared masks, one per prompt."""

    needs_box = False
    cacheable = True
    name = "scripted"

    def __init__(self, masks):
        self.masks = masks
        self.calls = []

    def settings(self):
        return {}

    def open(self, volume):
        self.calls.append("open")

    def begin(self):
        self.calls.append("begin")
        self.left = list(self.masks)

    def _next(self):
        mask = self.left.pop(0)
        if isinstance(mask, Exception):
            raise mask
        return mask

    def box(self, low, high):
        self.calls.append(("box", low, high))
        return self._next()

    def click(self, ras, positive):
        self.calls.append(("click", ras, positive))
        return self._next()

    def stroke(self, points, positive):
        self.calls.append(("stroke", points, positive))
        return self._next()

    def predicted_iou(self):
        return round(0.1 * (len(self.masks) - len(self.left)), 1)

    def end(self):
        self.calls.append("end")


class TestSeries:
    def target(self):
        _, grid, mask = bright_ball()
        return simulate.Target(("case", "ball"), mask, grid, SurfaceScore(mask, grid.spacing_kji.tolist()))

    def test_clicks_follow_the_errors_until_none_is_left(self):
        target = self.target()
        half = target.mask.copy()
        half[:, :, 20:] = False
        method = Scripted([half, target.mask])
        series = simulate.run_series(method, target, "clicks", "tidy", 5, 0)
        assert series.at == [1, 2, 3, 4, 5]
        assert series.dice == [dice(target.mask, half), 1, 1, 1, 1] and series.nsd[1:] == [1] * 4
        assert len(series.seconds) == len(series.prompts) == 2
        assert series.iou == [pytest.approx(series.dice[0] / (2 - series.dice[0])), 1, 1, 1, 1]
        assert series.predicted == [0.1, 0.2, 0.2, 0.2, 0.2]
        signs = [call[2] for call in method.calls if call[0] == "click"]
        places = [target.grid.to_kji(call[1])[0] for call in method.calls if call[0] == "click"]
        assert signs == [True, True] and places[1][2] >= 20
        assert method.calls[0] == "begin" and method.calls[-1] == "end"

    def test_box_comes_first_and_counts_as_no_click(self):
        target = self.target()
        everything = np.ones_like(target.mask)
        method = Scripted([everything, target.mask])
        series = simulate.run_series(method, target, "box", "tidy", 3, 0)
        assert series.at == [0, 1, 2, 3] and series.dice[1:] == [1, 1, 1]
        assert method.calls[1][0] == "box" and method.calls[2][2] is False

    def test_strokes_follow_the_errors_and_stay_inside_them(self):
        target = self.target()
        leaking = np.ones_like(target.mask)
        method = Scripted([leaking, target.mask])
        series = simulate.run_series(method, target, "strokes", "tidy", 4, 0)
        assert series.at == [1, 2, 3, 4] and series.iou[1:] == [1, 1, 1] and len(series.prompts) == 2
        for (_, points, positive), region in zip(method.calls[1:3], (target.mask, ~target.mask), strict=True):
            places = np.round(target.grid.to_kji(points)).astype(int)
            assert len(places) > 3 and region[tuple(places.T)].all()
            assert positive == bool(target.mask[tuple(places[0])])
        assert series.prompts[1]["positive"] is False and len(series.prompts[0]["stroke"]) > 3

    def test_failure_keeps_the_mask_and_is_counted(self):
        target = self.target()
        half = target.mask.copy()
        half[:12] = False
        method = Scripted([half, RuntimeError("broken"), half.astype(int)])
        series = simulate.run_series(method, target, "clicks", "tidy", 3, 0, log=lambda text: None)
        assert series.failures == 2 and series.error == "RuntimeError: broken"
        assert series.dice == [dice(target.mask, half)] * 3
        assert series.predicted == [0.1, None, None]
        assert method.calls[-1] == "end"

    def test_untidy_depends_on_the_seed_alone(self):
        target = self.target()

        def prompts(seed):
            return simulate.run_series(
                Scripted([~target.mask] * 4), target, "box", "untidy", 3, seed, log=lambda text: None
            ).prompts

        assert prompts(1) == prompts(1) != prompts(2)


class TestReport:
    @staticmethod
    def row(structure, method, dice_values, series="clicks", **more):
        at = list(range(1, len(dice_values) + 1)) if series == "clicks" else list(range(len(dice_values)))
        row = {
            "case": "c", "structure": structure, "kind": "organ", "labels": "human", "ml": 1.0, "variant": "tidy",
            "series": series, "method": method, "at": at, "dice": dice_values, "nsd": dice_values, "seconds": [1.0],
            "failures": 0, "error": None, "cached": False,
        }  # fmt: skip
        return {**row, **more}

    def test_means_falls_and_share_reached(self):
        rows = [self.row("a", "m", [0.2, 0.9, 0.7]), self.row("b", "m", [0.4, 0.5, 0.6])]
        (entry,) = [item for item in report.summarise(rows) if item["group"] == "human-labelled structures"]
        assert entry["clicks"]["dice"] == pytest.approx([0.3, 0.7, 0.65])
        assert entry["clicks"]["dice_falls"] == [(3, 0.05)]
        assert entry["clicks"]["reached_080"] == 0.5
        assert entry["structures"] == 2 and entry["cases"] == 1

    def test_aims_hold_the_right_rows_and_the_lead_over_the_best_baseline(self):
        def both(structure, method, values, **more):
            more = {"modality": "CT", **more}
            return [
                self.row(structure, method, values, **more),
                self.row(structure, method, [0.0, 0.0, 0.5], series="box", **more),
            ]

        rows = [
            *both("a", "compact", [0.5, 0.6, 0.7]),
            *both("b", "compact", [0.7, 0.8, 0.9]),
            *both("a", "random-walker", [0.2] * 3),
            *both("a", "balls-15mm", [0.4] * 3),
            *both("a", "some-download", [0.9] * 3),
            *both("pet", "compact", [0.0] * 3, modality="PT"),  # no organs of PET in the aims
            *both("other", "compact", [0.0] * 3, labels="model"),
        ]
        ((title, header, cells),) = report.aims_tables(rows)
        assert "organs" in title and header[-2] == "box+2"
        lines = {line[0].split(" ")[0]: line for line in cells[1:-1]}
        assert lines["compact"][1:] == ["2", "0.600", "0.800", "-", "-", "0.500", "0.50"]
        assert cells[-1][2:] == ["+0.200", "+0.400", "-", "-", "+0.000", ""]

    def test_model_labels_and_lesions_stay_apart(self):
        rows = [
            self.row("a", "m", [0.2]),
            self.row("b", "m", [0.4], labels="model"),
            self.row("c", "m", [0.9], kind="lesion"),
        ]
        means = {entry["group"]: entry["clicks"]["dice"] for entry in report.summarise(rows)}
        assert means == {
            "human-labelled structures": [pytest.approx(0.55)],
            "human-labelled organs": [0.2],
            "human-labelled lesions": [0.9],
            "model-labelled structures (agreement with another model, not truth)": [0.4],
        }


@pytest.fixture
def data(tmp_path):
    """A data folder with one case: a bright ball, and a second structure that only masks/ has."""
    array, grid, mask = bright_ball()
    folder = tmp_path / "data" / "ball"
    (folder / "masks").mkdir(parents=True)
    lps = np.diag([-1.0, -1, 1, 1]) @ grid.ijk_to_ras
    for name, values in (
        ("image", array),
        ("labels", mask.astype(np.uint8) * 3),
        ("masks/twin", mask.astype(np.uint8)),
    ):
        image = sitk.GetImageFromArray(values)
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        image.SetSpacing(spacing.tolist())
        image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
        image.SetOrigin(lps[:3, 3].tolist())
        sitk.WriteImage(image, str(folder / f"{name}.nii.gz"))
    count = int(mask.sum())
    record = {
        "name": "ball",
        "modality": "MR",
        "labels_by": "human",
        "images": ["image.nii.gz"],
        "labels": "labels.nii.gz",
        "structures": {"ball": {"value": 3, "voxels": count}, "absent": {"value": 9, "voxels": 3}},
        "overlapping_masks": {
            "twin lesion": {"file": "masks/twin.nii.gz", "voxels": count},
            "PTV": {"file": "masks/none.nii.gz", "voxels": count},
        },
    }
    (tmp_path / "data" / "index.json").write_text(json.dumps({"cases": [record]}))
    return tmp_path / "data"


class TestCommand:
    def run(self, data, tmp_path, *more):
        out = tmp_path / "result"
        arguments = ["--data", str(data), "--out", str(out), "--clicks", "2", *more]
        return accuracy.main(arguments), out

    def test_from_folder_to_tables(self, data, tmp_path, capsys):
        status, out = self.run(data, tmp_path, "--methods", "balls-15mm", "box")
        assert status == 0
        document = json.loads(out.with_name("result.json").read_text())
        assert document["complete"] and document["skipped"] == {
            "ball": {"absent": "fewer than 30 voxels", "ptv": "no anatomy"}
        }
        rows = {(row["structure"], row["method"], row["series"]): row for row in document["rows"]}
        # The bare box needs a box: two structures, three rows each.
        assert len(rows) == 6 and ("ball", "box", "clicks") not in rows
        assert rows["twin_lesion", "box", "box"]["kind"] == "lesion"
        same = [rows[name, "balls-15mm", "clicks"]["dice"] for name in ("ball", "twin_lesion")]
        assert same[0] == same[1]
        assert document["environment"]["commit"] and document["environment"]["versions"]["numpy"] == np.__version__
        assert str(tmp_path) not in out.with_name("result.json").read_text()
        printed = capsys.readouterr().out
        for text in (printed, out.with_name("result.md").read_text()):
            assert "Dice, tidy prompts, human-labelled lesions" in text and "balls-15mm" in text

    def test_cache_is_used_only_when_named_and_only_while_nothing_changed(self, data, tmp_path, monkeypatch):
        def cached(*more):
            status, out = self.run(data, tmp_path, "--methods", "balls-15mm", *more)
            assert status == 0
            return [row["cached"] for row in json.loads(out.with_name("result.json").read_text())["rows"]]

        folder = ("--cache", str(tmp_path / "cache"))
        assert cached(*folder) == [False] * 4
        assert cached(*folder) == [True] * 4
        assert cached() == [False] * 4
        assert cached(*folder, "--seed", "1") == [False] * 4
        monkeypatch.setattr(baselines, "BALL_RADIUS_MM", 14.0)
        assert cached(*folder) == [False] * 4

    def test_own_models_are_never_cached(self):
        assert not methods.make("compact").cacheable
        assert Cache(None).get({"a": 1}) is None

    def test_unreadable_case_is_reported_and_the_status_says_so(self, data, tmp_path, capsys):
        (data / "ball" / "image.nii.gz").write_bytes(b"no image")
        status, _ = self.run(data, tmp_path, "--methods", "box")
        assert status == 1
        assert "FAILED case ball" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (("--cases", "nobody"), "no case is called nobody"),
            (("--kind", "lesion", "--structures", "ball"), "no structure is left"),
            (("--methods", "no-such-model"), "no-such-model"),
        ],
    )
    def test_wrong_use_is_one_sentence(self, data, tmp_path, capsys, more, message):
        status, _ = self.run(data, tmp_path, *more)
        assert status == 2
        assert message in capsys.readouterr().err

    def test_labels_on_another_grid_are_refused(self, data, tmp_path, capsys):
        path = str(data / "ball" / "labels.nii.gz")
        image = sitk.ReadImage(path)
        image.SetOrigin((0, 0, 0))
        sitk.WriteImage(image, path)
        status, _ = self.run(data, tmp_path, "--methods", "box", "--structures", "ball")
        assert status == 1
        assert "do not lie on the grid" in capsys.readouterr().out


def test_code_digest_ignores_layout_but_not_code(tmp_path):
    def digest(text):
        (tmp_path / "a.py").write_text(text)
        return environment.code_digest([tmp_path / "a.py"])

    first = digest('"""Doc."""\nX = 1  # one\ndef f():\n    "what"\n    return X\n')
    assert digest('"""Other."""\n\nX = 1\n\n\ndef f():\n    """Else."""\n    return X\n') == first
    assert digest('"""Doc."""\nX = 2\ndef f():\n    "what"\n    return X\n') != first
