# SPDX-License-Identifier: Apache-2.0
"""Reads the HTML of an MRRT report template into sections and fields, with Python's own parser.

Nothing in the file is run, fetched or interpreted: scripts are read only for the coded content that the standard keeps
in one of type text/xml (IHE Radiology Technical Framework, Management of Report Templates, content module in volume 3).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser

Attributes = Sequence[tuple[str, str | None]]

_CHOICE_TYPES = {"SELECTION_LIST": "choice", "RADIO": "choice", "CHECKBOX": "choices"}
_TYPES = {"NUMBER": "number", "DATE": "date", "TIME": "text", "TEXT": "text", "TEXTAREA": "text", **_CHOICE_TYPES}
_INPUT_TYPES = {"number": "number", "date": "date", "checkbox": "choices", "radio": "choice"}
_IGNORED_INPUTS = {"hidden", "button", "submit", "reset", "image", "file", "password"}
_SILENT = {"script", "style", "title", "datalist", "select", "textarea", "button", "head"}
_UNIT = re.compile(r"(mm|cm|cm/s|cm2|cm3|ml|mL|cc|%|HU|HE|mg/l|mg/dl|kg|bpm)(?![\w/])")
_LONGEST_TEXT = 400
_MOST = 5_000  # sections and fields


@dataclass
class MrrtField:
    """A field as the file has it. `default`: what it would write if nobody touched it."""

    id: str
    type: str
    label: str = ""
    choices: list[str] = field(default_factory=list)
    default: str = ""
    unit: str = ""
    minimum: str = ""
    maximum: str = ""
    element: str = ""


@dataclass
class MrrtSection:
    """A section of the first level; fields of deeper ones carry those headings in their labels."""

    id: str
    name: str
    fields: list[MrrtField] = field(default_factory=list)


@dataclass
class MrrtFile:
    """What was read. `codes`: by id of section or field (scheme, value, meaning); `texts`: prose of no field."""

    meta: dict[str, str] = field(default_factory=dict)
    sections: list[MrrtSection] = field(default_factory=list)
    codes: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)


def parse_mrrt(html: str) -> MrrtFile:
    """The sections and fields of the file; it is not checked whether these make a template."""
    parser = _Parser()
    parser.feed(html)
    parser.close()
    parser.finish()
    return parser.file


def clean(text: str | None) -> str:
    """One line without control characters, not endless."""
    printable = "".join(c if c.isprintable() else " " for c in text or "")
    return " ".join(printable.split())[:_LONGEST_TEXT]


def _lower(label: str) -> str:
    """A label inside a line: "Size" as "size", "IV contrast" as it is."""
    return label[0].lower() + label[1:] if label[1:2].islower() else label


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.file = MrrtFile()
        self._labels: dict[str, str] = {}
        self._fields: dict[str, MrrtField] = {}
        self._headings: dict[str, str] = {}  # of deeper sections, by the field's id
        self._open_sections: list[tuple[str, str]] = []  # id and name, outermost first
        self._stack: list[str] = []
        self._prose: list[str] = []  # since the last field or paragraph
        self._label_for: str | None = None
        self._label: list[str] = []
        self._header: list[str] | None = None
        self._group: tuple[str, int] | None = None  # a field's element with its inputs, and how deep it lies
        self._textarea: MrrtField | None = None
        self._xml = False
        self._script: list[str] = []
        self._title = ""
        self._element = ""

    # --- tags ---

    def handle_starttag(self, tag: str, attrs: Attributes) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "meta" and values.get("name", "").lower().startswith("dcterms."):
            self.file.meta.setdefault(values["name"].lower().removeprefix("dcterms."), clean(values.get("content")))
        elif tag == "script":
            self._xml = "xml" in values.get("type", "")
        elif tag == "section":
            self._begin_section(values)
        elif tag == "header":
            self._header = []
        elif tag == "label":
            self._label_for, self._label = values.get("for", ""), []
        elif tag == "p":
            self._end_prose()
            found = re.search(r"\bRDE\d+\b", values.get("title", ""))
            self._element = found[0] if found else ""
        elif tag == "option":
            self._choice(values.get("name") or self._last_id(), values, "selected")
        elif tag in ("input", "select", "textarea") or "data-field-type" in values:
            self._input(tag, values)
        if tag not in ("meta", "input", "br", "img", "link", "hr", "embed"):
            self._stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._stack:
            while self._stack and self._stack.pop() != tag:
                pass
        if self._group is not None and len(self._stack) < self._group[1]:
            self._group = None
        if tag == "section" and self._open_sections:
            self._end_prose()
            self._open_sections.pop()
        elif tag == "header":
            self._header = None
        elif tag == "label" and self._label_for is not None:
            text = clean("".join(self._label))
            if self._label_for:
                self._labels[self._label_for] = text
            else:
                self._prose.append(text)
            self._label_for = None
        elif tag == "textarea":
            self._textarea = None
        elif tag == "p":
            self._end_prose()
        elif tag == "script" and self._xml:
            self.file.codes |= _codes("".join(self._script))
            self._xml = False

    def handle_data(self, data: str) -> None:
        if self._xml:
            self._script.append(data)
        elif self._stack[-1:] == ["title"]:
            self._title += data
        elif self._label_for is not None:
            self._label.append(data)
        elif self._textarea is not None:
            self._textarea.default = clean(self._textarea.default + data)
        elif self._header is not None:
            self._header.append(data)
        elif self._group is None and not _SILENT & set(self._stack) and self._open_sections:
            self._prose.append(data)

    def finish(self) -> None:
        """Labels to fields, once all of both are known."""
        self._end_prose()
        self.file.meta.setdefault("title", clean(self._title))
        for name, item in self._fields.items():
            label = clean(self._labels.get(name) or item.label).rstrip(" :")
            if _UNIT.fullmatch(label):
                item.unit, label = item.unit or label, ""
            heading = self._headings[name]
            item.label = f"{heading}, {_lower(label)}" if heading and label else heading or label

    # --- sections and fields ---

    def _begin_section(self, values: dict[str, str]) -> None:
        self._end_prose()
        name = clean(values.get("data-section-name") or values.get("id")).rstrip(" :")
        if not self._open_sections and len(self.file.sections) < _MOST:
            self.file.sections.append(MrrtSection(values.get("id", ""), name))
        self._open_sections.append((values.get("id", ""), name))

    def _input(self, tag: str, values: dict[str, str]) -> None:
        kind = values.get("type", "text").lower()
        if kind in _IGNORED_INPUTS and "data-field-type" not in values:
            return
        if self._group is not None:
            if tag == "input" and kind in ("checkbox", "radio"):
                self._choice(self._group[0], values, "checked")
            return  # a group's free text adds nothing
        if tag == "input" and kind in ("checkbox", "radio") and values.get("name") in self._fields:
            self._choice(values["name"], values, "checked")
            return
        item = self._new_field(tag, kind, values)
        if item is None:
            return
        if tag not in ("input", "select", "textarea"):
            self._group = (item.id, len(self._stack) + 1)
        elif tag == "textarea":
            self._textarea = item
        elif tag == "input" and kind in ("checkbox", "radio"):
            self._choice(item.id, values, "checked")

    def _new_field(self, tag: str, kind: str, values: dict[str, str]) -> MrrtField | None:
        if not self._open_sections or len(self._fields) >= _MOST:
            return None
        grouped = tag == "input" and kind in ("checkbox", "radio")
        name = (values.get("name") if grouped else "") or values.get("id") or f"field-{len(self._fields) + 1}"
        declared = _TYPES.get(values.get("data-field-type", "").upper())
        by_tag = "choice" if tag == "select" else _INPUT_TYPES.get(kind, "text")
        prose = self._without_unit(clean("".join(self._prose)))
        inner = [part for _, part in self._open_sections[1:]]
        item = MrrtField(
            id=name,
            type=declared or by_tag,
            label=prose,
            default=clean(values.get("value")) if tag == "input" and not grouped else "",
            unit=clean(values.get("data-field-unit") or values.get("data-field-units")),
            minimum=values.get("min", ""),
            maximum=values.get("max", ""),
            element=self._element,
        )
        self._prose = []
        self._fields[name] = item
        self._headings[name] = inner[-1] if inner else ""
        self.file.sections[-1].fields.append(item)
        return item

    def _without_unit(self, prose: str) -> str:
        """The words before a field, without the unit that stands behind the field before it."""
        match = _UNIT.match(prose)
        if match is None:
            return prose
        previous = self._fields.get(self._last_id())
        if previous is not None and not previous.unit:
            previous.unit = match[0]
        return prose[match.end() :].strip()

    def _choice(self, name: str, values: dict[str, str], mark: str) -> None:
        item = self._fields.get(name)
        text = clean(values.get("value"))
        if item is None or not text:
            return
        if item.type not in ("choice", "choices"):
            item.type = "choice"
        if text not in item.choices and len(item.choices) < _MOST:
            item.choices.append(text)
        if mark in values:
            item.default = text

    def _last_id(self) -> str:
        return next(reversed(self._fields), "")

    def _end_prose(self) -> None:
        text = clean("".join(self._prose))
        if text and len(self.file.texts) < _MOST:
            self.file.texts.append(text)
        self._prose = []


class _CodeParser(HTMLParser):
    """The coded content: entries by the id that they are about. XML is read as tags; its entities stay unexpanded."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.codes: dict[str, tuple[str, str, str]] = {}
        self._entry = ""

    def handle_starttag(self, tag: str, attrs: Attributes) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "entry":
            self._entry = values.get("origtxt", "")
        elif tag == "code" and self._entry and len(self.codes) < _MOST:
            value = clean(values.get("value")).rpartition("/")[2]
            self.codes.setdefault(self._entry, (clean(values.get("scheme")), value, clean(values.get("meaning"))))


def _codes(xml: str) -> dict[str, tuple[str, str, str]]:
    parser = _CodeParser()
    parser.feed(xml)
    parser.close()
    return parser.codes
