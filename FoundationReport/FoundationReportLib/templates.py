# SPDX-License-Identifier: Apache-2.0
"""Report templates: versioned JSON, checked against a schema before a draft uses one.

Shipped ones lie in `Resources/ReportTemplates`; any other file can be named by its path.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from FoundationSegLib.atomic import atomic_output
from FoundationSegLib.errors import OutputError
from FoundationSegLib.resources import resource_folder

from .errors import TemplateError
from .model import Code, Facts, Kind
from .rules import rules
from .serialise import json_text
from .wording import languages

TEMPLATE_SCHEMA = "foundation-report/template/1"
_FOLDER = "ReportTemplates"
_LARGEST_FILE = 2_000_000  # bytes; the largest shipped one has 4 000


@dataclass(frozen=True)
class TemplateSection:
    """A heading and what is written under it; `items` as in the schema."""

    key: str
    title: Mapping[str, str]
    code: Code | None
    items: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Template:
    """A checked template.

    Attributes:
        modality: DICOM codes of the images that it is for; empty: any.
        languages: codes of the languages that a report by it can be in.
        mention: quantities of lesions and nodes that a report has to mention.
        data: the whole file.
    """

    id: str
    version: str
    title: Mapping[str, str]
    modality: tuple[str, ...]
    languages: tuple[str, ...]
    mention: tuple[str, ...]
    sections: tuple[TemplateSection, ...]
    data: Mapping[str, Any]


def template_names() -> tuple[str, ...]:
    """Names of the shipped templates."""
    files = resource_folder(_FOLDER).glob("*.json")
    return tuple(sorted(file.stem for file in files if not file.stem.endswith(".schema")))


def load_template(name: str | os.PathLike[str]) -> Template:
    """A shipped template by name, or one from a file by its path.

    Raises:
        TemplateError: if there is none, or it breaks the schema; the sentence says where.
    """
    if isinstance(name, str) and name in template_names():
        return _shipped(name)
    path = Path(name)
    if not path.is_file():
        raise TemplateError(
            f"There is no report template {os.fspath(name)!r}; choose one of {', '.join(template_names())}, "
            "or give the path of a template file."
        )
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise TemplateError(f"{path} is too large for a report template; choose another file.")
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        hint = "import an MRRT template first" if path.suffix.lower() in (".html", ".htm") else "choose another file"
        raise TemplateError(f"{path} is not a JSON file ({_first_line(error)}); {hint}.") from None
    return template_from_data(data, os.fspath(path))


def template_from_data(data: Any, where: str = "The template") -> Template:
    """A template from parsed JSON. `where` begins the sentence. Raises TemplateError."""
    check_template(data, where)
    own = data.get("languages", tuple(languages()))
    return Template(
        id=data["id"],
        version=data["version"],
        title=data["title"],
        modality=tuple(data.get("modality", ())),
        languages=tuple(own),
        mention=tuple(data.get("mention", ())),
        sections=tuple(
            TemplateSection(
                section["key"],
                section.get("title", {}),
                Code(**section["code"]) if "code" in section else None,
                tuple(section["items"]),
            )
            for section in data["sections"]
        ),
        data=data,
    )


def check_template(data: Any, where: str = "The template") -> None:
    """Whether parsed JSON keeps to the schema and to what a schema cannot say. Raises TemplateError with the place."""
    try:
        from jsonschema import Draft202012Validator  # here, since it takes a tenth of a second
        from jsonschema.exceptions import best_match
    except ImportError:
        raise TemplateError(
            "Report templates are checked with the package jsonschema, which is not installed; "
            'install it with `pip install "foundation-seg-report[report]"`.'
        ) from None
    error = best_match(Draft202012Validator(_schema()).iter_errors(data))
    if error is not None:
        place = "/".join(str(part) for part in error.absolute_path) or "its top"
        message = error.message if len(error.message) <= 200 else f"{error.message[:200]} ..."
        raise TemplateError(f"{where} breaks the template schema at {place}: {message}; correct it there.")
    try:
        json_text(data)
    except ValueError:  # Python reads NaN, and 1e999 as infinite
        raise TemplateError(f"{where} has a number that is not finite, which JSON has not; correct it.") from None
    for n, section in enumerate(data["sections"]):
        if section["key"] in [other["key"] for other in data["sections"][:n]]:
            raise TemplateError(f"{where} has two sections with the key {section['key']!r}; give each its own.")
        for item in section["items"]:
            for name in item.get("rules", ()):
                if name not in rules():
                    raise TemplateError(f"{where} names the rule {name!r}; the rules are {', '.join(rules())}.")
    known = data.get("languages", list(languages()))
    for language in known:
        if language not in languages():
            raise TemplateError(
                f"{where} is in {language!r}; reports can be written in {', '.join(languages())}, so name one of them."
            )


def save_template(template: Template, path: str | os.PathLike[str]) -> None:
    """Writes a template file. Raises TemplateError if that is not possible; a file that was there stays."""
    try:
        with atomic_output(path) as file:
            file.write(json_text(template.data).encode())
    except OutputError as error:
        raise TemplateError(str(error)) from error


def has_targets(template: Template) -> bool:
    """Whether it reports RECIST's target lesions, which then have to be chosen."""
    return any(item["item"] == "targets" for section in template.sections for item in section.items)


def must_mention(template: Template, facts: Facts) -> tuple[str, ...]:
    """Ids of the facts that a report by this template has to mention.

    Of every lesion and node the quantities in `template.mention`: of a node its short axis, of others the long axis
    (RECIST 1.1); "presence" where nothing was measured; of "trend" all but "unchanged".
    """
    found = []
    for subject in facts.subjects:
        if subject.kind not in (Kind.LESION, Kind.NODE):
            continue
        of = {fact.quantity: fact for fact in reversed(facts.of(subject.id)) if fact.quantity in template.mention}
        size = "short_axis" if subject.kind == Kind.NODE else "long_axis"
        trend = of.get("trend")
        if size in of:
            found.append(of[size].id)
        elif "presence" in of and of["presence"].value == "present":
            found.append(of["presence"].id)
        if trend is not None and trend.value != "unchanged":
            found.append(trend.id)
    return tuple(found)


def words(texts: Mapping[str, str], language: str) -> str:
    """The text in a language, else in English, else in the first there is."""
    return texts.get(language) or texts.get("en") or next(iter(texts.values()))


@cache
def _shipped(name: str) -> Template:
    data = json.loads((resource_folder(_FOLDER) / f"{name}.json").read_text(encoding="utf-8"))
    return template_from_data(data, f"The shipped template {name}")


@cache
def _schema() -> dict[str, Any]:
    text = (resource_folder(_FOLDER) / "template.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
