# SPDX-License-Identifier: Apache-2.0
"""The README keeps its word: its links lead somewhere, its commands are understood, its code runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from FoundationSegLib import Volume
from FoundationSegLib.cli import _joined, _parser
from FoundationSegLib.segmentation_io import read_segmentation
from image_files import affine

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line for _, block in BLOCKS for line in block.splitlines() if line.startswith("foundation-seg ")]
LINKS = [link for link in re.findall(r"\]\(([^)#\s]+)\)", README) if not link.startswith("http")]


def test_there_is_something_to_check() -> None:
    assert len(COMMANDS) >= 5 and LINKS


@pytest.mark.parametrize("link", LINKS)
def test_links_within_the_repository_lead_somewhere(link: str) -> None:
    assert (ROOT / link).is_file()


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_are_understood(line: str) -> None:
    assert callable(_parser().parse_args(_joined(shlex.split(line)[1:])).run)


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a volume around its clicks; what the model makes of noise does not matter."""
    code = next(block for language, block in BLOCKS if language == "python" and "Volume.read" in block)
    voxels = np.random.default_rng(1).normal(size=(40, 40, 40)).astype(np.float32)
    matrix = affine(np.diag([4.0, 4.0, 4.0]), (-120, -110, 30))
    sitk.WriteImage(Volume(voxels, matrix).to_sitk(), str(tmp_path / "ct.nrrd"))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    mask = names["mask"]
    assert isinstance(mask, np.ndarray) and mask.shape == voxels.shape
    assert [record.name for record in read_segmentation(tmp_path / "kidney.seg.nrrd").records] == ["Left kidney"]
