# SPDX-License-Identifier: Apache-2.0
"""Imports report templates of the IHE profile MRRT (HTML5, for example from radreport.org).

What such a template writes by default ("Normal.") is left out on purpose: a draft never says normal of what nobody
looked at. Fields named after organs are filled from facts of these organs, all others are for a person.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .errors import TemplateError
from .measure.subjects import anatomy
from .mrrt_parser import MrrtField, MrrtFile, MrrtSection, parse_mrrt
from .templates import TEMPLATE_SCHEMA, Template, template_from_data
from .wording import languages

_LARGEST_FILE = 5_000_000  # bytes
_MOST_NOTED = 5
# LOINC codes and words of the sections that a draft writes itself, English and German.
_KEYS = {
    "history": (
        {"55752-0", "11329-0", "18785-6"},
        ("clinical", "history", "indication", "reason", "klinische", "anamnese", "indikation", "fragestellung"),
    ),
    "technique": ({"55111-9"}, ("procedure", "technique", "protocol", "technik", "untersuchungstechnik")),
    "comparison": ({"18834-2"}, ("comparison", "comparisons", "prior", "voruntersuchung", "voruntersuchungen")),
    "impression": ({"19005-8"}, ("impression", "impressions", "conclusion", "assessment", "beurteilung")),
    "findings": ({"59776-5", "18782-3"}, ("findings", "finding", "observations", "befund", "befunde")),
    "recommendations": ({"18783-0"}, ("recommendation", "recommendations", "empfehlung", "empfehlungen")),
}
_SCHEMES = {"LOINC": "LN", "SNOMED": "SCT", "SNOMEDCT": "SCT", "SNOMED-CT": "SCT", "RADLEX": "RADLEX"}
_MODALITIES = {"ct": "CT", "mr": "MR", "mri": "MR", "pet": "PT", "us": "US", "ultrasound": "US"}
# Words that make an organ's name no other thing.
_FILLERS = {"and", "the", "of", "gland", "glands", "urinary", "bases", "base", "system", "parenchyma", "tract"}
_NODES = {"node", "nodes", "lymph", "lymphatics", "adenopathy", "lymphadenopathy"}
_SIDES = {"left", "right"}


def read_mrrt(path: str | os.PathLike[str]) -> tuple[Template, tuple[str, ...]]:
    """A template from an MRRT file, and sentences on what was left out.

    Raises:
        TemplateError: if the file cannot be read, is no such template, or is in a language that reports are not
            written in.
    """
    source = Path(path)
    try:
        if source.stat().st_size > _LARGEST_FILE:
            raise TemplateError(f"{source} is too large for a report template; choose another file.")
        content = source.read_bytes()
    except OSError as error:
        reason = "is a folder" if source.is_dir() else (error.strerror or "cannot be read").lower()
        raise TemplateError(f"{source} cannot be read ({reason}); choose another file.") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")  # what older editors wrote
    file = parse_mrrt(text)
    if not any(section.fields for section in file.sections):
        raise TemplateError(
            f"{source} is not an MRRT report template: it has no <section> with fields; choose another file."
        )
    notes = _notes(file)
    data = _template(file, _language(file, source), source.stem, hashlib.sha256(content).hexdigest(), notes)
    return template_from_data(data, os.fspath(source)), tuple(notes)


def _template(file: MrrtFile, language: str, stem: str, digest: str, notes: list[str]) -> dict[str, Any]:
    title = file.meta.get("title") or stem
    sections: list[dict[str, Any]] = []
    for section in file.sections:
        made = _section(file, section, language)
        same = next((other for other in sections if other["key"] == made["key"]), None)
        if same is None:
            sections.append(made)
        else:
            same["items"] += [item for item in made["items"] if item not in same["items"]]
    _complete(sections)
    names = ("identifier", "creator", "publisher", "rights", "license", "date")
    origin = {name: file.meta[name] for name in names if file.meta.get(name)}
    data: dict[str, Any] = {
        "schema": TEMPLATE_SCHEMA,
        "id": _slug(title),
        "version": "1.0.0",
        "title": {language: title},
        "description": file.meta.get("description") or f"Imported from an MRRT template: {title}",
        "languages": [language],
        "origin": {"format": "MRRT", "title": title, **origin, "sha256": digest, "notes": notes},
        "mention": ["long_axis", "short_axis", "presence", "trend"],
        "sections": sections,
    }
    found = {_MODALITIES[word] for word in re.findall(r"[a-z]+", title.lower()) if word in _MODALITIES}
    if len(found) == 1:
        data["modality"] = sorted(found)
    return data


def _section(file: MrrtFile, section: MrrtSection, language: str) -> dict[str, Any]:
    code = file.codes.get(section.id)
    key = _key(section, code[1] if code else "")
    name = section.name or key
    items: list[dict[str, Any]] = []
    if key in ("history", "technique", "comparison", "impression"):
        items.append({"item": key})
    for each in section.fields:
        # A field of a section that is one field ("Text") is what the draft writes there itself.
        plain = each.label.lower() in ("", "text", "free text", name.lower(), key)
        if not (items and items[0]["item"] == key and plain):
            item = _item(file, each, each.label or name, language)
            if item not in items:
                items.append(item)
    made: dict[str, Any] = {"key": key, "title": {language: name}, "items": items}
    if code:
        made["code"] = _code(code)
    return made


def _item(file: MrrtFile, each: MrrtField, label: str, language: str) -> dict[str, Any]:
    code = file.codes.get(each.id)
    words = {language: label}
    for text in (label, code[2] if code and not each.choices else ""):
        kind, organs, side = _organs(text)
        if kind == "nodes":
            return {"item": "nodes", "label": words}
        if kind == "organ":
            organ = {"item": "organ", "organs": organs, "label": words, "quantities": ["volume", "mean"]}
            return {**organ, "side": side} if side else organ
    item: dict[str, Any] = {"item": "field", "label": words, "type": each.type}
    if each.choices:
        item["choices"] = list(each.choices)
    if each.unit:
        item["unit"] = each.unit
    for name, text in (("minimum", each.minimum), ("maximum", each.maximum)):
        if re.fullmatch(r"-?\d{1,15}(\.\d+)?", text):  # more digits become an infinite number
            item[name] = float(text)
    if each.element:
        item["code"] = {"value": each.element, "scheme": "RADELEMENT", "meaning": label}
    elif code:
        item["code"] = _code(code)
    return item


def _organs(label: str) -> tuple[str, list[str], str]:
    """ "organ" with the organs and the side that a label names and nothing else, "nodes", or empty."""
    words = re.findall(r"[a-z]+", label.lower())
    if words and all(word in _NODES or word in _FILLERS for word in words) and _NODES & set(words):
        return "nodes", [], ""
    known = _organ_words()
    sides = [word for word in words if word in _SIDES]
    rest = [word for word in words if word not in _FILLERS and word not in _SIDES]
    organs: list[str] = []
    while rest:
        for length in (3, 2, 1):
            name = known.get(" ".join(rest[:length])) if len(rest) >= length else None
            if name is not None:
                organs += [name] if name not in organs else []
                rest = rest[length:]
                break
        else:
            return "", [], ""
    return ("organ", organs, sides[0] if len(set(sides)) == 1 else "") if organs else ("", [], "")


def _organ_words() -> dict[str, str]:
    """What organs are called, in singular and plural, to their names."""
    found: dict[str, str] = {}
    for organ in anatomy().organs.values():
        for word in organ.words:
            kept = " ".join(part for part in word.lower().split() if part not in _FILLERS)
            for form in (kept, f"{kept}s", f"{kept}es", f"{kept[:-1]}ies" if kept.endswith("y") else kept):
                found.setdefault(form, organ.name)
    return found


def _key(section: MrrtSection, code: str) -> str:
    for key, (codes, _) in _KEYS.items():
        if code in codes:
            return key
    words = re.findall(r"\w+", section.name.lower())
    for key, (_, names) in _KEYS.items():
        if any(name in words for name in names):
            return key
    return _slug(section.name or section.id or "section")


def _complete(sections: list[dict[str, Any]]) -> None:
    """What every draft needs: a place for all that was measured, and an impression."""
    keys = [section["key"] for section in sections]
    place: dict[str, Any] | None
    if "findings" in keys:
        place = sections[keys.index("findings")]
    else:
        fixed = ("history", "technique", "comparison", "impression", "recommendations")
        place = next((section for section in reversed(sections) if section["key"] not in fixed), None)
    if place is None:
        place = {"key": "findings", "items": []}
        sections.insert(keys.index("impression") if "impression" in keys else len(sections), place)
    place["items"].append({"item": "other"})
    if "impression" not in keys:
        sections.append({"key": "impression", "items": [{"item": "impression"}]})


def _language(file: MrrtFile, source: Path) -> str:
    """The language's code without its region; English where the file says none."""
    code = (file.meta.get("language") or "en").lower().partition("-")[0].partition("_")[0]
    names = {"english": "en", "eng": "en", "deutsch": "de", "german": "de", "deu": "de", "ger": "de"}
    code = names.get(code, code)
    if code not in languages():
        raise TemplateError(
            f"{source} is in {code!r} and reports can be written in {', '.join(languages())}; "
            "translate the template, or add a language file."
        )
    return code


def _notes(file: MrrtFile) -> list[str]:
    notes = []
    defaults = [each.default for section in file.sections for each in section.fields if each.default]
    if defaults:
        notes.append(
            f"{_texts(len(defaults), 'that the template writes by default')} left out ({_few(defaults)}); "
            "a draft says only what was measured."
        )
    if file.texts:
        notes.append(f"{_texts(len(file.texts), 'outside of fields')} left out ({_few(file.texts)}).")
    kind = file.meta.get("type", "")
    if kind and kind != "IMAGE_REPORT_TEMPLATE":
        notes.append(f"The file says that it is a {kind}, not an IMAGE_REPORT_TEMPLATE.")
    return notes


def _texts(count: int, which: str) -> str:
    return f"1 text {which} was" if count == 1 else f"{count} texts {which} were"


def _few(texts: Iterable[str]) -> str:
    different = list(dict.fromkeys(texts))
    shown = ", ".join(f'"{text[:60]}"' for text in different[:_MOST_NOTED])
    return f"{shown}, ..." if len(different) > _MOST_NOTED else shown


def _code(code: tuple[str, str, str]) -> dict[str, str]:
    scheme, value, meaning = code
    return {"value": value, "scheme": _SCHEMES.get(scheme.upper(), scheme), "meaning": meaning}


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:80].strip("-") or "template"
