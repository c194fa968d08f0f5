# SPDX-License-Identifier: Apache-2.0
"""The labelled cases of a data folder: what is measured, what is left out and why.

A folder holds `index.json` (`{"cases": [{name, images, labels, structures, labels_by, ...}]}`) and one sub-folder per
case. The rules, all of them visible in the report:

* structures that are no anatomy (planning volumes PTV/CTV/ITV, the patient's outline) are skipped;
* structures with fewer than 30 voxels are skipped;
* a structure that `masks/` holds as a file of its own is read from there: in `labels.nii.gz` a neighbour drawn later
  may have cut a piece out of it; structures that only `masks/` has are added;
* of several images the first is used, but FLAIR where there is one for an oedema, which the others hardly show;
* a case that is the same patient as another one (`ct_lung_ibsi_phantom`) is skipped unless it is asked for by name;
* a model-labelled case with very many structures is thinned to an even choice over size (`thin`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .metrics import BoolArray

MIN_VOXELS = 30
# The IBSI phantom is the patient of ct_lung1_002 (voxel correlation 0.99998): counted once.
SAME_PATIENT = {"ct_lung_ibsi_phantom": "ct_lung1_002"}
NOT_ANATOMY_TOKENS = frozenset({"ptv", "ctv", "itv"})
NOT_ANATOMY_NAMES = frozenset({"patient", "body", "external", "skin", "background"})
# fmt: off
LESION_TOKENS = frozenset({
    "gtv", "lesion", "lesions", "tumour", "tumours", "tumor", "tumors", "oedema", "edema", "necrosis", "mass",
    "metastasis", "metastases", "nodule", "cyst", "cancer", "carcinoma", "sarcoma", "glioma", "infarct", "stroke",
    "haemorrhage", "hemorrhage", "haematoma", "hematoma", "aneurysm",
})
# fmt: on
OEDEMA_TOKENS = frozenset({"oedema", "edema"})


class DataError(Exception):
    """The data folder cannot be used; the sentence says what to do."""


def tokens(name: str) -> list[str]:
    """The words of a structure's name, lower case, without digits: `PTV56` -> ["ptv"], `gtv_1` -> ["gtv"]."""
    return re.findall(r"[a-z]+", name.lower())


def normalised(name: str) -> str:
    """One spelling for one structure: `Lung L` and `lung_left` -> `lung_left`, `GTV-1` -> `gtv_1`."""
    text = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return re.sub(r"_l$", "_left", re.sub(r"_r$", "_right", text))


def is_anatomy(name: str) -> bool:
    """False for planning volumes and for the patient's outline."""
    return not NOT_ANATOMY_TOKENS.intersection(tokens(name)) and "_".join(tokens(name)) not in NOT_ANATOMY_NAMES


def kind_of(name: str) -> str:
    """`lesion` when a word of the name says so, else `organ`."""
    return "lesion" if LESION_TOKENS.intersection(tokens(name)) else "organ"


def labels_group(labels_by: str) -> str:
    """`human`, `model`, or `unclear` when the index does not begin with either word."""
    first = re.match(r"\s*(human|model)\b", labels_by.lower())
    return first.group(1) if first else "unclear"


def modality_code(text: str) -> str | None:
    """DICOM code of the index's free text ("MR T1 (crop)" -> "MR", "PET (SUV)" -> "PT"), None when unknown."""
    first = re.match(r"\s*(CT|MR|PET|US)\b", text)
    return {"CT": "CT", "MR": "MR", "PET": "PT", "US": "US"}[first.group(1)] if first else None


@dataclass(frozen=True)
class Structure:
    """One thing to segment. `value` is its label in labels.nii.gz, or None when `mask` names its own file."""

    name: str
    kind: str
    image: str
    voxels: int
    value: int | None = None
    mask: str | None = None


@dataclass(frozen=True)
class Case:
    """One labelled volume (with several images, several volumes on one grid).

    `patient` is the same for cases of one person; `licence` and `source` (a public repository) are the index's words.
    """

    name: str
    folder: Path
    modality: str | None
    labels_by: str
    group: str
    labels: str
    structures: tuple[Structure, ...]
    skipped: dict[str, str] = field(default_factory=dict)
    patient: str = ""
    licence: str = ""
    source: str = ""

    def reference(self, structure: Structure) -> tuple[BoolArray, NDArray[np.float64]]:
        """The structure's reference mask (k, j, i) and the grid's IJK-to-RAS matrix, both from the file."""
        array, matrix = _read_labels(self.folder / (structure.mask or self.labels))
        return (array != 0) if structure.value is None else (array == structure.value), matrix

    def sha256(self, structure: Structure) -> str:
        """Checksum of the voxels' and the labels' files, the part of a cache key that says which data it was."""
        digest = hashlib.sha256()
        for name in (structure.image, structure.mask or self.labels):
            digest.update(_file_sha256(self.folder / name).encode())
        return digest.hexdigest()


_LABELS: dict[Path, tuple[NDArray[Any], NDArray[np.float64]]] = {}
_SHA256: dict[Path, str] = {}


def _read_labels(path: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    # One entry is enough: the structures of a case are measured one after the other.
    if path not in _LABELS:
        import SimpleITK

        image: Any = SimpleITK.ReadImage(str(path))
        direction = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = direction, image.GetOrigin()
        _LABELS.clear()
        _LABELS[path] = (SimpleITK.GetArrayFromImage(image), np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix)
    return _LABELS[path]


def _file_sha256(path: Path) -> str:
    if path not in _SHA256:
        with path.open("rb") as stream:
            _SHA256[path] = hashlib.file_digest(stream, "sha256").hexdigest()
    return _SHA256[path]


def _image_for(name: str, images: Sequence[str]) -> str:
    if OEDEMA_TOKENS.intersection(tokens(name)):
        for image in images:
            if "flair" in image.lower():
                return image
    return images[0]


def parse_case(record: dict[str, Any], root: Path) -> Case:
    """One case of `index.json`, with what was left out and why in `skipped`."""
    own_files = {
        normalised(name): (entry["file"], int(entry["voxels"]))
        for name, entry in (record.get("overlapping_masks") or {}).items()
    }
    entries: dict[str, tuple[int | None, str | None, int]] = {}
    for name, entry in record["structures"].items():
        if normalised(name) in own_files:
            file, voxels = own_files.pop(normalised(name))
            entries[name] = (None, file, voxels)
        else:
            entries[name] = (int(entry["value"]), None, int(entry["voxels"]))
    entries.update({name: (None, file, voxels) for name, (file, voxels) in own_files.items()})
    structures, skipped = [], {}
    for name, (value, mask, voxels) in entries.items():
        if not is_anatomy(name):
            skipped[name] = "no anatomy"
        elif voxels < MIN_VOXELS:
            skipped[name] = f"fewer than {MIN_VOXELS} voxels"
        else:
            structures.append(Structure(name, kind_of(name), _image_for(name, record["images"]), voxels, value, mask))
    return Case(
        name=record["name"],
        folder=root / record["name"],
        modality=modality_code(record.get("modality", "")),
        labels_by=record["labels_by"],
        group=labels_group(record["labels_by"]),
        labels=record["labels"],
        structures=tuple(structures),
        skipped=skipped,
        # Several scans of one person are not independent of each other.
        patient=record.get("patient") or SAME_PATIENT.get(record["name"], record["name"]),
        licence=record.get("licence", ""),
        source=record.get("repo", ""),
    )


def load_cases(root: Path) -> list[Case]:
    """Every case of a data folder, in name order. Raises DataError when the folder is not one."""
    index = root / "index.json"
    if not index.is_file():
        raise DataError(f"{root} has no index.json; name a folder of labelled cases with --data")
    records = json.loads(index.read_text(encoding="utf-8"))["cases"]
    return sorted((parse_case(record, root) for record in records), key=lambda case: case.name)


def thin(structures: Sequence[Structure], most: int) -> tuple[Structure, ...]:
    """At most `most` structures, evenly spaced in the order of their size; the same choice every time."""
    if len(structures) <= most:
        return tuple(structures)
    by_size = sorted(structures, key=lambda structure: (structure.voxels, structure.name))
    chosen = {by_size[int(at)].name for at in np.round(np.linspace(0, len(by_size) - 1, most))}
    return tuple(structure for structure in structures if structure.name in chosen)


def choose(
    cases: Iterable[Case],
    *,
    names: Sequence[str] = (),
    structures: Sequence[str] = (),
    group: str | None = None,
    kind: str | None = None,
    most: int | None = None,
    most_model: int | None = None,
) -> list[Case]:
    """The cases that remain after the command line's filters; empty cases fall out.

    `names` and `structures` are exact; a name that nothing has is an error, so that a typing mistake is not a table
    of fewer rows. `most` caps every case, `most_model` only the model-labelled ones.
    """
    every = list(cases)
    for wanted, known, what in (
        (names, {case.name for case in every}, "case"),
        (structures, {structure.name for case in every for structure in case.structures}, "structure"),
    ):
        unknown = sorted(set(wanted) - known)
        if unknown:
            raise DataError(f"no {what} is called {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    result = []
    for case in every:
        if (names and case.name not in names) or (not names and case.name in SAME_PATIENT):
            continue
        if group and case.group != group:
            continue
        kept = tuple(
            structure
            for structure in case.structures
            if (not structures or structure.name in structures) and (kind is None or structure.kind == kind)
        )
        caps = [cap for cap in (most, most_model if case.group == "model" else None) if cap]
        kept = thin(kept, min(caps)) if caps else kept
        if kept:
            fields = {**case.__dict__, "structures": kept}
            result.append(Case(**fields))
    return result
