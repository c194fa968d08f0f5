# SPDX-License-Identifier: Apache-2.0
"""Segment every volume of a folder from the markups that lie beside it, in 3D Slicer without a window.

For case1.nrrd, the points, ROI or curve in "case1.Left lung.mrk.json" give the segment "Left lung", those in
"case1.Liver.mrk.json" the segment "Liver", and so on; points described as "negative" lie beside the structure.

    Slicer --no-splash --no-main-window --python-script batch_example.py INPUT_FOLDER OUTPUT_FOLDER
"""

import sys
from pathlib import Path

import slicer
from FoundationSegLib import mrml
from FoundationSegLib.errors import FoundationSegError

from FoundationSeg import FoundationSegLogic


def segmentCase(logic: FoundationSegLogic, volumeFile: Path, target: Path) -> None:
    slicer.mrmlScene.Clear()
    volumeNode = slicer.util.loadVolume(str(volumeFile))
    segmentationNode = mrml.createSegmentation(volumeNode)
    case = volumeFile.name.removesuffix(".nrrd")
    for markupsFile in sorted(volumeFile.parent.glob(f"{case}.*.mrk.json")):
        name = markupsFile.name.removeprefix(f"{case}.").removesuffix(".mrk.json")
        markupsNode = slicer.util.loadMarkups(str(markupsFile))
        segmentId = mrml.addSegment(segmentationNode, name)
        result = logic.segment(volumeNode, [markupsNode], segmentationNode, segmentId)
        print(f"{case}: {name}, {result.volume_ml:.1f} mL")
    slicer.util.saveNode(segmentationNode, str(target / f"{case}.seg.nrrd"))


def main(source: Path, target: Path) -> int:
    target.mkdir(parents=True, exist_ok=True)
    logic = FoundationSegLogic()
    failed = 0
    for volumeFile in sorted(source.glob("*.nrrd")):
        if volumeFile.name.endswith(".seg.nrrd"):
            continue
        try:
            segmentCase(logic, volumeFile, target)
        except (FoundationSegError, RuntimeError) as error:  # the other cases go on
            failed += 1
            print(f"{volumeFile.name}: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
