# SPDX-License-Identifier: Apache-2.0
"""Makes the segments of a file anew from the prompts that are stored with them, and compares."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .catalogue import USER_FILE, load_recorded
from .errors import ModelError, PromptError, SegmentationFileError, VolumeError
from .predictor import Progress
from .prompts import Round, rounds_from_list
from .segmentation_io import SUFFIX, SegmentationFile, SegmentRecord
from .session import PROMPTS_TAG, PROVENANCE_TAG, SegmentationSession
from .volume import Volume
from .volume_io import read_volume

BoolArray = npt.NDArray[np.bool_]

IMAGE_SUFFIXES = (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd", ".zip")
IDENTICAL, DIFFERENT, SKIPPED = "identical", "different", "skipped"


@dataclass(frozen=True)
class StoredSegment:
    """A segment of a file with what it says of its origin; without rounds it was not made from prompts."""

    record: SegmentRecord
    rounds: tuple[Round, ...]
    provenance: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Of the volume that it was made from; empty if it does not say."""
        return str(self.provenance.get("volume", ""))


@dataclass(frozen=True)
class ReplayedSegment:
    """What came of one segment.

    Attributes:
        record: the new segment, mask (k, j, i) on the volume's grid; the stored one where it was skipped.
        status: "identical" (bit for bit), "different" or "skipped" (no prompts are stored with it).
        voxels: size of the new mask.
        differing_voxels: those in only one of the two masks.
        dice: overlap of the two masks, 1 for two empty ones.
        notes: sentences about a model, device or software other than recorded.
    """

    record: SegmentRecord
    status: str
    voxels: int
    differing_voxels: int = 0
    dice: float = 1.0
    notes: tuple[str, ...] = field(default=())


def stored_segments(file: SegmentationFile) -> list[StoredSegment]:
    """The segments of a file; SegmentationFileError where their prompts or provenance are damaged."""
    result = []
    for record in file.records:
        try:
            prompts = json.loads(record.tags.get(PROMPTS_TAG, "null"))
            provenance = json.loads(record.tags.get(PROVENANCE_TAG, "{}"))
            rounds = rounds_from_list(prompts) if prompts else ()
        except (ValueError, PromptError) as error:
            raise SegmentationFileError(
                f'The prompts stored with segment "{record.name}" are damaged, so that it cannot be replayed; '
                "segment it again."
            ) from error
        result.append(StoredSegment(record, rounds, provenance if isinstance(provenance, dict) else {}))
    return result


def find_volume(
    fingerprint: str, folders: Sequence[Path], looking_at: Callable[[Path], None] | None = None
) -> tuple[Path, Volume] | None:
    """The image file in one of the folders (not below them) that has this fingerprint, read; None if none has."""
    for path in _image_files(folders):
        if looking_at is not None:
            looking_at(path)
        try:
            volume = read_original(path)
        except VolumeError:
            continue  # not the one, since that one could be read
        if volume.fingerprint == fingerprint:
            return path, volume
    return None


def read_original(path: Path, series: str | None = None) -> Volume:
    """The volume as it was when it was segmented: values that are not finite can only have been replaced."""
    return read_volume(path, series=series, nonfinite="minimum")


def replay(
    volume: Volume,
    file: SegmentationFile,
    device: str | None = None,
    progress: Callable[[str], Progress | None] | None = None,
) -> list[ReplayedSegment]:
    """Replays all segments of a file on the volume that they were made from.

    Args:
        device: where to run; None is where each segment was made, or "auto" where that is not available.
        progress: gives the callback for the segment of a name.

    Raises:
        SegmentationFileError: if there are no prompts in the file.
        VolumeError: if a segment was made from another volume.
        ModelError: if a model is not there.
    """
    stored = stored_segments(file)
    if not any(segment.rounds for segment in stored):
        raise SegmentationFileError(
            "No segment of the file carries prompts, so nothing can be replayed; choose a file of FoundationSeg's."
        )
    if any(segment.rounds and segment.fingerprint != volume.fingerprint for segment in stored):
        raise VolumeError(
            "The segments were not made from this volume (its fingerprint is another); give the very file or series "
            "that was segmented, since even the same image in another format can differ."
        )
    sessions: dict[tuple[str, str], SegmentationSession] = {}
    result = []
    for segment in stored:
        before = onto_grid(file, segment.record.mask, volume)
        if not segment.rounds:
            kept = np.zeros(volume.shape, bool) if before is None else before
            result.append(ReplayedSegment(_renewed(segment.record, kept), SKIPPED, int(kept.sum())))
            continue
        session, notes = _session(volume, segment.provenance, device, sessions)
        name = segment.record.name
        session.remove(name)
        for round_ in segment.rounds:
            session.add(name, *round_, progress=progress(name) if progress else None)
        after = session.mask(name)
        record = _renewed(segment.record, after, session.tags(name))
        notes = (*notes, *_other_software(segment.provenance, session.provenance(name)))
        result.append(_compared(record, before, segment.record.mask, notes))
    return result


def onto_grid(file: SegmentationFile, mask: BoolArray, volume: Volume) -> BoolArray | None:
    """A file's mask on the volume's grid (k, j, i); None where the two grids are not parts of the same one.

    3D Slicer crops what it saves, so that the file's grid may begin at another voxel; voxels beyond the volume would be
    lost, and so they give None too.
    """
    matrix = volume.ras_to_ijk @ file.ijk_to_ras
    offset = np.rint(matrix[:3, 3]).astype(int)[::-1]
    if not np.allclose(matrix[:3, :3], np.eye(3), atol=1e-4) or np.abs(matrix[:3, 3] - offset[::-1]).max() > 1e-2:
        return None
    result = np.zeros(volume.shape, dtype=bool)
    voxels = np.argwhere(mask) + offset
    if len(voxels) and ((voxels < 0).any() or (voxels >= volume.shape).any()):
        return None
    result[tuple(voxels.T)] = True
    return result


def _image_files(folders: Sequence[Path]) -> Iterator[Path]:
    seen: set[Path] = set()
    for folder in folders:
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            name = path.name.lower()
            is_image = name.endswith(IMAGE_SUFFIXES) and not name.endswith(SUFFIX)
            if is_image and path.is_file() and (real := path.resolve()) not in seen:
                seen.add(real)
                yield path


def _session(
    volume: Volume, provenance: dict[str, Any], device: str | None, sessions: dict[tuple[str, str], SegmentationSession]
) -> tuple[SegmentationSession, tuple[str, ...]]:
    """The session with the recorded model, on the wished or recorded device, and what is to be said of the choice."""
    model, recorded = str(provenance.get("model", "")), str(provenance.get("device", "auto"))
    revision, sha256 = str(provenance.get("revision", "")), str(provenance.get("sha256", ""))
    notes: tuple[str, ...] = ()
    wanted = device or recorded
    key = (f"{model} {sha256 if revision == USER_FILE else ''}", wanted)
    if key not in sessions:
        try:
            sessions[key] = SegmentationSession(volume, load_recorded(model, wanted, revision, sha256), wanted)
        except ModelError:
            if device is not None or recorded == "auto":
                raise
            sessions[key] = SegmentationSession(volume, load_recorded(model, "auto", revision, sha256), "auto")
    session = sessions[key]
    used = session.model.identity.device
    if used != recorded:
        notes = (f'It was made on "{recorded}" and replayed on "{used}".',)
    return session, notes


def _other_software(recorded: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    if (recorded.get("revision"), recorded.get("sha256")) != (now["revision"], now["sha256"]):
        yield (
            f"It was made by {recorded.get('model')} revision {recorded.get('revision')} "
            f"(sha256 {str(recorded.get('sha256'))[:12]}...), and this is revision {now['revision']} "
            f"(sha256 {now['sha256'][:12]}...)."
        )
    if recorded.get("software") != now["software"]:
        yield f"It was made by {recorded.get('software')}, and this is {now['software']}."
    before, after = recorded.get("versions", {}), now["versions"]
    if others := [name for name in before if name in after and before[name] != after[name]]:
        yield f"It was made with {', '.join(f'{name} {before[name]} (now {after[name]})' for name in others)}."


def _renewed(record: SegmentRecord, mask: BoolArray, tags: dict[str, str] | None = None) -> SegmentRecord:
    return SegmentRecord(
        record.name, mask, record.color, record.terminology, {**record.tags, **(tags or {})}, record.segment_id
    )


def _compared(
    record: SegmentRecord, before: BoolArray | None, stored: BoolArray, notes: tuple[str, ...]
) -> ReplayedSegment:
    voxels = int(record.mask.sum())
    if before is None:
        note = "The stored mask does not lie on the volume's grid, so the two cannot be compared voxel by voxel."
        return ReplayedSegment(record, DIFFERENT, voxels, voxels + int(stored.sum()), 0.0, (*notes, note))
    differing = int((before ^ record.mask).sum())
    both = int(before.sum()) + voxels
    dice = (both - differing) / both if both else 1.0
    return ReplayedSegment(record, DIFFERENT if differing else IDENTICAL, voxels, differing, dice, notes)
