# SPDX-License-Identifier: Apache-2.0
"""What a report is made of: facts, statements, sections. Frozen values that serialise to canonical JSON.

The report object is the product. Facts are measured or known from headers, each with where it comes from. Statements
are sentences, each with who wrote it, the facts it rests on, and what the cross-check said of it. Everything else reads
these or makes new ones; nothing changes one in place.

Lengths are mm, volumes mL, positions RAS mm; units are UCUM codes (`mm`, `mL`, `[hnsf'U]`, `%`, `g/mL{SUVbw}`, `1`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from FoundationSegLib.volume import Volume

    from .engines.base import Engine

T = TypeVar("T")

FACTS_SCHEMA = "foundation-report/facts/1"
REPORT_SCHEMA = "foundation-report/report/1"


class Side(StrEnum):
    """Where a structure lies, from RAS geometry or from its coded name, never from a model. NONE: unpaired."""

    LEFT = "left"
    RIGHT = "right"
    BOTH = "both"
    NONE = ""


class Kind(StrEnum):
    """What a subject is. IMAGE is the study itself."""

    ORGAN = "organ"
    LESION = "lesion"
    NODE = "node"
    OTHER = "other"
    IMAGE = "image"


class Origin(StrEnum):
    """Who wrote a statement."""

    TEMPLATE = "template"
    VLM = "vlm"
    HUMAN = "human"


class Verdict(StrEnum):
    """What the cross-check says of a statement. UNVERIFIABLE is not fine: a person has to accept or remove it."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNVERIFIABLE = "unverifiable"


class State(StrEnum):
    """Life of a report. SIGNED and AMENDED have a signer; RETRACTED ends it."""

    DRAFT = "draft"
    EDITED = "edited"
    SIGNED = "signed"
    AMENDED = "amended"
    RETRACTED = "retracted"


@dataclass(frozen=True)
class Code:
    """A coded concept. `scheme` is DICOM's designator: SCT, DCM, LN, UCUM, RADLEX."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class Subject:
    """What facts are about: an organ, a lesion, a node, the image.

    Attributes:
        id: unique within a Facts ("liver", "lesion-1", "image").
        name: as the user named the segment.
        organ: canonical English organ or host ("liver", "kidney", "lung", "brain"); empty where unknown.
        finding: for what is no organ: "nodule", "mass", "cyst", "metastasis", "lymph node", ...; else empty.
        region: part of the organ, where an anatomy label says so ("upper lobe", "segment II"); else empty.
        segment: id of the segment that was measured; empty where there is none.
        tracking_uid: the same object over time and in DICOM; empty where there is none.
    """

    id: str
    name: str
    kind: Kind
    organ: str = ""
    side: Side = Side.NONE
    finding: str = ""
    region: str = ""
    segment: str = ""
    tracking_uid: str = ""
    code: Code | None = None


@dataclass(frozen=True)
class Source:
    """Where a fact comes from.

    Attributes:
        method: how it was obtained, in words a reader can check ("half-voxel contour in the axial plane", "header").
        tool, version: the software.
        by: "algorithm", "header" or "human".
        volume: fingerprint of the image volume; prior: of the prior study's.
        model, revision: of the model that drew the segment; empty for a drawing of a person or of unknown origin.
        slice_k: index k of the slice it was measured on; None where there is no single one.
        points: RAS mm ends of a diameter, or the place of an extreme; empty where there are none.
    """

    method: str
    tool: str = "FoundationReport"
    version: str = ""
    by: str = "algorithm"
    volume: str = ""
    prior: str = ""
    model: str = ""
    revision: str = ""
    slice_k: int | None = None
    points: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True)
class Fact:
    """One thing that is known.

    Quantities (see `quantities.py` for the full list with units and codes): "volume", "long_axis", "short_axis",
    "extent", "mean", "sd", "min", "max", "median", "p5", "p95", "suv_max", ...: numbers;
    "presence": "present" or "searched_not_found" (only where something ran that would have found it; then `of` says
    what was searched for, e.g. "lesion");
    "coverage": "assessed", "in_view_not_assessed", "partly_in_view" or "outside_view" (of an organ);
    "count": how many `of` (a finding) the subject (an organ) has, `exhaustive` if there are no others;
    "inside", "adjacent", "distance" (mm): location towards the subject `of`;
    "prior": the earlier value of the quantity `of`; "change", "change_percent": against it;
    "category": a suggested category, `of` names the rule;
    about the image: "modality", "contrast" ("with", "without"), "slice_thickness", "spacing", "phase", ...

    Attributes:
        id: unique within a Facts ("f12").
        subject: id of a Subject.
        value: number, text or yes/no.
        unit: UCUM; empty for what has none.
        because: ids of the facts it was derived from.
    """

    id: str
    subject: str
    quantity: str
    value: float | int | str | bool
    unit: str = ""
    of: str = ""
    exhaustive: bool = False
    because: tuple[str, ...] = ()
    code: Code | None = None
    source: Source | None = None


@dataclass(frozen=True)
class Facts:
    """All that is known of a study: what the draft is written from and what every statement is checked against.

    Attributes:
        modality: DICOM code of the image ("CT", "MR", "PT", "US").
        study: what identifies it technically (fingerprint, UIDs); no name, no birth date, no patient number.
        warnings: sentences about what could not be measured, and why.
    """

    subjects: tuple[Subject, ...] = ()
    facts: tuple[Fact, ...] = ()
    modality: str = ""
    study: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def subject(self, subject_id: str) -> Subject:
        """Raises KeyError if there is none."""
        return next_or_key_error((s for s in self.subjects if s.id == subject_id), subject_id)

    def fact(self, fact_id: str) -> Fact:
        """Raises KeyError if there is none."""
        return next_or_key_error((f for f in self.facts if f.id == fact_id), fact_id)

    def of(self, subject_id: str, quantity: str | None = None) -> tuple[Fact, ...]:
        """The facts about a subject, in their order; of one quantity if given."""
        return tuple(f for f in self.facts if f.subject == subject_id and quantity in (None, f.quantity))


@dataclass(frozen=True)
class Judgement:
    """The cross-check's answer to one statement: a verdict, one line why, and the facts that decided."""

    verdict: Verdict
    reason: str
    facts: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelInfo:
    """Which model wrote, and from what. Nothing in it identifies a patient."""

    id: str
    engine: str
    model: str
    revision: str
    licence: str = ""
    device: str = ""
    precision: str = ""
    prompt_sha256: str = ""
    slices: tuple[int, ...] = ()
    windows: tuple[tuple[float, float], ...] = ()
    decoding: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None


@dataclass(frozen=True)
class Statement:
    """One sentence of a report, or one field to be filled.

    Attributes:
        id: unique within a report, never used again ("s7").
        section: key of its Section.
        facts: ids of the facts that it was made from (template) or that a person linked.
        judgement: of the last cross-check; None before it.
        model: id of the ModelInfo that wrote it; empty otherwise.
        slices: k indices of the slices that were shown for it.
        agreement: (k, n): k of n samples of the model say the same; None where it was not asked.
        placeholder: a field such as "[not assessed]" that a person has to fill or to confirm.
        accepted_by: who took responsibility for it as it stands; empty while nobody did.
    """

    id: str
    section: str
    text: str
    origin: Origin
    facts: tuple[str, ...] = ()
    judgement: Judgement | None = None
    model: str = ""
    slices: tuple[int, ...] = ()
    agreement: tuple[int, int] | None = None
    placeholder: bool = False
    accepted_by: str = ""


@dataclass(frozen=True)
class Section:
    """A heading of the report; `code` is its LOINC or DCM concept."""

    key: str
    title: str
    code: Code | None = None


@dataclass(frozen=True)
class ClinicalContext:
    """What the referrer says; read from a FHIR bundle and redacted (see `context.py`). Ages in years."""

    age: int | None = None
    sex: str = ""
    indication: str = ""
    history: tuple[str, ...] = ()
    labs: tuple[str, ...] = ()
    prior_report: str = ""
    used: tuple[str, ...] = ()
    redacted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Signature:
    """A recorded attestation with the hash of what was signed; not a cryptographic signature."""

    signer: str
    when: str
    content_sha256: str
    organisation: str = ""


@dataclass(frozen=True)
class Report:
    """Facts, sections and statements, and how far they have come.

    Attributes:
        omitted: ids of facts that the template says must be mentioned and no statement mentions (last cross-check).
        left_out: ids of omitted facts that a person decided not to mention.
        addenda: ids of the statements that were added after signing.
        signatures: the first signs the report, later ones an addendum or a retraction each.
        next_statement: number of the next statement's id.
    """

    id: str
    template: str
    template_version: str
    language: str
    facts: Facts
    sections: tuple[Section, ...]
    statements: tuple[Statement, ...]
    state: State = State.DRAFT
    context: ClinicalContext | None = None
    models: tuple[ModelInfo, ...] = ()
    omitted: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    addenda: tuple[str, ...] = ()
    signatures: tuple[Signature, ...] = ()
    next_statement: int = 1

    def statement(self, statement_id: str) -> Statement:
        """Raises KeyError if there is none."""
        return next_or_key_error((s for s in self.statements if s.id == statement_id), statement_id)

    def in_section(self, key: str) -> tuple[Statement, ...]:
        return tuple(s for s in self.statements if s.section == key)

    def with_statements(self, statements: Iterable[Statement]) -> Report:
        return replace(self, statements=tuple(statements))

    # What may be done with a report, and when, is in `state.py`; these only save an import.

    def edit(self, statement_id: str, text: str) -> Report:
        """See `state.edit`."""
        from .state import edit

        return edit(self, statement_id, text)

    def add(self, section: str, text: str, facts: Iterable[str] = ()) -> Report:
        """See `state.add`."""
        from .state import add

        return add(self, section, text, facts)

    def dismiss(self, statement_id: str) -> Report:
        """See `state.dismiss`."""
        from .state import dismiss

        return dismiss(self, statement_id)

    def accept(self, *ids: str, by: str) -> Report:
        """See `state.accept`."""
        from .state import accept

        return accept(self, *ids, by=by)

    def check(self) -> Report:
        """See `check.check`."""
        from .check import check

        return check(self)

    def with_narrative(self, engine: Engine, volume: Volume, segmentation: Any = None) -> Report:
        """The report with what a vision-language model adds; see `engines.with_narrative`, which also says why not."""
        from .engines import with_narrative

        return with_narrative(self, engine, volume, segmentation).report

    def sign(self, signer: str, *, organisation: str = "") -> Report:
        """See `state.sign`."""
        from .state import sign

        return sign(self, signer, organisation=organisation)

    def addendum(self, text: str, signer: str, *, accept: bool = False, organisation: str = "") -> Report:
        """See `state.addendum`."""
        from .state import addendum

        return addendum(self, text, signer, accept=accept, organisation=organisation)

    def retract(self, reason: str, signer: str, *, organisation: str = "") -> Report:
        """See `state.retract`."""
        from .state import retract

        return retract(self, reason, signer, organisation=organisation)


def next_or_key_error(found: Iterable[T], name: str) -> T:
    """The first of them; KeyError with the name if there is none."""
    for item in found:
        return item
    raise KeyError(name)


def to_json_data(value: Any) -> Any:
    """Dataclasses to dicts, tuples to lists; fields that hold their default are left out, so that files stay short."""
    if is_dataclass(value) and not isinstance(value, type):
        out = {}
        for f in fields(value):
            item = getattr(value, f.name)
            if item != f.default or f.name in ("verdict",):
                data = to_json_data(item)
                if data not in ([], {}):
                    out[f.name] = data
        return out
    if isinstance(value, Mapping):
        return {str(key): to_json_data(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_json_data(item) for item in value]
    return value


def canonical_json(value: Any) -> str:
    """The one text of a value: sorted keys, no spaces, UTF-8. What hashes are made of."""
    return json.dumps(to_json_data(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
