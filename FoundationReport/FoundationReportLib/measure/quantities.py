# SPDX-License-Identifier: Apache-2.0
"""Every quantity a fact can have: what it is called, coded as, measured in, and rounded to. The one list of them.

The measuring code writes facts with these keys and UCUM units; the draft prints them with `display`; the cross-check
reads numbers in the spellings of `UNITS` and compares in a fact's own unit with `converted`. Codes are those of DICOM
PS3.16 (CID 7469, 7461, 218) and SNOMED CT as pydicom's concept dictionary states them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ..model import Code, Fact


class Dimension(StrEnum):
    """What kind of thing a quantity or a unit is; only units of one dimension can be compared."""

    LENGTH = "length"
    AREA = "area"
    VOLUME = "volume"
    INTENSITY = "intensity"
    UPTAKE = "uptake"
    PERCENT = "percent"
    COUNT = "count"
    TIME = "time"
    OTHER = "other"
    TEXT = "text"
    FLAG = "flag"


MM = "mm"
MM2 = "mm2"
ML = "mL"
HU = "[hnsf'U]"
SUV = "g/mL{SUVbw}"
BQ_ML = "Bq/mL"
PERCENT = "%"
ONE = "1"
DAY = "d"


@dataclass(frozen=True)
class Unit:
    """A UCUM unit.

    Attributes:
        ucum: the code.
        display: as a report prints it after the number; empty where nothing is printed.
        dimension: what it measures.
        factor: how many of the dimension's base unit (mm, mm2, mL, d, else 1) it is.
        spellings: other forms in which reports write it, lower case.
    """

    ucum: str
    display: str
    dimension: Dimension
    factor: float = 1.0
    spellings: tuple[str, ...] = ()


UNITS: dict[str, Unit] = {
    unit.ucum: unit
    for unit in (
        Unit(MM, "mm", Dimension.LENGTH, 1.0, ("mms", "millimeter", "millimeters", "millimetre", "millimetres")),
        Unit("cm", "cm", Dimension.LENGTH, 10.0, ("cms", "centimeter", "centimeters", "centimetre", "centimetres")),
        Unit("m", "m", Dimension.LENGTH, 1000.0, ()),
        Unit("[in_i]", "in", Dimension.LENGTH, 25.4, ("inch", "inches")),
        Unit(MM2, "mm²", Dimension.AREA, 1.0, ("mm^2", "sq mm", "square millimeters", "square millimetres")),
        Unit("cm2", "cm²", Dimension.AREA, 100.0, ("cm^2", "sq cm", "square centimeters", "square centimetres")),
        Unit(ML, "mL", Dimension.VOLUME, 1.0, ("ml", "milliliter", "milliliters", "millilitre", "millilitres")),
        Unit(
            "cm3", "cm³", Dimension.VOLUME, 1.0, ("cc", "ccs", "ccm", "cm^3", "cubic centimeters", "cubic centimetres")
        ),
        Unit("mm3", "mm³", Dimension.VOLUME, 0.001, ("mm^3", "cubic millimeters", "cubic millimetres")),
        Unit("L", "L", Dimension.VOLUME, 1000.0, ("l", "liter", "liters", "litre", "litres")),
        Unit("dL", "dL", Dimension.VOLUME, 100.0, ("dl", "deciliter", "decilitre")),
        Unit(HU, "HU", Dimension.INTENSITY, 1.0, ("hounsfield unit", "hounsfield units", "hounsfield", "h.u.")),
        Unit(SUV, "", Dimension.UPTAKE, 1.0, ("g/ml", "suv", "suvbw")),
        Unit(BQ_ML, "Bq/mL", Dimension.OTHER, 1.0, ()),
        Unit("g{SUVbw}", "g", Dimension.OTHER, 1.0, ()),
        Unit(PERCENT, "%", Dimension.PERCENT, 1.0, ("percent", "per cent", "pct")),
        Unit(ONE, "", Dimension.OTHER, 1.0, ()),
        Unit(DAY, "days", Dimension.TIME, 1.0, ("day",)),
        Unit("wk", "weeks", Dimension.TIME, 7.0, ("week",)),
        Unit("mo", "months", Dimension.TIME, 30.4375, ("month",)),
        Unit("a", "years", Dimension.TIME, 365.25, ("year",)),
        Unit("kV", "kV", Dimension.OTHER, 1.0, ("kvp",)),
        Unit("T", "T", Dimension.OTHER, 1.0, ("tesla",)),
    )
}


@dataclass(frozen=True)
class Quantity:
    """One kind of fact.

    Attributes:
        key: `Fact.quantity`.
        name: as a reader is told ("longest axial diameter").
        dimension: of its value; TEXT and FLAG values have no unit.
        unit: UCUM unit that facts carry. Of INTENSITY the image decides (HU for CT, `1` or Bq/mL for others).
        code: the coded concept, None where no public one is known.
        decimals: digits after the point in a report; None: fewer the larger the number (`rounded`).
        about_image: the subject is the image, not a structure in it.
        values: of a TEXT that is one of a few words, these.
    """

    key: str
    name: str
    dimension: Dimension
    unit: str = ""
    code: Code | None = None
    decimals: int | None = 0
    about_image: bool = False
    values: tuple[str, ...] = ()


def _sct(value: str, meaning: str) -> Code:
    return Code(value, "SCT", meaning)


def _dcm(value: str, meaning: str) -> Code:
    return Code(value, "DCM", meaning)


def _length(key: str, name: str, code: Code | None = None, *, decimals: int = 0, image: bool = False) -> Quantity:
    return Quantity(key, name, Dimension.LENGTH, MM, code, decimals, image)


def _intensity(key: str, name: str, code: Code) -> Quantity:
    return Quantity(key, name, Dimension.INTENSITY, HU, code)


def _suv(key: str, name: str, code: Code | None) -> Quantity:
    return Quantity(key, name, Dimension.UPTAKE, SUV, code, 1)


def _percent(key: str, name: str, code: Code | None = None) -> Quantity:
    return Quantity(key, name, Dimension.PERCENT, PERCENT, code, 0)


def _text(key: str, name: str, *values: str, code: Code | None = None, image: bool = False) -> Quantity:
    return Quantity(key, name, Dimension.TEXT, "", code, 0, image, values)


def _flag(key: str, name: str) -> Quantity:
    return Quantity(key, name, Dimension.FLAG)


EXTENT_AXES = ("left-right", "anterior-posterior", "craniocaudal")
"""What `of` of an "extent" can be: along R, A and S."""

COVERAGE = ("assessed", "partly_in_view", "in_view_not_assessed", "outside_view")
PRESENCE = ("present", "searched_not_found")
TREND = ("new", "larger", "smaller", "unchanged", "resolved")

QUANTITIES: dict[str, Quantity] = {
    quantity.key: quantity
    for quantity in (
        # Size. `extent`: `of` is one of EXTENT_AXES.
        Quantity("volume", "volume", Dimension.VOLUME, ML, _sct("118565006", "Volume"), None),
        _length("long_axis", "longest axial diameter", _sct("103339001", "Long axis")),
        _length("short_axis", "short axis perpendicular to the longest diameter", _sct("103340004", "Short axis")),
        _length("mean_diameter", "mean of longest and perpendicular diameter", decimals=1),
        Quantity("bidimensional_product", "product of the two axial diameters", Dimension.AREA, MM2, None, None),
        _length(
            "max_diameter_3d",
            "largest diameter in any direction",
            Code("L0JK", "IBSI", "Maximum 3D Diameter of a Mesh"),
        ),
        _length("extent", "extent"),
        # Intensity within. Unit by the image.
        _intensity("mean", "mean intensity", _sct("373098007", "Mean")),
        _intensity("sd", "standard deviation of the intensity", _sct("386136009", "Standard Deviation")),
        _intensity("min", "least intensity", _sct("255605001", "Minimum")),
        _intensity("max", "greatest intensity", _sct("56851009", "Maximum")),
        _intensity("median", "median intensity", _sct("373099004", "Median")),
        _intensity("p5", "5th percentile of the intensity", _sct("371888009", "5th Percentile Value of population")),
        _intensity("p95", "95th percentile of the intensity", _sct("371889001", "95th Percentile Value of population")),
        _percent("fat_percent", "share of voxels with the attenuation of fat"),
        # Uptake (PET).
        _suv("suv_max", "SUVmax", _dcm("126401", "SUVbw")),
        _suv("suv_mean", "SUVmean", _dcm("126401", "SUVbw")),
        _suv("suv_peak", "SUVpeak", _dcm("126401", "SUVbw")),
        Quantity("mtv", "metabolic volume", Dimension.VOLUME, ML, _dcm("126032", "Metabolic Volume"), None),
        Quantity(
            "tlg",
            "total lesion glycolysis",
            Dimension.OTHER,
            "g{SUVbw}",
            _dcm("126033", "Total Lesion Glycolysis"),
            None,
        ),
        # Where. `of`: id of the other subject.
        _text("side", "side", "left", "right", "both", "midline", code=_sct("272741003", "Laterality")),
        _flag("inside", "lies inside"),
        _flag("adjacent", "touches"),
        _length("distance", "distance between the surfaces", _dcm("121206", "Distance")),
        _length("depth", "distance from the surface of what it lies in"),
        _text("level", "vertebral level"),
        # Whether and how many. `of`: the finding.
        _text("presence", "presence", *PRESENCE),
        _text("coverage", "coverage", *COVERAGE),
        Quantity("count", "number of findings", Dimension.COUNT, ONE, _sct("246206008", "Number of lesions"), 0),
        _text("multiplicity", "multiplicity", "single", "multiple"),
        Quantity("parts", "number of separate parts", Dimension.COUNT, ONE, None, 0),
        # Over time. `of`: the quantity that was compared. `trend` has none: it is of the subject as a whole.
        Quantity("prior", "earlier value", Dimension.OTHER),
        Quantity("change", "change against the earlier value", Dimension.OTHER),
        _percent("change_percent", "relative change against the earlier value"),
        _text("trend", "trend", *TREND),
        Quantity("doubling_time", "volume doubling time", Dimension.TIME, DAY, None, 0),
        _flag("target", "RECIST target lesion"),
        _length("sum_of_diameters", "sum of the target diameters"),
        _length("baseline_sum", "sum of the target diameters at baseline"),
        _length("nadir_sum", "smallest sum of the target diameters so far"),
        _text("category", "suggested category"),
        # The image.
        _text("modality", "modality", image=True),
        _text("contrast", "intravenous contrast", "with", "without", image=True),
        _text("phase", "contrast phase", code=_dcm("109058", "Contrast Phase"), image=True),
        _text("plane", "acquisition plane", "axial", "coronal", "sagittal", "oblique", image=True),
        _length("slice_thickness", "slice thickness", _dcm("112225", "Slice Thickness"), decimals=1, image=True),
        _length(
            "slice_spacing", "distance between slices", _dcm("112226", "Spacing between slices"), decimals=1, image=True
        ),
        _length("pixel_spacing", "in-plane voxel size", decimals=2, image=True),
        Quantity("slices", "number of slices", Dimension.COUNT, ONE, None, 0, True),
        _length("field_of_view", "field of view", image=True),
        _text("body_part", "body part examined", image=True),
        _text("sequence", "MR sequence", image=True),
        Quantity("tube_voltage", "tube voltage", Dimension.OTHER, "kV", None, 0, True),
        Quantity("field_strength", "magnetic field strength", Dimension.OTHER, "T", None, 1, True),
        _text("kernel", "reconstruction kernel", image=True),
        Quantity("interval", "days since the earlier study", Dimension.TIME, DAY, None, 0, True),
        Quantity("comparison", "an earlier study was compared", Dimension.FLAG, about_image=True),
    )
}


def dimension_of(fact: Fact) -> Dimension:
    """What a fact's value is: by its unit where it has one ("change" of a volume is a volume), else by its quantity."""
    unit = UNITS.get(fact.unit)
    listed = QUANTITIES.get(fact.quantity)
    if unit is not None and (listed is None or listed.dimension == Dimension.OTHER):
        return unit.dimension
    return listed.dimension if listed is not None else Dimension.OTHER


def converted(value: float, unit: str, to: str) -> float | None:
    """A value in another UCUM unit of the same dimension; None if the two cannot be compared."""
    if unit == to:
        return value
    a, b = UNITS.get(unit), UNITS.get(to)
    if a is None or b is None or a.dimension != b.dimension or a.dimension == Dimension.OTHER:
        return None
    return value * a.factor / b.factor


def rounded(value: float, decimals: int | None) -> str:
    """The number as a report prints it, with so many decimals; None: the fewer the larger it is.

    These are none from 100 on, one from 1 on, two from 0.1 on, else three. Half is rounded away from zero, as people
    do, and a zero has no sign.
    """
    if decimals is None:
        size = abs(value)
        decimals = 0 if size >= 99.95 else 1 if size >= 0.995 else 2 if size >= 0.0995 else 3
    scaled = abs(value) * 10**decimals
    # What lies a rounding error below a half is one (1.005 * 100 = 100.49999999999999).
    text = f"{int(scaled + 0.5 + 1e-9) / 10**decimals:.{decimals}f}"
    return f"-{text}" if value < 0 and float(text) != 0 else text


def display(fact: Fact, unit: str | None = None) -> str:
    """A fact's value with its unit, rounded for a report: "23 mm", "5.7 mL", "-12 HU", "8.4", "left".

    `unit`: a UCUM unit to print it in ("cm"), one decimal more for each power of ten; KeyError if it does not fit.
    """
    if isinstance(fact.value, str):
        return fact.value
    if isinstance(fact.value, bool):
        return "yes" if fact.value else "no"
    listed = QUANTITIES.get(fact.of if fact.quantity in ("prior", "change") else fact.quantity)
    decimals = listed.decimals if listed is not None else None
    value = float(fact.value)
    code = fact.unit
    if code == ONE and listed is not None and listed.dimension == Dimension.INTENSITY:
        decimals = None  # an arbitrary scale: MR may lie in thousands or between 0 and 1
    if unit is not None and unit != fact.unit:
        other = converted(value, fact.unit, unit)
        if other is None:
            raise KeyError(unit)
        ratio = UNITS[unit].factor / UNITS[fact.unit].factor
        if decimals is not None and ratio > 1:
            decimals += len(str(round(ratio))) - 1
        value, code = other, unit
    shown = UNITS[code].display if code in UNITS else code
    if shown == "%":
        return f"{rounded(value, decimals)}%"
    return f"{rounded(value, decimals)} {shown}".rstrip()
