# SPDX-License-Identifier: Apache-2.0
"""What `foundation-report models ...` does: the models that a report can be asked for, and their files here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from FoundationSegLib.catalogue import ModelCard
from FoundationSegLib.cli_base import Report as Result
from FoundationSegLib.commands import Listener
from FoundationSegLib.commands_models import ask_of
from FoundationSegLib.errors import Cancelled as SegCancelled
from FoundationSegLib.errors import FoundationSegError
from FoundationSegLib.hub import licence, snapshot
from FoundationSegLib.hub.home import megabytes

from .engines.catalogue import engine_card, engine_cards
from .errors import Cancelled, EngineError

T = TypeVar("T")

_HEADER = ("name", "task", "modalities", "size", "licence", "state")


def list_models() -> Result:
    """The models, the default first, as a table."""
    cards = engine_cards()
    data = [_data(card) for card in cards]
    rows = [_HEADER, *(_row(card, entry["state"]) for card, entry in zip(cards, data, strict=True))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    note = 'More on one, with the terms of its licence: "foundation-report models show NAME".'
    text = "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], "", note])
    return Result({"command": "models", "models": data}, text)


def show(name: str) -> Result:
    """One model's card."""
    card = engine_card(name)
    found = _answer(lambda: snapshot.on_disk(card))
    lines = [
        f"{card.title} ({card.name}), family {card.family}",
        card.description,
        f"Task:       {card.task}",
        f"Modalities: {', '.join(card.modalities)}",
        f"Licence:    {card.licence} (read at {card.terms['page']})",
        *(f"            {line}" for line in licence.warnings(card)),
        *([f"            {card.terms['note']}"] if "note" in card.terms else []),
        f"Files:      {card.weights['repo']} on the Hub, about {megabytes(card.size_bytes or 0)}, "
        + (f"commit {found.commit}" if found else f"revision {card.revision}; the first download fixes the commit"),
        f"            {'on this computer: ' + str(found.folder) if found else 'not on this computer'}",
        *(f"{'Limits:' if n == 0 else '':<12}{limit}" for n, limit in enumerate(card.data["limits"])),
        *(f"Published:  {f['what']} ({f['source']}): {_values(f['values'])}" for f in card.data.get("figures", [])),
        f"Cite:       {card.data['citation']}",
    ]
    return Result({"command": "models show", "models": [_data(card)]}, "\n".join(lines))


def download(name: str, listener: Listener) -> Result:
    """Brings a model's files here, once."""
    card = engine_card(name)
    found = _answer(lambda: snapshot.ensure_snapshot(card, ask_of(card, listener)))
    data = {"command": "models download", "name": name, "commit": found.commit, "path": str(found.folder)}
    return Result(data, f"{card.title} is ready: commit {found.commit}, {megabytes(found.size_bytes)}.")


def verify(names: Sequence[str], listener: Listener) -> Result:
    """Reads files in full and compares them with what was recorded; of all models that are here if none is named."""
    results, lines = [], []
    for card in [engine_card(name) for name in names] or engine_cards():
        try:
            found = _answer(lambda card=card: snapshot.on_disk(card))  # type: ignore[misc]
            if found is None:
                if not names:
                    continue
                raise EngineError(
                    f"{card.name} is not on this computer; get it with: foundation-report models download {card.name}"
                )
            progress = listener.weights(card.name)
            _answer(lambda: snapshot.verified(found, progress, listener.cancel, again=True))  # noqa: B023
            said, good = f"{len(found.files)} files, {found.size_bytes} bytes, commit {found.commit}", True
        except EngineError as error:
            said, good = str(error), False
        results.append({"name": card.name, "good": good, "found": said})
        lines.append(f"{'good' if good else 'BAD ':<5} {card.name}: {said}")
    bad = any(not result["good"] for result in results)
    text = "\n".join(lines) or "No model was downloaded so far."
    return Result({"command": "models verify", "models": results}, text, 1 if bad else 0)


def remove(names: Sequence[str]) -> Result:
    """Deletes models' files."""
    freed = {name: _answer(lambda name=name: snapshot.remove(engine_card(name))) for name in names}  # type: ignore[misc]
    lines = [
        f"{n}: {megabytes(size)} freed." if size else f"{n}: there was nothing to delete." for n, size in freed.items()
    ]
    return Result({"command": "models remove", "freed_bytes": freed}, "\n".join(lines))


def _answer(do: Callable[[], T]) -> T:
    """What the files' functions give; their errors as this package's."""
    try:
        return do()
    except SegCancelled as error:
        raise Cancelled("It was stopped; what came so far is kept.") from error
    except FoundationSegError as error:
        raise EngineError(str(error)) from error


def _row(card: ModelCard, state: str) -> tuple[str, ...]:
    size = "" if card.size_bytes is None else megabytes(card.size_bytes)
    return (card.name, card.task, " ".join(card.modalities), size, card.licence, state)


def _data(card: ModelCard) -> dict[str, Any]:
    here = _answer(lambda: snapshot.on_disk(card)) is not None
    state = "on this computer" if here else "to be downloaded"
    return {**card.data, "state": state, "accepted": licence.accepted(card)}


def _values(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value:g}" for key, value in values.items())
