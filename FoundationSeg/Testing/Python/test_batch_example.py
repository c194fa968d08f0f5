# SPDX-License-Identifier: Apache-2.0
"""The batch script of the README, run on files as it stands, with the embedded model."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from FoundationSegLib import Volume
from FoundationSegLib.segmentation_io import read_segmentation
from image_files import affine
from scene_case import SceneTestCase, loadModule, slicer, vtk

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "Testing" / "batch_example.py"
CENTRE, RADIUS = np.array((20.0, -30.0, 45.0)), 12.0  # of a ball, RAS mm


def write_case(folder: Path, name: str) -> None:
    """A bright ball in an anisotropic volume, and a point in its middle."""
    matrix = affine(np.diag([1.5, 1.5, 2.0]), (-20, -70, 10))
    k, j, i = np.indices((36, 56, 56))
    ras = np.stack([i, j, k, np.ones_like(i)], axis=-1) @ matrix.T
    ball = np.linalg.norm(ras[..., :3] - CENTRE, axis=-1) <= RADIUS
    voxels = np.where(ball, 120, -40) + np.random.default_rng(0).normal(scale=10, size=ball.shape)
    sitk.WriteImage(Volume(voxels.astype(np.int16), matrix).to_sitk(), str(folder / f"{name}.nrrd"))


def write_points(path: Path, *positions: np.ndarray) -> None:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    for position in positions:
        node.AddControlPointWorld(vtk.vtkVector3d(*position))
    assert slicer.util.saveNode(node, str(path))
    slicer.mrmlScene.RemoveNode(node)


def run(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(source), str(target)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return int(str(ended.value.code))


def test_every_case_of_the_folder_gets_its_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loadModule()
    SceneTestCase("run").setUp()
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("case1", "case2"):
        write_case(source, name)
    write_points(source / "case1.Ball.mrk.json", CENTRE)
    write_points(source / "case1.Air beside it.mrk.json", CENTRE + np.array((0, 25, 0)))
    write_points(source / "case2.Ball.mrk.json", CENTRE)
    assert run(source, target, monkeypatch) == 0
    records = {record.name: record for record in read_segmentation(target / "case1.seg.nrrd").records}
    assert set(records) == {"Ball", "Air beside it"}
    volume = Volume.read(source / "case1.nrrd")
    expected = 4 / 3 * np.pi * RADIUS**3 / 1000
    (ball,) = (r for r in read_segmentation(target / "case2.seg.nrrd").records if r.name == "Ball")
    millilitres = ball.mask.sum() * np.prod(volume.spacing_mm) / 1000
    assert 0.7 * expected < millilitres < 1.3 * expected


def test_a_case_that_fails_is_named_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loadModule()
    SceneTestCase("run").setUp()
    for name in ("case1", "case2"):
        write_case(tmp_path, name)
    write_points(tmp_path / "case1.Ball.mrk.json", CENTRE + 500)
    write_points(tmp_path / "case2.Ball.mrk.json", CENTRE)
    assert run(tmp_path, tmp_path / "out", monkeypatch) == 1
    output = capsys.readouterr()
    assert output.err.startswith("case1.nrrd: ") and "outside" in output.err
    assert output.out.startswith("case2: Ball, ")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["case2.seg.nrrd"]


def test_the_same_without_a_scene_in_a_python_of_its_own(tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    point = {"type": "point", "ras": CENTRE.tolist()}
    prompts = json.dumps({"segments": [{"name": "Ball", "prompts": [point]}]})
    for name in ("case1", "case2"):
        (source / f"{name}.prompts.json").write_text(prompts, encoding="utf-8")
    write_case(source, "case2")
    arguments = [str(source), str(target), str(ROOT / "FoundationSeg")]
    script = ROOT / "Testing" / "batch_python_example.py"
    result = subprocess.run(
        [sys.executable, str(script), *arguments], check=False, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 1
    assert result.stderr == "case1.prompts.json: there are 0 volumes for these prompts, not one.\n"
    assert result.stdout.startswith("case2.nrrd: Ball, ")
    assert [path.name for path in target.iterdir()] == ["case2.seg.nrrd"]


def test_the_readme_shows_the_script_as_it_is() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    code = SCRIPT.read_text(encoding="utf-8").partition("import sys\n")
    assert code[1] + code[2] in blocks
