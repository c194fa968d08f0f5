# SPDX-License-Identifier: Apache-2.0
"""Slicer's own public sample volumes, listed under this module's name in Sample Data: what the tutorial begins with.

The files are those that Slicer offers itself, from the same place and under the same names, so that none is downloaded
or kept twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import slicer
from slicer.i18n import tr as _

CATEGORY = "FoundationSeg"


@dataclass(frozen=True)
class Sample:
    """A volume of Slicer's sample data; `name` is shown, `nodeName` also finds Slicer's thumbnail."""

    name: str
    fileName: str
    nodeName: str
    sha256: str


SAMPLES = (
    Sample(
        "Chest CT: lungs",
        "CT-chest.nrrd",
        "CTChest",
        "4507b664690840abb6cb9af2d919377ffc4ef75b167cb6fd0f747befdb12e38e",
    ),
    Sample(
        "Abdominal CT: liver, kidneys",
        "CTLiver.nrrd",
        "CTLiver",
        "e16eae0ae6fefa858c5c11e58f0f1bb81834d81b7102e021571056324ef6f37e",
    ),
    Sample(
        "Brain MR: tumour",
        "RegLib_C01_1.nrrd",
        "MRBrainTumor1",
        "998cb522173839c78657f4bc0ea907cea09fd04e44601f17c82ea27927937b95",
    ),
)


def registerSampleData() -> None:
    """Add the samples to the Sample Data module. Nothing is downloaded before a person asks for one there."""
    from SampleData import SampleDataLogic

    if hasattr(SampleDataLogic, "registerCustomSampleDataCategory"):  # 3D Slicer 5.12 and later
        SampleDataLogic.registerCustomSampleDataCategory(CATEGORY, title=_("FoundationSeg"))
    for sample in SAMPLES:
        SampleDataLogic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=sample.name,
            uris=f"{slicer.util.TESTING_DATA_URL}SHA256/{sample.sha256}",
            fileNames=sample.fileName,
            nodeNames=sample.nodeName,
            checksums=f"SHA256:{sample.sha256}",
        )
