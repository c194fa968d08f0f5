# SPDX-License-Identifier: Apache-2.0
"""The case of the demo: a real chest CT with reference segments that comes with slicerio, and prompts for it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from .errors import FoundationSegError
from .resources import resource_folder
from .segmentation_io import read_segmentation
from .session import SegmentationSession

_VOLUME, _REFERENCE = "CTChest4.nrrd", "Segmentation.seg.nrrd"


@dataclass(frozen=True)
class DemoCase:
    """Files of the demo, and the modality, which a NRRD file does not say."""

    volume: Path
    reference: Path
    prompts: Path
    modality: str


def demo_case() -> DemoCase:
    """Raises FoundationSegError if slicerio comes without its sample."""
    spec = find_spec("slicerio")
    folder = Path(spec.origin).parent / "data" if spec is not None and spec.origin else Path()
    case = DemoCase(folder / _VOLUME, folder / _REFERENCE, resource_folder("Demo") / "chest_ct.prompts.json", "CT")
    if not (case.volume.is_file() and case.reference.is_file()):
        raise FoundationSegError(
            "The sample CT, which comes with the package slicerio, is not here; run the demo on a volume of your own "
            "(foundation-seg demo VOLUME --prompts FILE)."
        )
    return case


def reference_dice(session: SegmentationSession, reference: Path) -> dict[str, float]:
    """Dice overlap with the reference segment of the same name (letter case aside), by segment; 1 is perfect."""
    masks = {record.name.lower(): record.mask for record in read_segmentation(reference).records}
    result = {}
    for name in session.segments():
        if (expected := masks.get(name.lower())) is not None and expected.shape == session.volume.shape:
            found = session.mask(name)
            total = int(found.sum()) + int(expected.sum())
            result[name] = 2 * int((found & expected).sum()) / total if total else 1.0
    return result
