# SPDX-License-Identifier: Apache-2.0
"""Segment every volume of a folder from its prompt file, without a scene: in PythonSlicer or any other Python.

For case1.nrrd (or .nii.gz, .mha, or a folder case1 with DICOM images) the prompts are in case1.prompts.json; the
README describes that file. FOLDER_OF_THE_MODULE is the one that holds FoundationSeg.py.

    PythonSlicer batch_python_example.py INPUT_FOLDER OUTPUT_FOLDER FOLDER_OF_THE_MODULE

Where the package is installed with pip, the third argument is not needed.
"""

import sys
from pathlib import Path

sys.path[1:1] = sys.argv[3:4]
from FoundationSegLib import SegmentationSession, Volume  # noqa: E402  # where the line above says
from FoundationSegLib.errors import FoundationSegError  # noqa: E402
from FoundationSegLib.prompts import load_prompts  # noqa: E402


def segment_case(volume_file: Path, prompt_file: Path, target: Path) -> None:
    session = SegmentationSession(Volume.read(volume_file))
    for segment in load_prompts(prompt_file):
        for prompts in segment.rounds:
            result = session.add(segment.name, *prompts)
        print(f"{volume_file.name}: {segment.name}, {result.volume_ml:.1f} mL")
    session.save(target)


def main(source: Path, target: Path) -> int:
    target.mkdir(parents=True, exist_ok=True)
    failed = 0
    for prompt_file in sorted(source.glob("*.prompts.json")):
        case = prompt_file.name.removesuffix(".prompts.json")
        try:
            names = [path for path in source.iterdir() if path.name.partition(".")[0] == case]
            volumes = [path for path in names if path.name.endswith((".nrrd", ".nii.gz", ".mha")) or path.is_dir()]
            if len(volumes) != 1:
                raise FoundationSegError(f"there are {len(volumes)} volumes for these prompts, not one.")
            segment_case(volumes[0], prompt_file, target / f"{case}.seg.nrrd")
        except FoundationSegError as error:  # the other cases go on
            failed += 1
            print(f"{prompt_file.name}: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
