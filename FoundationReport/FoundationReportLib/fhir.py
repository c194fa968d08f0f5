# SPDX-License-Identifier: Apache-2.0
"""Parts of FHIR R4 resources, read so that nothing malformed raises: what is not as it should be is empty."""

from __future__ import annotations

import base64
import binascii
import html
import os
import re
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

Resource = Mapping[str, Any]

_INACTIVE = {"entered-in-error", "cancelled", "revoked"}


def concept(value: object) -> str:
    """The words of a CodeableConcept: its text, else the display of its first coding that has one."""
    if not isinstance(value, Mapping):
        return ""
    if isinstance(value.get("text"), str) and value["text"].strip():
        return str(value["text"]).strip()
    return next((str(c["display"]).strip() for c in objects(value, "coding") if isinstance(c.get("display"), str)), "")


def first_code(value: object) -> str:
    codes = objects(value, "coding") if isinstance(value, Mapping) else []
    return str(codes[0].get("code") or "") if codes else ""


def objects(value: object, key: str) -> list[Resource]:
    """The objects under a key, whether there are many, one or none."""
    found = value.get(key) if isinstance(value, Mapping) else None
    items = found if isinstance(found, list) else [found]
    return [item for item in items if isinstance(item, Mapping)]


def strings(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def is_active(resource: Resource) -> bool:
    return str(resource.get("status")) not in _INACTIVE


def reference_of(value: object) -> str:
    return str(value.get("reference") or "") if isinstance(value, Mapping) else ""


def own_reference(resource: Resource) -> str:
    return f"{resource['resourceType']}/{resource.get('id') or resource.get('_fullUrl') or ''}"


def same_reference(known: str, reference: str) -> bool:
    """Whether a reference with another server in front, or a version behind, is the same."""
    plain = reference.partition("/_history/")[0]
    return bool(known) and (plain == known or plain.endswith(f"/{known}") or known.endswith(f"/{plain}"))


def day_of(value: object) -> date | None:
    match = re.match(r"(\d{4})-(\d\d)-(\d\d)", value) if isinstance(value, str) else None
    try:
        return date(*(int(part) for part in match.groups())) if match else None
    except ValueError:
        return None


def newest(found: list[Resource], when: Callable[[Resource], date | None]) -> Resource | None:
    return max(found, key=lambda resource: when(resource) or date.min, default=None)


def issued_on(report: Resource) -> object:
    return report.get("effectiveDateTime") or report.get("issued")


def days_before(when: date, day: date) -> str:
    days = (day - when).days
    return "same day" if days == 0 else f"{days} days before" if days > 0 else f"{-days} days after"


def is_laboratory(resource: Resource) -> bool:
    codes = [c.get("code") for category in objects(resource, "category") for c in objects(category, "coding")]
    return "laboratory" in codes or "LAB" in codes


def quantity_text(value: object) -> str:
    if not isinstance(value, Mapping) or not isinstance(value.get("value"), int | float):
        return ""
    unit = value.get("unit") or value.get("code") or ""
    comparator = str(value.get("comparator") or "")
    comparator = comparator if comparator in ("<", "<=", ">", ">=") else ""
    return f"{comparator}{value['value']:g} {unit if re.fullmatch(r'[^<>]{0,20}', str(unit)) else ''}".strip()


def range_text(observation: Resource) -> str:
    for limits in objects(observation, "referenceRange"):
        low, high = (
            quantity_text({**limits[k], "unit": "", "code": ""}) if isinstance(limits.get(k), Mapping) else ""
            for k in ("low", "high")
        )
        if low or high:
            return (
                f"reference {low}-{high}" if low and high else f"reference {'above ' + low if low else 'below ' + high}"
            )
    return ""


def interpretation_text(observation: Resource) -> str:
    names = {"H": "high", "HH": "critically high", "L": "low", "LL": "critically low", "A": "abnormal", "N": "normal"}
    return next((names[c] for i in objects(observation, "interpretation") if (c := first_code(i)) in names), "")


def attached_text(form: Resource) -> str:
    """The text of an attachment that is text; nothing is fetched."""
    kind = str(form.get("contentType") or "").partition(";")[0]
    if kind not in ("text/plain", "text/html") or not isinstance(form.get("data"), str):
        return ""
    try:
        return base64.b64decode(form["data"], validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""


def plain_text(text: str) -> str:
    """Without tags and entities."""
    if "<" not in text:
        return text
    text = re.sub(r"(?is)<(script|style)\b.*?</\1\s*>", " ", text)
    return html.unescape(re.sub(r"</?[a-zA-Z!][^>]*>", " ", text))


def looks_like_xml(path: str | os.PathLike[str]) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(200).lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<")
    except OSError:
        return False
