# SPDX-License-Identifier: Apache-2.0
"""What the referrer says, from a FHIR R4 bundle: age, sex, indication, history, laboratory values, prior report.

Read defensively by hand instead of by fhir.resources: that rejects a whole bundle for one unknown field, and bundles of
real systems hold many. Only what is named here is read; every text passes the redaction, and the record says which
kinds of resources were used and what kinds of identifiers were taken out, never which. HL7 FHIR R4 (4.0.1): Bundle,
Patient, ServiceRequest, Condition, Observation, DiagnosticReport.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path

from .errors import ContextError
from .fhir import (
    Resource,
    attached_text,
    concept,
    day_of,
    days_before,
    first_code,
    interpretation_text,
    is_active,
    is_laboratory,
    issued_on,
    looks_like_xml,
    newest,
    objects,
    own_reference,
    plain_text,
    quantity_text,
    range_text,
    reference_of,
    same_reference,
    strings,
)
from .model import ClinicalContext
from .redaction import redact

_LARGEST_BYTES = 64 * 2**20
_MOST_LABS = 20
_MOST_HISTORY = 30
_LONGEST = 4000
# Ages above are one group (45 CFR 164.514(b)(2)(i)(C)).
_OLDEST = 90
_PEOPLE = {"Patient", "Practitioner", "RelatedPerson", "Person"}
_PLACES = {"Organization", "Location"}
_PAST = {"inactive", "remission", "resolved"}


def load_context(path: str | os.PathLike[str], on: date | None = None) -> ClinicalContext:
    """The context of a FHIR R4 file. `on`: the day of the study, for the age; else that of the request, else today.

    Raises:
        ContextError: not readable, not FHIR R4, no patient's, or of more than one patient.
    """
    name = Path(path).name
    try:
        if os.path.getsize(path) > _LARGEST_BYTES:
            raise ContextError(f"{name} is larger than 64 MB; export the patient's bundle without images or binaries.")
        data = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ContextError(f"{name} cannot be read ({error.strerror}); check the path.") from error
    except (ValueError, RecursionError) as error:
        kind = "it looks like XML" if looks_like_xml(path) else "it is no JSON"
        raise ContextError(f"{name} is not a FHIR bundle as JSON ({kind}); export it as FHIR R4 JSON.") from error
    return read_context(data, name, on)


def read_context(data: object, name: str = "The bundle", on: date | None = None) -> ClinicalContext:
    """The context of FHIR data: a Bundle, or one resource. Raises ContextError as `load_context` does."""
    resources = _resources(data, name)
    by_type: dict[str, list[Resource]] = {}
    for resource in resources:
        by_type.setdefault(str(resource.get("resourceType")), []).append(resource)
    patient = _the_patient(by_type, name)
    read = _Reading(_identifiers(resources))
    request = newest(
        [r for r in by_type.get("ServiceRequest", []) if is_active(r)], lambda r: day_of(r.get("authoredOn"))
    )
    day = on or (day_of(request.get("authoredOn")) if request else None) or datetime.now(UTC).date()
    conditions = {own_reference(r): r for r in by_type.get("Condition", [])}
    return ClinicalContext(
        age=read.age(patient, day),
        sex=read.sex(patient),
        indication=read.indication(request, conditions),
        history=read.history(by_type.get("Condition", [])),
        labs=read.labs(by_type.get("Observation", []), day),
        prior_report=read.prior_report(by_type.get("DiagnosticReport", [])),
        used=tuple(f"{what}: {count}" for what, count in sorted(read.used.items())),
        redacted=tuple(f"{kind}: {count}" for kind, count in sorted(read.removed.items())),
    )


class _Reading:
    """Takes texts out of resources, without identifiers, and keeps count of both."""

    def __init__(self, known: frozenset[str]) -> None:
        self._known = known
        self.used: Counter[str] = Counter()
        self.removed: Counter[str] = Counter()

    def text(self, value: object, source: str) -> str:
        """One text, on one line."""
        if not isinstance(value, str) or not value.strip():
            return ""
        found = redact(" ".join(plain_text(value).split())[:_LONGEST], self._known)
        self.used[source] += 1
        self.removed.update(found.kinds)
        return found.text

    def age(self, patient: Resource | None, day: date) -> int | None:
        """Completed years; 90 for all above 89."""
        if patient is None:
            return None
        born = str(patient.get("birthDate") or "")
        match = re.fullmatch(r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?", born)
        if match is None:
            return None
        year, month, dom = (int(part) if part else None for part in match.groups())
        assert year is not None
        years = day.year - year
        if month is not None and (day.month, day.day) < (month, dom or 1):
            years -= 1
        if not 0 <= years <= 130:
            return None
        self.used["Patient.birthDate"] += 1
        self.removed["date"] += 1
        if years >= _OLDEST:
            self.removed["age"] += 1
        return min(years, _OLDEST)

    def sex(self, patient: Resource | None) -> str:
        gender = str((patient or {}).get("gender") or "")
        if gender not in ("male", "female", "other"):
            return ""
        self.used["Patient.gender"] += 1
        return gender

    def indication(self, request: Resource | None, conditions: Mapping[str, Resource]) -> str:
        """Why the study was asked for: reasons, what they refer to, and the notes of the request."""
        if request is None:
            return ""
        parts = [self.text(concept(reason), "ServiceRequest.reasonCode") for reason in objects(request, "reasonCode")]
        for reference in objects(request, "reasonReference"):
            condition = conditions.get(reference_of(reference))
            if condition is not None:
                parts.append(self.text(concept(condition.get("code")), "Condition.code"))
            else:
                parts.append(self.text(reference.get("display"), "ServiceRequest.reasonReference"))
        parts += [self.text(note.get("text"), "ServiceRequest.note") for note in objects(request, "note")]
        return "; ".join(dict.fromkeys(part for part in parts if part))

    def history(self, conditions: list[Resource]) -> tuple[str, ...]:
        """Conditions that were not refuted; those that are over say so."""
        found = []
        for condition in conditions:
            if not is_active(condition) or first_code(condition.get("verificationStatus")) in (
                "refuted",
                "entered-in-error",
            ):
                continue
            text = self.text(concept(condition.get("code")), "Condition.code")
            status = first_code(condition.get("clinicalStatus"))
            if text:
                found.append(f"{text} ({status})" if status in _PAST else text)
        return tuple(dict.fromkeys(found))[:_MOST_HISTORY]

    def labs(self, observations: list[Resource], day: date) -> tuple[str, ...]:
        """The newest value of each test, as "Creatinine 1.4 mg/dL (reference 0.7-1.2, high; 3 days before)"."""
        latest: dict[str, Resource] = {}
        for observation in sorted(observations, key=lambda o: day_of(o.get("effectiveDateTime")) or date.min):
            test = concept(observation.get("code"))
            if test and is_active(observation) and is_laboratory(observation):
                latest[test] = observation
        lines = []
        for test, observation in latest.items():
            value = quantity_text(observation.get("valueQuantity")) or self.text(
                observation.get("valueString") or concept(observation.get("valueCodeableConcept")), "Observation.value"
            )
            name = self.text(test, "Observation.code")
            if not (value and name):
                continue
            self.used["Observation.value"] += 1
            notes = [range_text(observation), interpretation_text(observation)]
            shown = ", ".join(note for note in notes if note)
            when = day_of(observation.get("effectiveDateTime"))
            if when is not None:
                self.removed["date"] += 1
                shown = "; ".join(part for part in (shown, days_before(when, day)) if part)
            lines.append(f"{name} {value}" + (f" ({shown})" if shown else ""))
        return tuple(lines[-_MOST_LABS:])

    def prior_report(self, reports: list[Resource]) -> str:
        """The newest finished imaging report: its conclusion, and its text where that comes with it."""
        done = [r for r in reports if str(r.get("status")) in ("final", "amended", "corrected", "appended")]
        report = newest([r for r in done if not is_laboratory(r)], lambda r: day_of(issued_on(r)))
        if report is None:
            return ""
        forms = [
            self.text(attached_text(form), "DiagnosticReport.presentedForm")
            for form in objects(report, "presentedForm")
        ]
        conclusion = self.text(report.get("conclusion"), "DiagnosticReport.conclusion")
        return " ".join(dict.fromkeys(part for part in (*forms, conclusion) if part))[:_LONGEST]


def _resources(data: object, name: str) -> list[Resource]:
    if not isinstance(data, Mapping) or not isinstance(data.get("resourceType"), str):
        raise ContextError(f"{name} is not FHIR (it has no resourceType); export the patient's bundle as FHIR R4 JSON.")
    if data["resourceType"] != "Bundle":
        return [data]
    entries = data.get("entry", [])
    if not isinstance(entries, list):
        raise ContextError(f'{name} is a FHIR Bundle whose "entry" is no list; export it again.')
    found = []
    for number, entry in enumerate(entries):
        resource = entry.get("resource") if isinstance(entry, Mapping) else None
        if resource is None:
            continue  # a link or the answer to a request
        if not isinstance(resource, Mapping) or not isinstance(resource.get("resourceType"), str):
            raise ContextError(f"Entry {number + 1} of {name} is no FHIR resource; export the bundle again.")
        full = entry.get("fullUrl")
        found.append({**resource, "_fullUrl": full} if isinstance(full, str) else resource)
    if not found:
        raise ContextError(f"{name} is a FHIR Bundle with no resources in it; export it with the patient's data.")
    return found


def _the_patient(by_type: Mapping[str, list[Resource]], name: str) -> Resource | None:
    """The one whom everything is about. Raises ContextError for several, or for what is about somebody else."""
    patients = {own_reference(p): p for p in by_type.get("Patient", [])}
    if len(patients) > 1:
        raise ContextError(f"{name} holds {len(patients)} patients; export the bundle of the one who was examined.")
    about = {reference_of(r.get("subject") or r.get("patient")) for kind in _READ for r in by_type.get(kind, [])} - {""}
    if patients:
        known = next(iter(patients.values()))
        ids = {own_reference(known), str(known.get("_fullUrl") or "")}
        strangers = {
            subject for subject in about if subject not in ids and not any(same_reference(i, subject) for i in ids)
        }
    else:
        strangers = about if len(about) > 1 else set()
    if strangers:
        raise ContextError(
            f"{name} holds data of more than one patient (what it says is about others than its Patient); export the "
            "bundle of the one who was examined."
        )
    if not patients and not any(by_type.get(kind) for kind in _READ):
        kinds = ", ".join(sorted(by_type)[:4])
        raise ContextError(f"{name} says nothing about a patient (it holds: {kinds}); export the patient's bundle.")
    return next(iter(patients.values()), None)


_READ = ("ServiceRequest", "Condition", "Observation", "DiagnosticReport")


def _identifiers(resources: list[Resource]) -> frozenset[str]:
    """Names, numbers, addresses and contacts of the people and places in a bundle."""
    found: set[str] = set()
    for resource in _with_contained(resources):
        kind = resource.get("resourceType")
        for identifier in objects(resource, "identifier"):
            found.add(str(identifier.get("value") or ""))
        if kind in _PEOPLE:
            for human in objects(resource, "name"):
                words = [human.get("family"), human.get("text"), *strings(human.get("given"))]
                found |= {str(word) for word in words if word}
                found |= {part for word in words if word for part in str(word).split()}
        elif kind in _PLACES and isinstance(resource.get("name"), str):
            found.add(resource["name"])
        for contact in objects(resource, "telecom"):
            found.add(str(contact.get("value") or ""))
        for address in objects(resource, "address"):
            parts = [*strings(address.get("line")), address.get("city"), address.get("postalCode"), address.get("text")]
            found |= {str(part) for part in parts if part}
    # People who are only named where they are referred to.
    for resource in resources:
        for key in ("requester", "performer", "recorder", "resultsInterpreter", "subject", "asserter"):
            for reference in objects(resource, key):
                found |= {
                    part for part in str(reference.get("display") or "").replace(",", " ").split() if len(part) > 2
                }
    return frozenset(word for word in found if len(word) > 1 and word.casefold().rstrip(".") not in _TITLES)


_TITLES = {"dr", "prof", "mr", "mrs", "ms", "md", "phd", "the", "and", "of"}


def _with_contained(resources: list[Resource]) -> Iterator[Resource]:
    for resource in resources:
        yield resource
        yield from objects(resource, "contained")
