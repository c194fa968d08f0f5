# SPDX-License-Identifier: Apache-2.0
"""What an image's DICOM header says and a report may use: technique, contrast, and what a SUV is computed from.

Nothing that identifies a patient is kept: descriptions are only searched for a few words. An image without a header
(NRRD, NIfTI) has an empty one; a person may state what is known (`ImageHeader(contrast="with")`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from FoundationSegLib.dicom import list_series
from FoundationSegLib.errors import FoundationSegError
from FoundationSegLib.formats.archive import extract_zip, is_zip
from FoundationSegLib.formats.dicom_header import Attributes, DamagedHeader, Tag, items, looks_like_dicom, numbers, text
from FoundationSegLib.formats.dicom_header import read_header as read_attributes

from ..errors import MeasurementError

_STUDY_UID, _SERIES_UID, _FRAME_UID = (0x0020, 0x000D), (0x0020, 0x000E), (0x0020, 0x0052)
_ROWS = (0x0028, 0x0010)
_STUDY_DATE, _SERIES_DATE, _ACQUISITION_DATE = (0x0008, 0x0020), (0x0008, 0x0021), (0x0008, 0x0022)
_SERIES_TIME, _ACQUISITION_TIME = (0x0008, 0x0031), (0x0008, 0x0032)
_ACQUISITION_DATETIME = (0x0008, 0x002A)
_MODALITY, _DESCRIPTION, _BODY_PART = (0x0008, 0x0060), (0x0008, 0x103E), (0x0018, 0x0015)
_PROTOCOL = (0x0018, 0x1030)
_AGENT, _AGENT_SEQUENCE = (0x0018, 0x0010), (0x0018, 0x0012)
_THICKNESS, _KVP, _FIELD, _KERNEL = (0x0018, 0x0050), (0x0018, 0x0060), (0x0018, 0x0087), (0x0018, 0x1210)
_SEX, _WEIGHT = (0x0010, 0x0040), (0x0010, 0x1030)
_UNITS, _DECAY = (0x0054, 0x1001), (0x0054, 0x1102)
_RADIO, _DOSE, _HALF_LIFE = (0x0054, 0x0016), (0x0018, 0x1074), (0x0018, 0x1075)
_START_TIME, _START_DATETIME = (0x0018, 0x1072), (0x0018, 0x1078)
_PHILIPS_SUV = (0x7053, 0x1000)
_SHARED, _MEASURES = (0x5200, 0x9229), (0x0028, 0x9110)
_WANTED: frozenset[Tag] = frozenset(
    {
        *(_STUDY_UID, _SERIES_UID, _FRAME_UID, _ROWS, _STUDY_DATE, _SERIES_DATE, _ACQUISITION_DATE, _SERIES_TIME),
        *(_ACQUISITION_TIME, _ACQUISITION_DATETIME, _MODALITY, _DESCRIPTION, _BODY_PART, _PROTOCOL, _AGENT),
        *(_AGENT_SEQUENCE, _THICKNESS, _KVP, _FIELD, _KERNEL, _SEX, _WEIGHT, _UNITS, _DECAY, _RADIO, _DOSE),
        *(_HALF_LIFE, _START_TIME, _START_DATETIME, _PHILIPS_SUV, _SHARED, _MEASURES),
    }
)
_NO_AGENT = frozenset(
    {"none", "no", "n", "without", "off", "native", "no contrast", "w/o", "non contrast", "noncontrast"}
)
_PHASES = (
    ("portal venous", r"portal|\bpv\b|\bpvp\b"),
    ("arterial", r"arterial|\bart\b"),
    ("nephrographic", r"nephro"),
    ("delayed", r"delayed|\blate\b|excretory|urographic"),
    ("venous", r"venous|\bven\b"),
)
_WITHOUT = r"without|\bw/?o\b|non[- _]?contrast|unenhanced|non[- _]?enhanced|\bnative\b|\bplain\b|\bnc\b|\bnect\b"
_SEQUENCES = ("FLAIR", "DWI", "ADC", "SWI", "STIR", "T2*", "T1", "T2", "PD")


@dataclass(frozen=True)
class PetHeader:
    """What a SUV is computed from; None or empty where the header does not say.

    Attributes:
        units: DICOM (0054,1001): "BQML", "GML", "CNTS".
        decay_correction: (0054,1102): "START", "ADMIN", "NONE".
        dose_bq, half_life_s: injected activity at the time of injection, half life.
        injected, scanned: when the dose was given; the time that the image is decay-corrected to.
        weight_kg: of the patient.
        philips_factor: SUV per stored unit of images in counts, (7053,1000).
    """

    units: str = ""
    decay_correction: str = ""
    dose_bq: float | None = None
    half_life_s: float | None = None
    injected: datetime | None = None
    scanned: datetime | None = None
    weight_kg: float | None = None
    philips_factor: float | None = None


@dataclass(frozen=True)
class ImageHeader:
    """What the header says; empty or None where it says nothing.

    Attributes:
        modality: DICOM code.
        contrast: "with", "without" or empty.
        phase: "arterial", "portal venous", ... where the description says so.
        sequence: "T1", "FLAIR", ... of an MR, where the description says so.
        sex: "M", "F" or empty; only used to tell which organs can be there.
        date: of the study, YYYYMMDD.
        study_uid, series_uid, frame_uid: DICOM's.
        by: "header", or "human" for what a person stated.
        stated: names of the attributes above that a person stated beside what the header says.
    """

    modality: str = ""
    body_part: str = ""
    slice_thickness_mm: float | None = None
    contrast: str = ""
    phase: str = ""
    sequence: str = ""
    kernel: str = ""
    tube_voltage_kv: float | None = None
    field_strength_t: float | None = None
    sex: str = ""
    date: str = ""
    study_uid: str = ""
    series_uid: str = ""
    frame_uid: str = ""
    pet: PetHeader | None = None
    by: str = "header"
    stated: frozenset[str] = frozenset()


def read_header(path: str | os.PathLike[str], series: str | None = None) -> ImageHeader | None:
    """The header of a DICOM series (folder, zip or file); None for a file of another kind.

    Args:
        series: of several series the one to read, as in `Volume.read` (1-based number or UID).

    Raises:
        MeasurementError: if DICOM files are damaged, or the choice of a series is missing.
    """
    source = Path(path)
    if source.is_dir():
        return _of_folder(source, series)
    try:
        with source.open("rb") as file:
            head = file.read(256)
    except OSError as error:
        reason = (error.strerror or "input error").lower()
        raise MeasurementError(f"{source}: The file cannot be opened ({reason}); check the path.") from error
    if is_zip(head):
        with TemporaryDirectory(prefix="foundationreport-") as folder:
            extract_zip(source, Path(folder), looks_like_dicom)
            return _of_folder(Path(folder), series)
    if not looks_like_dicom(head):
        return None
    return header_of([found] if (found := _attributes(source)) is not None else [])


def with_contrast(header: ImageHeader | None, contrast: str) -> ImageHeader:
    """The header with what a person states about contrast ("with" or "without"); None: the image has no header.

    Raises:
        MeasurementError: if the header itself says otherwise; the two cannot both be in a report.
    """
    if header is None:
        return ImageHeader(contrast=contrast, by="human")
    if header.contrast == contrast:
        return header
    if header.contrast:
        raise MeasurementError(
            f"The image's header says that it was acquired {header.contrast} contrast, so it cannot be stated to be "
            f"{contrast}; leave the statement out, or correct the header (0018,0010) at its source."
        )
    return replace(header, contrast=contrast, stated=header.stated | {"contrast"})


def header_of_files(paths: Iterable[str | os.PathLike[str]]) -> ImageHeader | None:
    """The header of a series whose files are known one by one; None if none is DICOM. Raises MeasurementError."""
    found = (_attributes(Path(path)) for path in paths)
    return header_of([attributes for attributes in found if attributes is not None])


def header_of(slices: Sequence[Attributes]) -> ImageHeader | None:
    """What the attributes of a series' files say, None for no files; times are the earliest among the files."""
    if not slices:
        return None
    first = slices[0]
    words = f"{text(first, _DESCRIPTION)} {text(first, _PROTOCOL)}".lower()
    modality = text(first, _MODALITY)
    contrast, phase = _contrast(first, words)
    measures = items(next(iter(items(first, _SHARED)), {}), _MEASURES)
    thickness = _number(first, _THICKNESS) or _number(next(iter(measures), {}), _THICKNESS)
    return ImageHeader(
        modality=modality,
        body_part=text(first, _BODY_PART).lower(),
        slice_thickness_mm=thickness,
        contrast=contrast,
        phase=phase,
        sequence=next((name for name in _SEQUENCES if name.lower() in words), "") if modality == "MR" else "",
        kernel=text(first, _KERNEL),
        tube_voltage_kv=_number(first, _KVP) if modality == "CT" else None,
        field_strength_t=_number(first, _FIELD) if modality == "MR" else None,
        sex=text(first, _SEX).upper()[:1],
        date=text(first, _STUDY_DATE)[:8],
        study_uid=text(first, _STUDY_UID),
        series_uid=text(first, _SERIES_UID),
        frame_uid=text(first, _FRAME_UID),
        pet=_pet(slices) if modality == "PT" else None,
    )


def _of_folder(folder: Path, series: str | None) -> ImageHeader | None:
    by_series: dict[str, list[Attributes]] = {}
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            found = _attributes(Path(parent, name))
            if found is not None and _ROWS in found:
                by_series.setdefault(text(found, _SERIES_UID), []).append(found)
    if len(by_series) > 1:
        try:
            infos = list_series(folder)
        except FoundationSegError as error:
            raise MeasurementError(str(error)) from error
        chosen = [info.uid for info in infos if series in (str(info.number), info.uid)]
        if not chosen and len(infos) == 1:
            chosen = [infos[0].uid]
        if not chosen:
            raise MeasurementError("There are several DICOM series; choose one with --series N (its number or UID).")
        return header_of(by_series.get(chosen[0], []))
    return header_of(next(iter(by_series.values()), []))


def _attributes(path: Path) -> Attributes | None:
    try:
        header = read_attributes(path, _WANTED)
    except (DamagedHeader, OSError, ValueError) as error:
        raise MeasurementError("A DICOM file is damaged or cut short; copy it again from its source.") from error
    return None if header is None else header.attributes


def _number(attributes: Attributes, tag: Tag) -> float | None:
    """The first number of an attribute, None for none, zero or less: no quantity here can be that."""
    values = numbers(attributes, tag)
    return values[0] if values and values[0] > 0 else None


def _contrast(attributes: Attributes, words: str) -> tuple[str, str]:
    agent = re.sub(r"[^a-z/]+", " ", text(attributes, _AGENT).lower()).strip()
    if agent in _NO_AGENT:
        return "without", ""
    phase = next((name for name, pattern in _PHASES if re.search(pattern, words)), "")
    if agent or items(attributes, _AGENT_SEQUENCE):
        return "with", phase
    if re.search(_WITHOUT, words):
        return "without", ""
    # A phase in a description does not say that contrast was given: scanners copy protocol names.
    return "", ""


def _pet(slices: Sequence[Attributes]) -> PetHeader:
    first = slices[0]
    dose: Attributes = next(iter(items(first, _RADIO)), {})
    acquired = _earliest(
        _when(text(each, _ACQUISITION_DATETIME)) or _when(text(each, _ACQUISITION_DATE) + text(each, _ACQUISITION_TIME))
        for each in slices
    )
    series = _when(text(first, _SERIES_DATE) + text(first, _SERIES_TIME))
    # A series time after the first acquisition is that of some later processing (QIBA FDG-PET profile, SUV).
    scanned = acquired if series is None or (acquired is not None and series > acquired) else series
    injected = _when(text(dose, _START_DATETIME))
    if injected is None and scanned is not None and (time := text(dose, _START_TIME)):
        injected = _when(scanned.strftime("%Y%m%d") + time)
        if injected is not None and injected > scanned:
            injected = None  # Across midnight, or a wrong clock: which of the two cannot be told.
    return PetHeader(
        units=text(first, _UNITS).upper(),
        decay_correction=text(first, _DECAY).upper(),
        dose_bq=_number(dose, _DOSE),
        half_life_s=_number(dose, _HALF_LIFE),
        injected=injected,
        scanned=scanned,
        weight_kg=_number(first, _WEIGHT),
        philips_factor=_number(first, _PHILIPS_SUV),
    )


def _earliest(times: Iterable[datetime | None]) -> datetime | None:
    return min((time for time in times if time is not None), default=None)


def _when(stamp: str) -> datetime | None:
    """A DICOM date with time ("20240131123000.5", zone ignored), None if it is not both."""
    match = re.match(r"(\d{8})(\d{2})(\d{2})(\d{2})?", stamp)
    if match is None:
        return None
    try:
        return datetime.strptime("".join(part or "00" for part in match.groups()), "%Y%m%d%H%M%S")
    except ValueError:
        return None
