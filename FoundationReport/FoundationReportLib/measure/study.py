# SPDX-License-Identifier: Apache-2.0
"""From a volume and its segments to facts: the order in which everything is measured."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from FoundationSegLib.formats.raw import NO_SPACING
from FoundationSegLib.volume import Volume

from ..errors import MeasurementError
from ..model import Facts, Kind
from .builder import Builder, listed
from .counts import Search, add_counts
from .coverage import add_coverage
from .header import ImageHeader, read_header
from .inputs import Drawn, Segmentation, as_volume, drawn_segments, overlap_warnings
from .location import add_locations
from .prior import add_changes
from .region import Region
from .sides import add_sides, midline
from .sizes import add_intensities, add_sizes, add_uptake, split_parts
from .subjects import IMAGE, Description, describe, make_subject
from .suv import SuvScale, suv_scale
from .technique import add_technique

Prior = Facts | tuple[Volume | str | os.PathLike[str], Segmentation]

# Parts of a segment of several findings that are smaller are specks of the drawing.
_LEAST_PART_ML = 0.01


@dataclass(frozen=True)
class Measured:
    """A subject with the voxels that it was measured on."""

    subject: str
    region: Region
    description: Description


def measure(
    volume: Volume | str | os.PathLike[str],
    segmentation: Segmentation,
    *,
    prior: Prior | Sequence[Prior] | None = None,
    header: ImageHeader | None = None,
    searched: Sequence[Search] = (),
    targets: Sequence[str] | None = None,
    series: str | None = None,
    other_image: bool = False,
) -> Facts:
    """What can be measured of a volume and the segments drawn on it, each fact with where it comes from.

    Segments whose names are plurals of a finding ("nodules") are measured part by part. A segment that is empty, cut
    by the edge of the volume, or overlaps another one is said in `Facts.warnings`.

    Args:
        volume: the image, or the path of a file or DICOM folder, whose header then tells technique and SUV.
        segmentation: segments on the volume's grid (or their masks by name), a segmentation file or its path. A file
            on another grid in the same space is resampled.
        prior: the study before this one, or several from the oldest to the newest (RECIST baseline and nadir), each as
            its facts or as its volume with its segmentation. Lesions are matched and compared.
        header: what is known of the image, instead of the file's own header.
        searched: organs that something went through which would have found a kind of finding. Only these can be
            "searched and not found", and only their counts are exhaustive.
        targets: names or ids of the RECIST target lesions; ("auto",) for the largest measurable ones at baseline. By
            default those that the last earlier study had, if any.
        series: of several DICOM series in `volume` the one to read.
        other_image: accept segments that were drawn on another image of the same patient in the same position.

    Raises:
        MeasurementError: if volume and segmentation do not belong together, or cannot be read or measured.
    """
    if header is None and not isinstance(volume, Volume):
        header = read_header(volume, series)
    image = as_volume(volume, series)
    if NO_SPACING in image.warnings:
        raise MeasurementError(
            "The image's file states no voxel spacing, so nothing can be measured in mm; export it again with its "
            "spacing."
        )
    modality = image.modality or (header.modality if header is not None else "")
    segments, warnings = drawn_segments(
        image, segmentation, other_image=other_image, frame_uid=header.frame_uid if header is not None else ""
    )
    builder = Builder(image.fingerprint, header.frame_uid if header is not None else "")
    builder.subjects[IMAGE.id] = IMAGE
    for sentence in (*image.warnings, *warnings):
        builder.warn(sentence)
    add_technique(builder, image, modality, header)
    measured = [item for drawn in segments for item in _add_subjects(builder, drawn)]
    scale = _suv(builder, modality, header)
    for item in measured:
        add_sizes(builder, item.subject, item.region)
        add_intensities(builder, item.subject, item.region, modality, header)
        if scale is not None:
            add_uptake(builder, item.subject, item.region, scale)
    _warn_overlaps(builder, measured)
    regions = {item.subject: item.region for item in measured}
    parts = {item.subject for item in measured if item.description.part}
    vertebrae = {item.subject: item.description.vertebra for item in measured if item.description.vertebra}
    middle = midline(builder, image, regions)
    # The sides of organs first, since findings inherit them.
    add_sides(builder, middle, regions, (Kind.ORGAN,))
    add_locations(builder, regions, parts, vertebrae)
    add_sides(builder, middle, regions, (Kind.LESION, Kind.NODE, Kind.OTHER))
    _warn_placeless(builder)
    add_coverage(builder, image, regions, parts, vertebrae, header)
    add_counts(builder, searched)
    earlier = _earlier(prior)
    _warn_unlike(builder, image, modality, earlier)
    add_changes(builder, earlier, targets, header.date if header is not None else "", searched)
    return builder.build(modality, _study(image, header))


def _add_subjects(builder: Builder, drawn: Drawn) -> list[Measured]:
    description = describe(drawn.name, drawn.terminology)
    if description.conflict:
        builder.warn(description.conflict)
    focal = description.kind in (Kind.LESION, Kind.NODE)
    regions = split_parts(drawn.region, _LEAST_PART_ML) if description.several and focal else [drawn.region]
    found = []
    for number, region in enumerate(regions, start=1):
        several = len(regions) > 1
        subject = make_subject(
            drawn.name,
            description,
            taken=builder.subjects,
            segment=drawn.segment_id,
            tracking_uid="" if several else drawn.tracking_uid,
            number=number if several else 0,
        )
        builder.subjects[subject.id] = subject
        builder.models[subject.id] = (drawn.model, drawn.revision)
        if description.kind != Kind.ORGAN and description.finding:
            builder.add(subject.id, "presence", "present", "a segment was drawn")
        found.append(Measured(subject.id, region, description))
    return found


def _suv(builder: Builder, modality: str, header: ImageHeader | None) -> SuvScale | None:
    if modality != "PT":
        return None
    scale = suv_scale(header.pet if header is not None else None)
    if isinstance(scale, str):
        builder.warn(scale)
        return None
    return scale


def _warn_overlaps(builder: Builder, measured: Sequence[Measured]) -> None:
    """Organs among themselves and lesions among themselves; parts of an organ may overlap the organ."""
    for kinds in ((Kind.ORGAN,), (Kind.LESION, Kind.NODE)):
        items = [
            (builder.subjects[item.subject].name, item.region)
            for item in measured
            if builder.subjects[item.subject].kind in kinds and not item.description.part
        ]
        for sentence in overlap_warnings(items):
            builder.warn(sentence)


def _warn_placeless(builder: Builder) -> None:
    """Lesions of which neither their names nor a drawn organ say where they are; a report can only name their side."""
    names = [s.name for s in builder.subjects.values() if s.kind == Kind.LESION and not s.organ]
    if names:
        it, lies = ("its", "lies") if len(names) == 1 else ("their", "lie")
        builder.warn(
            f"Nothing says in which organ {listed(names)} {lies}; put it into {it} name (such as brain lesion), or "
            "draw the organ too."
        )


def _warn_unlike(builder: Builder, image: Volume, modality: str, earlier: Sequence[Facts]) -> None:
    """An earlier study that cannot be compared as it should be."""
    if any(facts.study.get("fingerprint") == image.fingerprint for facts in earlier):
        builder.warn("An earlier study is this very image; what it says of change is that of the drawings alone.")
    others = sorted({facts.modality for facts in earlier if facts.modality and modality} - {modality})
    if others:
        builder.warn(
            f"An earlier study is {' and '.join(others)} and this one {modality}; sizes of different methods are not "
            "comparable (RECIST 1.1 asks for the same method), so judge every change from the images."
        )


def _earlier(prior: Prior | Sequence[Prior] | None) -> tuple[Facts, ...]:
    """The earlier studies' facts, oldest first; volumes with segmentations are measured."""
    if prior is None:
        return ()
    if isinstance(prior, Facts):
        return (prior,)
    if isinstance(prior, tuple) and len(prior) == 2 and isinstance(prior[0], Volume | str | os.PathLike):
        volume, segmentation = prior
        return (measure(volume, segmentation),)
    if isinstance(prior, str) or not isinstance(prior, Sequence):
        raise MeasurementError("A prior study is given as its facts, or as its volume and segmentation.")
    return tuple(facts for item in prior for facts in _earlier(item))  # type: ignore[arg-type] # of a pair as above


def _study(image: Volume, header: ImageHeader | None) -> dict[str, str]:
    """What identifies the study technically; nothing of the patient."""
    found = {"fingerprint": image.fingerprint}
    if header is not None:
        for key in ("study_uid", "series_uid", "frame_uid", "date"):
            if value := getattr(header, key):
                found[key] = value
    return found
