# SPDX-License-Identifier: Apache-2.0
"""Licences of weights: what they ask for in plain words, and that the user agreed once before the first download."""

from __future__ import annotations

from pathlib import Path

from ..catalogue import ModelCard
from ..errors import ModelError
from .home import home, only_one
from .records import now, read_json, write_json

ACCEPTED_FILE = "licences.json"

WARNINGS = {
    "non-commercial": "NON-COMMERCIAL: the weights, and what is made with them, must not be used commercially.",
    "research-only": "RESEARCH ONLY: the weights may be used for research and teaching only, not for patient care.",
    "share-alike": "SHARE-ALIKE: weights derived from these may be passed on only under the same licence.",
    "disputed": "UNCLEAR TERMS: the sources disagree about the licence; read the one that comes with the files.",
    "none-found": "NO LICENCE was found: without one, the authors have granted no right to use or share the weights.",
}


def warnings(card: ModelCard) -> list[str]:
    """One sentence for each term that restricts the use."""
    return [WARNINGS[kind] for kind in card.terms.get("kinds", []) if kind in WARNINGS]


def statement(card: ModelCard) -> str:
    """What a user is shown before agreeing."""
    lines = [f"{card.title}: licence {card.licence}", *(f"! {warning}" for warning in warnings(card))]
    if note := card.terms.get("note"):
        lines.append(note)
    if page := card.terms.get("page"):
        lines.append(f"Read it at {page}")
    return "\n".join(lines)


def accepted(card: ModelCard) -> bool:
    """Whether the licence that the card now names was accepted on this computer by this user."""
    entry = _entries().get(card.name)
    return isinstance(entry, dict) and entry.get("terms") == _terms(card)


def accept(card: ModelCard) -> None:
    """Records that the user agreed. Call it only when a person said so."""
    with only_one("records"):
        entries = _entries()
        entries[card.name] = {"terms": _terms(card), "accepted": now()}
        write_json(_file(), entries)


def refused(card: ModelCard) -> ModelError:
    """The answer where nobody agreed."""
    command = "foundation-report" if card.is_snapshot else "foundation-seg"
    return ModelError(
        f"The licence of {card.name} ({card.licence}) was not accepted, so nothing was downloaded; read it with "
        f'"{command} models show {card.name}", then accept it with '
        f'"{command} models download {card.name} --accept-licence".'
    )


def _terms(card: ModelCard) -> str:
    """Changes when what was agreed to changes, so that the user is asked again."""
    return " / ".join([card.licence, *sorted(card.terms.get("kinds", []))])


def _file() -> Path:
    return home() / ACCEPTED_FILE


def _entries() -> dict[str, object]:
    entries = read_json(_file(), {})
    return entries if isinstance(entries, dict) else {}
