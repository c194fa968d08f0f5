# SPDX-License-Identifier: Apache-2.0
"""Weights on a stick: a folder that is written where there is a network and read where there is none."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import families
from ..catalogue import ModelCard, model_card
from ..errors import ModelError, OutputError
from . import licence, store
from .home import is_full
from .records import Pin, now, pin, pins, read_json, write_json
from .weights import Ask, ensure_weights, require_consent

MANIFEST = "bundle.json"
LICENCES = "LICENCES.txt"
_VERSION = 1


def write(cards: Iterable[ModelCard], folder: Path, ask: Ask) -> list[Path]:
    """Copies weights, downloading what is missing, into a folder with a manifest; the files written.

    A bundle that is in the folder already is added to. Raises ModelError, OutputError.
    """
    cards = list(cards)
    for card in cards:
        if card.source != "hub":
            raise ModelError(
                f"{card.name} cannot be bundled: "
                + ("it comes with the program." if card.source == "embedded" else "it is not downloaded from the Hub.")
            )
    models: dict[str, Any] = _models(folder) if (folder / MANIFEST).exists() else {}
    written = []
    for card in cards:
        weights = ensure_weights(card, ask=ask)
        note = store.note_of(weights.path)
        known = pins()[card.name]
        assert note is not None, "ensure_weights has just looked"
        target = folder / f"{card.name}.safetensors"
        _copy(weights.path, target, note)
        models[card.name] = {
            "file": target.name,
            "licence": card.licence,
            "kept": asdict(note),
            "pin": asdict(known),
        }
        written.append(target)
    statements = "\n\n".join(licence.statement(model_card(name)) for name in sorted(models))
    try:
        (folder / LICENCES).write_text(statements + "\n", encoding="utf-8")
    except OSError as error:
        raise _not_written(folder, error) from error
    write_json(folder / MANIFEST, {"version": _VERSION, "models": models})  # last: it is what makes the folder a bundle
    return [*written, folder / LICENCES, folder / MANIFEST]


def read(folder: Path, ask: Ask) -> list[str]:
    """Takes the models of a bundle into this computer's folder of weights, without any network; their names.

    Every file is compared with the manifest, with what is pinned here, and with the network of the card, before any of
    it counts. Raises ModelError.
    """
    models = _models(folder)
    checked = []
    for name, entry in models.items():
        card = model_card(name)
        kept, known, file = _entry(name, entry, folder)
        if kept.family != card.family or kept.source_sha256 != known.sha256 or card.source != "hub":
            raise _damaged(folder)
        if (known.repo, known.file) != (card.weights["repo"], card.weights["file"]):
            raise _damaged(folder)
        if kept.conversion != store.CONVERSION:
            raise ModelError(
                f"The bundle {folder} was made by another version of FoundationSeg; make it anew with this version."
            )
        if card.sha256 and card.sha256 != kept.source_sha256:
            raise ModelError(f"The bundle {folder} holds other weights of {name} than its card names; make it anew.")
        here = pins().get(name)
        if here is not None and here.sha256 != known.sha256:
            raise ModelError(
                f"The bundle {folder} holds other weights of {name} than were pinned on this computer ("
                f"{known.sha256[:12]}... instead of {here.sha256[:12]}...); make it anew from the same commit."
            )
        store.check(file, kept, ask.progress, ask.cancel, again=True)
        families.require_packages(f"The model {name}")
        from .checkpoint import compare_file

        compare_file(file, card)
        require_consent(card, ask)
        checked.append((name, kept, known, file))
    for name, kept, known, file in checked:
        store.keep_file(file, kept)
        pin(name, Pin(**{**asdict(known), "first": now(), "origin": "bundle"}))
    return [name for name, *_ in checked]


def names(folder: Path) -> list[str]:
    """The models that a bundle says it holds; `read` checks them. Raises ModelError."""
    return sorted(_models(folder))


def _models(folder: Path) -> dict[str, Any]:
    data = read_json(folder / MANIFEST, None)
    if data is None:
        raise ModelError(
            f"{folder} is not a bundle (it has no {MANIFEST}); make one with: foundation-seg models bundle"
        )
    if not isinstance(data, dict) or not isinstance(data.get("models"), dict):
        raise _damaged(folder)
    if data.get("version") != _VERSION:
        raise ModelError(
            f"The bundle {folder} was made by a newer version of FoundationSeg; install that version here."
        )
    return data["models"]


def _entry(name: str, entry: Any, folder: Path) -> tuple[store.Kept, Pin, Path]:
    try:
        kept, known = store.Kept(**entry["kept"]), Pin.checked(entry["pin"])
        file = folder / f"{name}.safetensors"  # not the name that the manifest gives: that could lead anywhere
        if entry["file"] != file.name or not file.is_file():
            raise ModelError(f"The bundle {folder} is incomplete: {file.name} is missing; copy it again.")
        return kept, known, file
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(folder) from error


def _damaged(folder: Path) -> ModelError:
    return ModelError(f"The manifest of the bundle {folder} is damaged; copy or make the bundle again.")


def _copy(source: Path, target: Path, note: store.Kept) -> None:
    """A reader of the folder sees the old file or the whole new one."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_file() and target.stat().st_size == note.size_bytes:
            with suppress(ModelError):
                return store.check(target, note)  # it is there from an earlier time
        shutil.copyfile(source, temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise _not_written(target.parent, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _not_written(folder: Path, error: OSError) -> OutputError:
    reason = "the disk is full" if is_full(error) else error.strerror or type(error).__name__
    return OutputError(f"The bundle {folder} cannot be written ({reason}); choose another folder or free some space.")
