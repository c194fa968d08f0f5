# SPDX-License-Identifier: Apache-2.0
"""What the commands do, without reading a command line or printing: each returns a report for people and programs."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .atomic import atomic_output
from .catalogue import EMBEDDED, ModelCard, load_model, model_card
from .cli_base import Report
from .demo import reference_dice
from .errors import ModelTooLarge, OutputError, PromptError, SegmentationFileError, VolumeError
from .measure_table import Measures, format_table, measure_segment, write_table
from .predictor import CancelToken, Progress
from .prompts import SegmentPrompts
from .replay import DIFFERENT, SKIPPED, ReplayedSegment, find_volume, read_original, stored_segments
from .replay import replay as replay_segments
from .segmentation_io import SegmentationFile, read_segmentation, write_segmentation
from .segmenter import Model
from .session import Result, SegmentationSession
from .volume import NonFinite, Volume

FOOTER = (
    "Drawn by foundation-seg, without 3D Slicer. Radiological convention: the patient's right is on the left. "
    "Faint marks lie on other planes. Not for clinical use."
)


class Listener:
    """Told what a command is doing; this one keeps it to itself. Its `cancel` ends the work on a model's weights."""

    cancel: CancelToken | None = None

    def say(self, text: str) -> None:
        """A line for the user."""

    def progress(self, segment: str) -> Progress | None:
        """The callback that is told of a segment's stages."""
        return None

    def weights(self, name: str) -> Progress | None:
        """The callback that is told how getting and checking a model's weights goes on."""
        return None

    def consent(self, card: ModelCard) -> bool:
        """Whether the user, shown the card's licence, accepts it."""
        return False


@dataclass(frozen=True)
class SegmentJob:
    """What `segment` was asked for. `out`, `picture` and `table` are files; `reference` segments are compared with."""

    volume: Path
    plan: Sequence[SegmentPrompts]
    out: Path
    picture: Path | None = None
    table: Path | None = None
    series: str | None = None
    nonfinite: NonFinite = "error"
    modality: str | None = None
    model: str | None = None  # the embedded one, or the one that the checkpoint fits
    device: str = "auto"
    reference: Path | None = None
    checkpoint: Path | None = None  # the user's own weights of the model's architecture
    fallback: str | None = None  # the model to use where `model` does not fit in memory


@dataclass
class _Timer:
    """Seconds per stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)


def segment(job: SegmentJob, listener: Listener) -> Report:
    """Segments a volume and writes the results. Raises FoundationSegError; outputs that were there stay until then."""
    names = [item.name for item in job.plan]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise PromptError(
            f"The prompts name {_quoted(repeated)} more than once; give each segment one entry with all its prompts."
        )
    for path in (job.out, job.picture, job.table):
        _require_folder(path)
    timer = _Timer()
    with timer.stage("model"):  # first, because a wrong name or device shows at once and a volume takes its time
        model = _load(job, listener)
    listener.say(f"Reading {job.volume} ...")
    with timer.stage("read"):
        volume = _read(job)
    for warning in volume.warnings:
        listener.say(f"Note: {warning}")
    _warn_of_modality(model.identity.name, volume, listener)
    session = SegmentationSession(volume, model)
    with timer.stage("segment"):
        results = {item.name: _apply(session, item, listener) for item in job.plan}
    with timer.stage("write"):
        rows = [measure_segment(volume, name, session.mask(name)) for name in results]
        _write(job, session, rows)
    for name, result in results.items():
        for warning in result.warnings:
            listener.say(f"Note on {name}: {warning}")
        if result.voxels == 0:
            listener.say(f"Note on {name}: the mask is empty; add a click on the structure, or a box around it.")
    dice = reference_dice(session, job.reference) if job.reference is not None else {}
    identity = session.model.identity
    data = {
        "command": "segment",
        "volume": {
            "shape_kji": list(volume.shape),
            "spacing_mm_ijk": list(volume.spacing_mm),
            "modality": volume.modality,
            "fingerprint": volume.fingerprint,
            "warnings": list(volume.warnings),
        },
        "model": asdict(identity),
        "segments": [_segment_data(results[row.segment], row, dice.get(row.segment)) for row in rows],
        "outputs": {
            kind: os.fspath(path)
            for kind, path in (("segmentation", job.out), ("picture", job.picture), ("table", job.table))
            if path is not None
        },
        "seconds": timer.seconds,
    }
    extra = {"Dice": {name: f"{value:.3f}" for name, value in dice.items()}} if dice else {}
    return Report(data, format_table(rows, extra))


def demo(job: SegmentJob, listener: Listener, beside: bool) -> Report:
    """`segment` with all outputs in one folder, which is made; `beside` lays a copy of the volume beside them."""
    folder = job.out.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be made ({error.strerror}); choose another one.") from error
    report = segment(job, listener)
    lines, volume = [report.text], job.volume
    if job.reference is not None:
        lines.append("Dice: overlap with the reference segments that come with the sample; 1 is perfect.")
    if beside:
        volume = folder / job.volume.name
        with job.volume.open("rb") as source, atomic_output(volume) as target:
            shutil.copyfileobj(source, target)
        report.data["outputs"]["volume"] = os.fspath(volume)
    lines += ["", f"Results: {job.out} (open it in 3D Slicer together with {volume})"]
    lines.append(f"         {job.picture} and {job.table}")
    return Report({**report.data, "command": "demo"}, "\n".join(lines))


def replay(
    path: Path, volume_path: Path | None, series: str | None, out: Path | None, device: str | None, listener: Listener
) -> Report:
    """Makes the segments of a file anew and compares them; status 1 if one differs."""
    _require_folder(out)
    file = read_segmentation(path)
    volume = read_original(volume_path, series) if volume_path is not None else _lying_about(path, file, listener)
    replayed = replay_segments(volume, file, device, listener.progress)
    if out is not None:
        write_segmentation(out, volume, [item.record for item in replayed])
    differing = [item for item in replayed if item.status == DIFFERENT]
    lines = [_replay_line(item) for item in replayed]
    for note in dict.fromkeys(note for item in replayed for note in item.notes):
        lines.append(f"Note: {note}")
    lines.append(f"Wrote {out}." if out is not None else "")
    data = {
        "command": "replay",
        "identical": not differing,
        "segments": [
            {
                "name": item.record.name,
                "status": item.status,
                "voxels": item.voxels,
                "differing_voxels": item.differing_voxels,
                "dice": item.dice,
                "notes": list(item.notes),
            }
            for item in replayed
        ],
        "outputs": {} if out is None else {"segmentation": os.fspath(out)},
    }
    return Report(data, "\n".join(line for line in lines if line), 1 if differing else 0)


def _load(job: SegmentJob, listener: Listener) -> Model:
    name = job.model
    if job.checkpoint is not None and name is None:
        from .hub.checkpoint import identify

        name = identify(job.checkpoint).name
        listener.say(f"{job.checkpoint.name} is a checkpoint of {name}.")
    name = name or EMBEDDED
    try:
        return _load_one(name, job, listener)
    except ModelTooLarge as error:
        if job.fallback is None:
            raise
        listener.say(f"Note: {error} {job.fallback} is used instead, as you allowed.")
        return _load_one(job.fallback, replace(job, checkpoint=None), listener)


def _load_one(name: str, job: SegmentJob, listener: Listener) -> Model:
    if name == EMBEDDED and job.checkpoint is None:
        return load_model(name, job.device)
    from .hub.weights import Ask

    return load_model(name, job.device, job.checkpoint, Ask(listener.consent, listener.weights(name)))


def _warn_of_modality(model: str, volume: Volume, listener: Listener) -> None:
    known = model_card(model).modalities
    if volume.modality is not None and volume.modality not in known:
        listener.say(
            f"Note: {model} was made for {', '.join(known)} and the volume is {volume.modality}; look twice at its "
            "masks."
        )


def _read(job: SegmentJob) -> Volume:
    volume = Volume.read(job.volume, series=job.series, nonfinite=job.nonfinite)
    return volume if job.modality is None else replace(volume, modality=job.modality)


def _apply(session: SegmentationSession, item: SegmentPrompts, listener: Listener) -> Result:
    for round_ in item.rounds:
        result = session.add(item.name, *round_, progress=listener.progress(item.name))
    return result


def _write(job: SegmentJob, session: SegmentationSession, rows: Sequence[Measures]) -> None:
    if job.picture is not None:
        from .picture import PictureSegment, write_picture

        shown = [
            PictureSegment(
                row.segment,
                session.mask(row.segment),
                tuple(prompt for round_ in session.rounds(row.segment) for prompt in round_),
                f"{row.volume_ml:.3g} mL" if row.volume_ml < 100 else f"{row.volume_ml:.0f} mL",
            )
            for row in rows
        ]
        write_picture(job.picture, session.volume, shown, job.volume.name, FOOTER)
    if job.table is not None:
        write_table(job.table, rows)
    session.save(job.out)


def _segment_data(result: Result, row: Measures, dice: float | None) -> dict[str, Any]:
    measures = asdict(row)
    data: dict[str, Any] = {
        "name": measures.pop("segment"),
        **measures,
        "predicted_iou": result.predicted_iou,
        "seconds": {stage: round(seconds, 4) for stage, seconds in result.timings.items()},
        "warnings": list(result.warnings),
    }
    if dice is not None:
        data["dice"] = dice
    return data


def _lying_about(path: Path, file: SegmentationFile, listener: Listener) -> Volume:
    """The volume that a file's segments were made from, looked for beside the file and in the current folder."""
    wanted = next((segment.fingerprint for segment in stored_segments(file) if segment.fingerprint), None)
    if wanted is None:
        raise SegmentationFileError(
            f"{path}: No segment says which volume it was made from, so it cannot be replayed; choose a file that "
            "FoundationSeg saved."
        )
    found = find_volume(wanted, [path.resolve().parent, Path.cwd()], lambda image: listener.say(f"Is it {image.name}?"))
    if found is None:
        raise VolumeError(
            f"The volume that {path} was made from is neither beside it nor in the current folder; say where it is "
            "with --volume (always needed for a folder with DICOM images)."
        )
    listener.say(f"Yes: {found[0]}")
    return found[1]


def _replay_line(item: ReplayedSegment) -> str:
    start = f"{item.status:<10} {item.record.name}:"
    if item.status == SKIPPED:
        return f"{start} no prompts are stored with it"
    if item.status == DIFFERENT:
        return f"{start} {item.differing_voxels} voxels differ, the new mask has {item.voxels} (Dice {item.dice:.4f})"
    return f"{start} all {item.voxels} voxels, bit for bit"


def _require_folder(path: Path | None) -> None:
    """Before the work, not after it. Whether the folder can be written to shows only when writing."""
    if path is not None and not path.absolute().parent.is_dir():
        raise OutputError(
            f"Could not write {path} because its folder does not exist; create the folder or choose another one."
        )


def _quoted(names: set[str]) -> str:
    return " and ".join(f'"{name}"' for name in sorted(names))
