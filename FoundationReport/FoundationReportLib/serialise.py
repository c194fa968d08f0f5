# SPDX-License-Identifier: Apache-2.0
"""JSON to model objects, and the JSON schemas of both files, all read from the types in `model.py`.

What is read is checked fully: every type, every id that refers to another, no unknown key (a misspelt one would change
the meaning in silence). A sentence says where in the file something is wrong. Writing is `model.to_json_data`.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from . import model
from .errors import CaseError, FactsError
from .model import FACTS_SCHEMA, REPORT_SCHEMA, Facts, Report, to_json_data

T = TypeVar("T")

_SCALARS: dict[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_NEEDS_TEXT = {"id", "subject", "quantity", "section"}  # what everything else refers to cannot be empty


class _Malformed(Exception):
    """Where and what; becomes the caller's error."""


def load_facts(path: str | os.PathLike[str]) -> Facts:
    """The facts of a file that `facts_data` wrote, or that follows `facts.schema.json`.

    Raises:
        FactsError: if it cannot be read, is no JSON, or breaks the schema; the sentence says where.
    """
    source = Path(path)
    try:
        return facts_from_data(read_json(source, FactsError), os.fspath(path))
    except RecursionError:
        raise FactsError(f"{source}: It is nested too deeply for a facts file; choose another file.") from None


def facts_from_data(data: Any, where: str = "The facts") -> Facts:
    """Facts from parsed JSON. `where` begins the sentence. Raises FactsError."""
    try:
        facts = _decoded(Facts, _without_schema(data, FACTS_SCHEMA), "")
        _check_facts(facts, "")
    except _Malformed as error:
        raise FactsError(f"{where}: {error}; correct it (the form is in facts.schema.json).") from None
    return facts


def report_from_data(data: Any, where: str = "The report") -> Report:
    """A report from parsed JSON. `where` begins the sentence. Raises CaseError."""
    try:
        report = _decoded(Report, _without_schema(data, REPORT_SCHEMA), "")
        _check_facts(report.facts, "facts.")
        _check_report(report)
    except _Malformed as error:
        raise CaseError(f"{where}: {error}; restore the file from a copy.") from None
    return report


def facts_data(facts: Facts) -> dict[str, Any]:
    """What `load_facts` reads, fit for JSON."""
    return {"schema": FACTS_SCHEMA, **to_json_data(facts)}


def report_data(report: Report) -> dict[str, Any]:
    """What `report_from_data` reads, fit for JSON."""
    return {"schema": REPORT_SCHEMA, **to_json_data(report)}


def from_data(cls: type[T], data: Any, where: str, error: type[Exception]) -> T:
    """Any of the model's dataclasses from parsed JSON, without looking at what refers to what."""
    try:
        result: T = _decoded(cls, data, "")
    except _Malformed as malformed:
        raise error(f"{where}: {malformed}.") from None
    return result


def read_json(path: Path, error: type[Exception]) -> Any:
    """The JSON of a UTF-8 file. NaN and repeated keys, which JSON does not have, are refused."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), parse_constant=_no_constant, object_pairs_hook=_once)
    except OSError as problem:
        reason = "is a folder" if path.is_dir() else (problem.strerror or "cannot be read").lower()
        raise error(f"{path}: It cannot be read ({reason}); choose another file.") from None
    except UnicodeDecodeError:
        raise error(f"{path}: It is not UTF-8 text and so no JSON; choose another file.") from None
    except json.JSONDecodeError as problem:
        raise error(
            f"{path}: It is not JSON (line {problem.lineno}: {problem.msg}); correct it or choose another file."
        ) from None
    except _Malformed as problem:
        raise error(f"{path}: {problem}; correct it or choose another file.") from None


def json_text(data: Any) -> str:
    """Indented JSON as it stands in files; ends with a newline."""
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def schema(cls: type[Facts] | type[Report]) -> dict[str, Any]:
    """The JSON schema (2020-12) of a file with this at its top."""
    definitions: dict[str, Any] = {}
    top = _object_schema(cls, definitions)
    name = FACTS_SCHEMA if cls is Facts else REPORT_SCHEMA
    top["properties"] = {"schema": {"const": name}, **top["properties"]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:{name.replace('/', ':')}",
        "title": name,
        **top,
        "$defs": dict(sorted(definitions.items())),
    }


# --- decoding ---------------------------------------------------------------------------------------------------------


def _no_constant(name: str) -> Any:
    raise _Malformed(f"It holds {name}, which is no JSON number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [key for key, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Malformed(f'An object of it has the key "{twice}" twice')
    return result


def _without_schema(data: Any, expected: str) -> Any:
    if not isinstance(data, Mapping):
        raise _Malformed(f"It should be a JSON object of the form {expected}, and is {_kind(data)}")
    found = data.get("schema", expected)
    if found != expected:
        raise _Malformed(f'Its form should be "{expected}", and it says {found!r}')
    return {key: value for key, value in data.items() if key != "schema"}


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, vars(model))


def _decoded(hint: Any, data: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return data
    if origin in (Union, types.UnionType):
        return _decoded_union(arguments, data, where)
    if origin is tuple:
        return _decoded_tuple(arguments, data, where)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(data, Mapping):
            raise _wrong(where, "an object", data)
        return {key: _decoded(arguments[1], value, _join(where, key)) for key, value in data.items()}
    if isinstance(hint, type) and is_dataclass(hint):
        return _decoded_object(hint, data, where)
    if issubclass(hint, StrEnum):
        if data not in [item.value for item in hint]:
            raise _wrong(where, f"one of {', '.join(item.value or 'nothing' for item in hint)}", data)
        return hint(data)
    return _decoded_scalar(hint, data, where)


def _decoded_scalar(hint: type, data: Any, where: str) -> Any:
    right = isinstance(data, int | float if hint is float else hint) and (hint is bool) == isinstance(data, bool)
    if not right:
        raise _wrong(where, _SCALARS[hint], data)
    if hint is str and not data.strip() and where.rpartition(".")[2] in _NEEDS_TEXT:
        raise _Malformed(f"{where} is empty")
    if hint is not float:
        return data
    if not math.isfinite(data):
        raise _Malformed(f"{where} is too large to be a number")
    return float(data)


def _decoded_union(options: tuple[Any, ...], data: Any, where: str) -> Any:
    if data is None and type(None) in options:
        return None
    rest = [option for option in options if option is not type(None)]
    if len(rest) == 1:
        return _decoded(rest[0], data, where)
    for option in (bool, int, float, str):  # the exact type first: 1 is not true, 2 stays a whole number
        if option in rest and type(data) is option:
            return _decoded_scalar(option, data, where)
    raise _wrong(where, "a number, text, true or false", data)


def _decoded_tuple(arguments: tuple[Any, ...], data: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(data, list | tuple):
        raise _wrong(where, "a list", data)
    if arguments[-1] is ...:
        return tuple(_decoded(arguments[0], item, f"{where}[{n}]") for n, item in enumerate(data))
    if len(data) != len(arguments):
        raise _Malformed(f"{where} should have {len(arguments)} items, and has {len(data)}")
    return tuple(
        _decoded(hint, item, f"{where}[{n}]") for n, (hint, item) in enumerate(zip(arguments, data, strict=True))
    )


def _decoded_object(cls: type, data: Any, where: str) -> Any:
    if not isinstance(data, Mapping):
        raise _wrong(where, "an object", data)
    hints, known = _hints(cls), [f.name for f in fields(cls)]
    for key in data:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f' (did you mean "{near[0]}"?)' if near else ""
            raise _Malformed(f'{where or "It"} has the key "{key}", which no {cls.__name__} has{hint}')
    values = {}
    for f in fields(cls):
        if f.name in data:
            values[f.name] = _decoded(hints[f.name], data[f.name], _join(where, f.name))
        elif f.default is MISSING and f.default_factory is MISSING:
            if get_origin(hints[f.name]) is not tuple and not is_dataclass(hints[f.name]):
                raise _Malformed(f'{where or "It"} lacks "{f.name}"')
            # Empty lists and objects are left out of files.
            values[f.name] = () if get_origin(hints[f.name]) is tuple else _decoded(hints[f.name], {}, where)
    return cls(**values)


def _join(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)


def _wrong(where: str, wanted: str, data: Any) -> _Malformed:
    return _Malformed(f"{where or 'It'} should be {wanted}, and is {_kind(data)}")


def _kind(data: Any) -> str:
    if isinstance(data, Mapping):
        return "an object"
    if isinstance(data, list | tuple):
        return "a list"
    text = json.dumps(data)
    return text if len(text) <= 60 else f"{text[:57]}..."


# --- what refers to what ----------------------------------------------------------------------------------------------


def _check_facts(facts: Facts, where: str) -> None:
    subjects = _unique((subject.id for subject in facts.subjects), f"{where}subjects")
    known = _unique((fact.id for fact in facts.facts), f"{where}facts")
    for n, fact in enumerate(facts.facts):
        if fact.subject not in subjects:
            raise _Malformed(f'{where}facts[{n}] is about the subject "{fact.subject}", which is not in subjects')
        _check_ids(fact.because, known, f"{where}facts[{n}].because", "facts")


def _check_report(report: Report) -> None:
    known = {fact.id for fact in report.facts.facts}
    sections = _unique((section.key for section in report.sections), "sections")
    statements = _unique((statement.id for statement in report.statements), "statements")
    models = _unique((info.id for info in report.models), "models")
    for n, statement in enumerate(report.statements):
        _check_ids([statement.section], sections, f"statements[{n}].section", "sections")
        _check_ids(statement.facts, known, f"statements[{n}].facts", "facts")
        _check_ids([statement.model] if statement.model else [], models, f"statements[{n}].model", "models")
        if statement.judgement is not None:
            _check_ids(statement.judgement.facts, known, f"statements[{n}].judgement.facts", "facts")
    _check_ids((*report.omitted, *report.left_out), known, "omitted", "facts")
    _check_ids(report.addenda, statements, "addenda", "statements")


def _unique(ids: Iterable[str], where: str) -> set[str]:
    seen: set[str] = set()
    for n, name in enumerate(ids):
        if name in seen:
            raise _Malformed(f'{where}[{n}] has the id "{name}", which another has already')
        seen.add(name)
    return seen


def _check_ids(ids: Iterable[str], known: set[str], where: str, what: str) -> None:
    for name in ids:
        if name not in known:
            raise _Malformed(f'{where} names "{name}", which is not in {what}')


# --- schemas ----------------------------------------------------------------------------------------------------------


def _object_schema(cls: type, definitions: dict[str, Any]) -> dict[str, Any]:
    hints = _hints(cls)
    required = [
        f.name
        for f in fields(cls)
        if f.default is MISSING
        and f.default_factory is MISSING
        and get_origin(hints[f.name]) is not tuple
        and not is_dataclass(hints[f.name])
    ]
    properties = {
        f.name: _schema_of(hints[f.name], definitions)
        | ({"pattern": r"\S"} if f.name in _NEEDS_TEXT and hints[f.name] is str else {})
        for f in fields(cls)
    }
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


def _schema_of(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return {}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema_of(option, definitions) for option in arguments]}
    if origin is tuple:
        if arguments[-1] is ...:
            return {"type": "array", "items": _schema_of(arguments[0], definitions)}
        items = [_schema_of(item, definitions) for item in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if origin is not None:
        return {"type": "object", "additionalProperties": _schema_of(arguments[1], definitions)}
    if isinstance(hint, type) and is_dataclass(hint):
        name = str(hint.__name__)
        if name not in definitions:
            definitions[name] = {}
            definitions[name] = _object_schema(hint, definitions)
        return {"$ref": f"#/$defs/{name}"}
    if issubclass(hint, StrEnum):
        return {"enum": [item.value for item in hint]}
    return {"type": {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}[hint]}
