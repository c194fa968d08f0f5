# SPDX-License-Identifier: Apache-2.0
"""What the referrer says, from a FHIR R4 bundle: age, sex, indication, history, laboratory values, prior report.

Read defensively by hand instead of by fhir.resources: that rejects a whole bundle for one unknown field, and bundles of
real systems hold many. Only what is named here is read; every text passes the redaction, and the record says which
kinds of resources were used and what kinds of identifiers were taken out, never which. HL7 FHIR R4 (4.0.1): Bundle,
Patient, ServiceRequest, Condition, Observation, DiagnosticReport, ImagingStudy.
"""

from __future__ import annotations

import base64
import binascii
import html
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from .errors import ContextError
from .model import ClinicalContext
from .redaction import redact

Resource = Mapping[str, Any]

_LARGEST_BYTES = 64 * 2**20
_MOST_LABS = 20
_MOST_HISTORY = 30
_LONGEST = 4000
# Ages above are one group (45 CFR 164.514(b)(2)(i)(C)).
_OLDEST = 90
_PEOPLE = {"Patient", "Practitioner", "RelatedPerson", "Person"}
_PLACES = {"Organization", "Location"}
_INACTIVE = {"entered-in-error", "cancelled", "revoked"}
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
        kind = "it looks like XML" if _looks_like_xml(path) else "it is no JSON"
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
    request = _newest(
        [r for r in by_type.get("ServiceRequest", []) if _active(r)], lambda r: _when(r.get("authoredOn"))
    )
    day = on or (_when(request.get("authoredOn")) if request else None) or datetime.now(UTC).date()
    conditions = {_own_reference(r): r for r in by_type.get("Condition", [])}
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
        found = redact(" ".join(_plain(value).split())[:_LONGEST], self._known)
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
        parts = [self.text(concept(reason), "ServiceRequest.reasonCode") for reason in _list(request, "reasonCode")]
        for reference in _list(request, "reasonReference"):
            condition = conditions.get(_reference(reference))
            if condition is not None:
                parts.append(self.text(concept(condition.get("code")), "Condition.code"))
            else:
                parts.append(self.text(reference.get("display"), "ServiceRequest.reasonReference"))
        parts += [self.text(note.get("text"), "ServiceRequest.note") for note in _list(request, "note")]
        return "; ".join(dict.fromkeys(part for part in parts if part))

    def history(self, conditions: list[Resource]) -> tuple[str, ...]:
        """Conditions that were not refuted; those that are over say so."""
        found = []
        for condition in conditions:
            if not _active(condition) or _code(condition.get("verificationStatus")) in ("refuted", "entered-in-error"):
                continue
            text = self.text(concept(condition.get("code")), "Condition.code")
            status = _code(condition.get("clinicalStatus"))
            if text:
                found.append(f"{text} ({status})" if status in _PAST else text)
        return tuple(dict.fromkeys(found))[:_MOST_HISTORY]

    def labs(self, observations: list[Resource], day: date) -> tuple[str, ...]:
        """The newest value of each test, as "Creatinine 1.4 mg/dL (reference 0.7-1.2, high; 3 days before)"."""
        newest: dict[str, Resource] = {}
        for observation in sorted(observations, key=lambda o: _when(o.get("effectiveDateTime")) or date.min):
            test = concept(observation.get("code"))
            if test and _active(observation) and _is_laboratory(observation):
                newest[test] = observation
        lines = []
        for test, observation in newest.items():
            value = _quantity(observation.get("valueQuantity")) or self.text(
                observation.get("valueString") or concept(observation.get("valueCodeableConcept")), "Observation.value"
            )
            name = self.text(test, "Observation.code")
            if not (value and name):
                continue
            self.used["Observation.value"] += 1
            notes = [_reference_range(observation), _interpretation(observation)]
            shown = ", ".join(note for note in notes if note)
            when = _when(observation.get("effectiveDateTime"))
            if when is not None:
                self.removed["date"] += 1
                shown = "; ".join(part for part in (shown, _before(when, day)) if part)
            lines.append(f"{name} {value}" + (f" ({shown})" if shown else ""))
        return tuple(lines[-_MOST_LABS:])

    def prior_report(self, reports: list[Resource]) -> str:
        """The newest finished imaging report: its conclusion, and its text where that comes with it."""
        done = [r for r in reports if str(r.get("status")) in ("final", "amended", "corrected", "appended")]
        report = _newest([r for r in done if not _is_laboratory(r)], lambda r: _when(_issued(r)))
        if report is None:
            return ""
        forms = [
            self.text(_attached(form), "DiagnosticReport.presentedForm") for form in _list(report, "presentedForm")
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
    patients = {_own_reference(p): p for p in by_type.get("Patient", [])}
    if len(patients) > 1:
        raise ContextError(f"{name} holds {len(patients)} patients; export the bundle of the one who was examined.")
    about = {_reference(r.get("subject") or r.get("patient")) for kind in _READ for r in by_type.get(kind, [])} - {""}
    if patients:
        known = next(iter(patients.values()))
        ids = {_own_reference(known), str(known.get("_fullUrl") or "")}
        strangers = {subject for subject in about if subject not in ids and not any(_ends(i, subject) for i in ids)}
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
        for identifier in _list(resource, "identifier"):
            found.add(str(identifier.get("value") or ""))
        if kind in _PEOPLE:
            for human in _list(resource, "name"):
                words = [human.get("family"), human.get("text"), *_texts(human.get("given"))]
                found |= {str(word) for word in words if word}
                found |= {part for word in words if word for part in str(word).split()}
        elif kind in _PLACES and isinstance(resource.get("name"), str):
            found.add(resource["name"])
        for contact in _list(resource, "telecom"):
            found.add(str(contact.get("value") or ""))
        for address in _list(resource, "address"):
            parts = [*_texts(address.get("line")), address.get("city"), address.get("postalCode"), address.get("text")]
            found |= {str(part) for part in parts if part}
    # People who are only named where they are referred to.
    for resource in resources:
        for key in ("requester", "performer", "recorder", "resultsInterpreter", "subject", "asserter"):
            for reference in _list(resource, key):
                found |= {
                    part for part in str(reference.get("display") or "").replace(",", " ").split() if len(part) > 2
                }
    return frozenset(word for word in found if len(word) > 1 and word.casefold().rstrip(".") not in _TITLES)


_TITLES = {"dr", "prof", "mr", "mrs", "ms", "md", "phd", "the", "and", "of"}


def _with_contained(resources: list[Resource]) -> Iterator[Resource]:
    for resource in resources:
        yield resource
        yield from _list(resource, "contained")


def concept(value: object) -> str:
    """The words of a CodeableConcept: its text, else the display of its first coding that has one."""
    if not isinstance(value, Mapping):
        return ""
    if isinstance(value.get("text"), str) and value["text"].strip():
        return str(value["text"]).strip()
    return next((str(c["display"]).strip() for c in _list(value, "coding") if isinstance(c.get("display"), str)), "")


def _code(value: object) -> str:
    codes = _list(value, "coding") if isinstance(value, Mapping) else []
    return str(codes[0].get("code") or "") if codes else ""


def _list(value: object, key: str) -> list[Resource]:
    """The objects under a key, whether there are many, one or none."""
    found = value.get(key) if isinstance(value, Mapping) else None
    items = found if isinstance(found, list) else [found]
    return [item for item in items if isinstance(item, Mapping)]


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _active(resource: Resource) -> bool:
    return str(resource.get("status")) not in _INACTIVE


def _reference(value: object) -> str:
    return str(value.get("reference") or "") if isinstance(value, Mapping) else ""


def _own_reference(resource: Resource) -> str:
    return f"{resource['resourceType']}/{resource.get('id') or resource.get('_fullUrl') or ''}"


def _ends(known: str, reference: str) -> bool:
    """Whether a reference with another server in front, or a version behind, is the same."""
    plain = reference.partition("/_history/")[0]
    return bool(known) and (plain == known or plain.endswith(f"/{known}") or known.endswith(f"/{plain}"))


def _when(value: object) -> date | None:
    match = re.match(r"(\d{4})-(\d\d)-(\d\d)", value) if isinstance(value, str) else None
    try:
        return date(*(int(part) for part in match.groups())) if match else None
    except ValueError:
        return None


def _newest(found: list[Resource], when: Callable[[Resource], date | None]) -> Resource | None:
    return max(found, key=lambda resource: when(resource) or date.min, default=None)


def _issued(report: Resource) -> object:
    return report.get("effectiveDateTime") or report.get("issued")


def _before(when: date, day: date) -> str:
    days = (day - when).days
    return "same day" if days == 0 else f"{days} days before" if days > 0 else f"{-days} days after"


def _is_laboratory(resource: Resource) -> bool:
    codes = [c.get("code") for category in _list(resource, "category") for c in _list(category, "coding")]
    return "laboratory" in codes or "LAB" in codes


def _quantity(value: object) -> str:
    if not isinstance(value, Mapping) or not isinstance(value.get("value"), int | float):
        return ""
    unit = value.get("unit") or value.get("code") or ""
    comparator = str(value.get("comparator") or "")
    comparator = comparator if comparator in ("<", "<=", ">", ">=") else ""
    return f"{comparator}{value['value']:g} {unit if re.fullmatch(r'[^<>]{0,20}', str(unit)) else ''}".strip()


def _reference_range(observation: Resource) -> str:
    for limits in _list(observation, "referenceRange"):
        low, high = (
            _quantity({**limits[k], "unit": "", "code": ""}) if isinstance(limits.get(k), Mapping) else ""
            for k in ("low", "high")
        )
        if low or high:
            return (
                f"reference {low}-{high}" if low and high else f"reference {'above ' + low if low else 'below ' + high}"
            )
    return ""


def _interpretation(observation: Resource) -> str:
    names = {"H": "high", "HH": "critically high", "L": "low", "LL": "critically low", "A": "abnormal", "N": "normal"}
    return next((names[c] for i in _list(observation, "interpretation") if (c := _code(i)) in names), "")


def _attached(form: Resource) -> str:
    """The text of an attachment that is text; nothing is fetched."""
    kind = str(form.get("contentType") or "").partition(";")[0]
    if kind not in ("text/plain", "text/html") or not isinstance(form.get("data"), str):
        return ""
    try:
        return base64.b64decode(form["data"], validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""


def _plain(text: str) -> str:
    """Without tags and entities."""
    if "<" not in text:
        return text
    text = re.sub(r"(?is)<(script|style)\b.*?</\1\s*>", " ", text)
    return html.unescape(re.sub(r"</?[a-zA-Z!][^>]*>", " ", text))


def _looks_like_xml(path: str | os.PathLike[str]) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(200).lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<")
    except OSError:
        return False
