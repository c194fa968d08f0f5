# SPDX-License-Identifier: Apache-2.0
"""The models that a report can be asked for by name: one card (JSON) each in `Resources/Models/report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from FoundationSegLib.catalogue import ModelCard
from FoundationSegLib.errors import Cancelled as SegCancelled
from FoundationSegLib.errors import FoundationSegError
from FoundationSegLib.resources import resource_folder

from ..errors import Cancelled, EngineError

if TYPE_CHECKING:
    from FoundationSegLib.hub.snapshot import Snapshot
    from FoundationSegLib.hub.weights import Ask

    from ..suggest import ZeroShot
    from .hf_chat import HfChat, Settings

DEFAULT = "medgemma-1.5-4b"
CHAT, ZERO_SHOT = "hf-chat", "hf-zero-shot"


def engine_cards() -> list[ModelCard]:
    """All cards, the default first, then by family and name. Raises EngineError for a damaged one."""
    folder = resource_folder("Models") / "report"
    try:
        cards = [ModelCard.read(path) for path in sorted(folder.glob("*.json")) if ".schema" not in path.name]
    except FoundationSegError as error:
        raise EngineError(str(error)) from error
    return sorted(cards, key=lambda card: (card.name != DEFAULT, card.family, card.name))


def engine_card(name: str) -> ModelCard:
    """The card of one model; EngineError with the names that there are."""
    cards = {card.name: card for card in engine_cards()}
    if name not in cards:
        raise EngineError(f'There is no model "{name}" for reports; there are: {", ".join(cards)}, or give a folder.')
    return cards[name]


def load_engine(name: str, settings: Settings | None = None, ask: Ask | None = None) -> HfChat:
    """An engine by the name of its card, or from a folder with a model as transformers saves it.

    Files that are not on this computer are downloaded once, if the user agreed to the licence (`ask.consent`).

    Raises:
        EngineError: unknown or unsuited model, no weights, licence not accepted, package missing; every failure, in
            one sentence.
        Cancelled: the download was stopped; what came so far is kept.
    """
    from .hf_chat import HfChat

    return HfChat(*_card_and_files(name, CHAT, ask), settings)


def load_zero_shot(name: str, device: str = "auto", ask: Ask | None = None) -> ZeroShot:
    """An image-text model for suggestions, likewise. Raises EngineError, Cancelled."""
    from ..suggest import ZeroShot

    return ZeroShot(*_card_and_files(name, ZERO_SHOT, ask), device)


def _card_and_files(name: str, family: str, ask: Ask | None) -> tuple[ModelCard, Snapshot]:
    from FoundationSegLib.hub.snapshot import ensure_snapshot, local_snapshot

    from .loading import require_packages

    folder = Path(name).expanduser()
    try:
        if ("/" in name or "\\" in name or name in (".", "..")) and folder.is_dir():
            require_packages("A model from a folder")
            return _card_of_folder(family), local_snapshot(folder, ask)
        card = engine_card(name)
        if card.family != family:
            does = "writes no text" if family == CHAT else "gives no scores"
            use = "use it for suggestions, or " if card.family == ZERO_SHOT else ""
            raise EngineError(f"{card.title} {does}; {use}choose another model.")
        require_packages(f"The model {card.name}")
        return card, ensure_snapshot(card, ask)
    except SegCancelled as error:
        raise Cancelled("The download was stopped; what came so far is kept.") from error
    except FoundationSegError as error:
        raise EngineError(str(error)) from error


def _card_of_folder(family: str) -> ModelCard:
    """For a model of the user's own; its path enters no record."""
    return ModelCard.from_dict(
        {
            "name": "own-model",
            "title": "Model from a folder",
            "family": family,
            "revision": "file",
            "licence": "unknown",
            "prompts": ["image", "text"],
            "modalities": ["CT", "MR"],
            "description": "A model of the user's own.",
            "weights": {"source": "user", "how": "Give its folder."},
            "architecture": {"packing": "ct-3-window", "max_slices": 85},
        }
    )
