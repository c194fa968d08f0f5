# SPDX-License-Identifier: Apache-2.0
"""Sample data are registered with the Sample Data module of 3D Slicer 5.10 as well as with that of 5.12."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
from scene_case import loadModule, slicer


class Logic510:
    """The part of SampleDataLogic that is called, with the parameters that 3D Slicer 5.10 knows."""

    sources: list[dict[str, Any]]

    @classmethod
    def registerCustomSampleDataSource(
        cls,
        category: str = "Custom",
        sampleName: str | None = None,
        uris: str | None = None,
        fileNames: str | None = None,
        nodeNames: str | None = None,
        customDownloader: Any = None,
        thumbnailFileName: str | None = None,
        loadFileType: str = "VolumeFile",
        loadFiles: Any = None,
        loadFileProperties: Any = None,
        checksums: str | None = None,
    ) -> None:
        cls.sources.append({"category": category, "name": sampleName, "uri": uris, "sum": checksums, "file": fileNames})


class Logic512(Logic510):
    titles: dict[str, str]

    @classmethod
    def registerCustomSampleDataCategory(cls, category: str, title: str) -> None:
        cls.titles[category] = title


@pytest.mark.parametrize("logic", [Logic510, Logic512])
def test_samples_are_registered_when_the_application_has_started(logic: type, monkeypatch: pytest.MonkeyPatch) -> None:
    logic.sources, logic.titles = [], {}  # type: ignore[attr-defined]
    module = ModuleType("SampleData")
    module.SampleDataLogic = logic  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "SampleData", module)
    loadModule()
    slicer.app.emit("startupCompleted")
    assert len(logic.sources) >= 3
    assert logic.titles == ({"FoundationSeg": "FoundationSeg"} if logic is Logic512 else {})
    for source in logic.sources:
        assert source["category"] == "FoundationSeg"
        algorithm, _, digest = source["sum"].partition(":")
        assert algorithm == "SHA256" and len(digest) == 64 and source["uri"].endswith(f"SHA256/{digest}")
        assert source["uri"].startswith("https://github.com/Slicer/SlicerTestingData/")
        assert source["file"].endswith(".nrrd")
