# SPDX-License-Identifier: Apache-2.0
"""What `foundation-seg models ...` does: the catalogue, and the weights of its models on this computer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .catalogue import ModelCard, model_card, model_cards
from .cli_base import Report
from .commands import Listener
from .errors import ModelError
from .hub import licence
from .hub.home import megabytes
from .hub.listing import embedded_bytes, entry
from .hub.records import pins
from .hub.weights import Ask, ensure_weights, on_disk
from .hub.weights import remove as remove_weights
from .hub.weights import verify as verify_weights

_HEADER = ("name", "family", "task", "prompts", "modalities", "dimension", "size", "licence", "state")


def list_models() -> Report:
    """All cards, as a table."""
    cards = model_cards()
    rows = [_HEADER, *(_row(card) for card in cards)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    notes = ["", 'More on one, with the terms of its licence: "foundation-seg models show NAME".']
    text = "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], *notes])
    return Report({"command": "models", "models": [_data(card) for card in cards]}, text)


def show(name: str) -> Report:
    """One card."""
    card = model_card(name)
    lines = [f"{card.title} ({card.name}), family {card.family}", card.description]
    if card.reason is not None:
        lines.append(f"Not yet:    {card.reason}")
    lines += [
        f"Task:       {card.task} ({card.dimension})",
        f"Prompts:    {', '.join(card.prompts)}",
        f"Modalities: {', '.join(card.modalities)}",
        f"Licence:    {card.licence}" + (f" (read at {card.terms['page']})" if card.terms else ""),
        *(f"            {line}" for line in licence.warnings(card)),
    ]
    if note := card.terms.get("note"):
        lines.append(f"            {note}")
    lines += _labelled("Weights", _whereabouts(card))
    lines += _labelled("Limits", card.data.get("limits", []))
    figures = card.data.get("figures", []) if card.source != "embedded" else []  # ours are in the README, at length
    lines += _labelled("Published", [f"{f['what']} ({f['source']}): {_values(f['values'])}" for f in figures])
    if citation := card.data.get("citation"):
        lines.append(f"Cite:       {citation}")
    return Report({"command": "models", "models": [_data(card)]}, "\n".join(lines))


def download(name: str, listener: Listener) -> Report:
    """Makes a model ready for use."""
    card = model_card(name)
    if card.source == "embedded":
        return Report({"command": "models download", "name": name}, f"{card.title} comes with the program.")
    if card.source == "none":
        raise ModelError(f"{card.title} cannot be run yet: {card.reason}")
    weights = ensure_weights(card, ask=ask_of(card, listener))
    data = {"command": "models download", "name": name, "revision": weights.revision, "sha256": weights.sha256}
    text = f"{card.title} is ready: commit {weights.revision}, sha256 {weights.sha256}."
    return Report({**data, "path": str(weights.path)}, text)


def verify(names: Sequence[str], listener: Listener) -> Report:
    """Reads weights in full and compares them with what was recorded; all that are on disk where no name is given."""
    cards = [model_card(name) for name in names] or [card for card in model_cards() if on_disk(card) is not None]
    results, lines = [], []
    for card in cards:
        try:
            found, good = verify_weights(card, ask_of(card, listener)), True
        except ModelError as error:
            found, good = str(error), False
        results.append({"name": card.name, "good": good, "found": found})
        lines.append(f"{'good' if good else 'BAD ':<5} {card.name}: {found}")
    bad = any(not result["good"] for result in results)
    text = "\n".join(lines) or "No weights were downloaded or imported so far."
    return Report({"command": "models verify", "models": results}, text, 1 if bad else 0)


def remove(names: Sequence[str], keep_cache: bool) -> Report:
    """Deletes weights."""
    cards = [model_card(name) for name in names]
    freed = {card.name: remove_weights(card, keep_cache) for card in cards}
    lines = [
        f"{name}: {megabytes(size)} freed." if size else f"{name}: there was nothing to delete."
        for name, size in freed.items()
    ]
    return Report({"command": "models remove", "freed_bytes": freed}, "\n".join(lines))


def bundle(names: Sequence[str], folder: Path, listener: Listener) -> Report:
    """Writes models into a folder for a computer without network."""
    from .hub import bundle as bundles

    cards = [model_card(name) for name in dict.fromkeys(names)]
    written: list[Path] = []
    for card in cards:  # one by one, because progress is told for a name
        written += bundles.write([card], folder, ask_of(card, listener))
    outputs = sorted({str(path) for path in written})
    text = "\n".join(
        [
            f"Wrote {', '.join(card.name for card in cards)} to {folder}. On the other computer:",
            f"  foundation-seg models import {folder.name}",
            "The licences go with the weights, see LICENCES.txt there.",
        ]
    )
    return Report({"command": "models bundle", "models": [card.name for card in cards], "outputs": outputs}, text)


def import_bundle(folder: Path, listener: Listener) -> Report:
    """Reads such a folder."""
    from .hub import bundle as bundles

    names = bundles.read(folder, Ask(listener.consent, listener.weights(folder.name), listener.cancel))
    return Report({"command": "models import", "models": names}, f"Ready: {', '.join(names)}.")


def ask_of(card: ModelCard, listener: Listener) -> Ask:
    """How making a model ready talks to the user of a command."""
    return Ask(listener.consent, listener.weights(card.name), listener.cancel)


def _row(card: ModelCard) -> tuple[str, ...]:
    item = entry(card)
    size = item.size_bytes
    return (
        card.name,
        card.family,
        card.task,
        ", ".join(card.prompts),
        " ".join(card.modalities),
        card.dimension,
        "" if size is None else megabytes(size),
        card.licence + (f" ({', '.join(item.restrictions)})" if item.restrictions else ""),
        item.state,
    )


def _data(card: ModelCard) -> dict[str, Any]:
    item = entry(card)
    return {**card.data, "state": item.state, "path": None if item.path is None else str(item.path)}


def _whereabouts(card: ModelCard) -> list[str]:
    if card.source == "embedded":
        return [f"{card.weights['file']} ({megabytes(embedded_bytes())}), comes with the program, sha256 {card.sha256}"]
    if card.source == "user":
        return [card.weights["how"], "Give the file with --checkpoint FILE."]
    if card.source == "none":
        return ["none here"]
    weights = card.weights
    lines = [f"{weights['repo']}/{weights['file']} on the Hub, {megabytes(weights['size_bytes'])}"]
    known = pins().get(card.name)
    if known is not None:
        lines.append(f"fixed on {known.first}: commit {known.commit}, sha256 {known.sha256}")
    else:
        lines.append(f"revision {weights['revision']}; the first download fixes commit and checksum")
    path = on_disk(card)
    lines.append("not on this computer" if path is None else f"on this computer: {path}")
    return lines


def _labelled(label: str, lines: Sequence[str]) -> list[str]:
    return [f"{f'{label}:' if number == 0 else '':<12}{line}" for number, line in enumerate(lines)]


def _values(values: dict[str, Any]) -> str:
    parts = []
    for key, value in values.items():
        parts.append(f"{key} [{_values(value)}]" if isinstance(value, dict) else f"{key} {value:g}")
    return ", ".join(parts)
