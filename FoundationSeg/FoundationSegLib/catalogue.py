# SPDX-License-Identifier: Apache-2.0
"""The models that can be asked for by name: one card (JSON) each in `Resources/Models`."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ModelError, ModelTooLarge
from .resources import resource_folder
from .segmenter import Model

if TYPE_CHECKING:
    from .hub.weights import Ask

EMBEDDED = "compact"
USER_FILE = "file"  # the revision of weights that came from a file of the user's


@dataclass(frozen=True)
class ModelCard:
    """What a user should know of a model before using it; the whole file is in `data`.

    Attributes:
        revision: of the weights: the one that the card asks for; in the card that a family is given, the one in use.
        sha256: hex digest of the published (or the user's) weights file in use; "" before it is known.
        data: the file; `weights` (where they come from) and `architecture` (the family's settings) are parts of it.
    """

    name: str
    title: str
    family: str
    revision: str
    licence: str
    prompts: tuple[str, ...]
    modalities: tuple[str, ...]
    description: str
    data: dict[str, Any]
    sha256: str = ""

    @classmethod
    def read(cls, path: Path) -> ModelCard:
        """Raises ModelError if the card is damaged."""
        try:
            return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise ModelError(
                f"The model card {path.name} is damaged ({reason}); install the extension again."
            ) from error

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ModelCard:
        """Raises ValueError, KeyError, TypeError or AttributeError where the data do not keep to the schema."""
        card = cls(
            name=_text(data, "name"),
            title=_text(data, "title"),
            family=_text(data, "family"),
            revision=_text(data, "revision"),
            licence=_text(data, "licence"),
            prompts=_texts(data, "prompts"),
            modalities=_texts(data, "modalities"),
            description=_text(data, "description"),
            data=data,
            sha256=data["weights"].get("sha256", ""),
        )
        _check(card)
        return card

    @property
    def weights(self) -> dict[str, Any]:
        """Where the weights come from, see the schema."""
        return self.data.get("weights", {})

    @property
    def architecture(self) -> dict[str, Any]:
        """The family's own settings."""
        return self.data.get("architecture", {})

    @property
    def source(self) -> str:
        """ "embedded", "hub" (downloaded on demand), "user" (a file of the user's) or "none" (cannot be run yet)."""
        return self.weights.get("source", "embedded") if self.reason is None else "none"

    @property
    def reason(self) -> str | None:
        """Why the model cannot be run yet; None if it can."""
        return self.data.get("not_yet")

    @property
    def task(self) -> str:
        return self.data.get("task", "any structure, from prompts")

    @property
    def dimension(self) -> str:
        return self.data.get("dimension", "3-D")

    @property
    def size_bytes(self) -> int | None:
        """Of the file that is downloaded; None where it is not known."""
        return self.weights.get("size_bytes")

    @property
    def is_snapshot(self) -> bool:
        """Whether the model is many files of a repository (see `hub.snapshot`) instead of one."""
        return bool(self.weights.get("snapshot"))

    @property
    def terms(self) -> dict[str, Any]:
        """`kinds`, `source`, `page` and `note` of the licence, see the schema; empty for what is shipped."""
        return self.data.get("terms", {})


def _text(data: dict[str, Any], key: str) -> str:
    if not isinstance(data[key], str) or not data[key]:
        raise ValueError(f"{key!r} is not a text")
    return data[key]


def _texts(data: dict[str, Any], key: str) -> tuple[str, ...]:
    if not isinstance(data[key], list) or not all(isinstance(item, str) for item in data[key]):
        raise ValueError(f"{key!r} is not a list of texts")
    return tuple(data[key])


def _check(card: ModelCard) -> None:
    """What running depends on; the rest of the schema is a matter of tests. Raises ValueError, KeyError, TypeError."""
    sources = ("embedded", "hub", "user", "none")
    if card.source not in sources:
        raise ValueError(f"weights.source is {card.source!r}, not one of {', '.join(sources)}")
    if card.source == "hub":
        for key in ("repo", "revision") if card.is_snapshot else ("repo", "file", "revision"):
            _text(card.weights, key)
        for part in (card.weights["repo"], card.weights.get("file", "")):
            if part.startswith("/") or ".." in part.split("/") or "\\" in part:
                raise ValueError(f"weights name {part!r}, which is no place on the Hub")
    if not isinstance(card.size_bytes, int | None):
        raise TypeError("weights.size_bytes is not a number")


def model_cards() -> list[ModelCard]:
    """All cards: the embedded model first, then by name, those that cannot be run yet at the end."""
    cards = [ModelCard.read(path) for path in resource_folder("Models").glob("*.json") if ".schema" not in path.name]
    names = [card.name for card in cards]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise ModelError(f"Several model cards are named {', '.join(sorted(repeated))}; install the extension again.")
    return sorted(cards, key=lambda card: (card.name != EMBEDDED, card.source == "none", card.name))


def model_card(name: str) -> ModelCard:
    """The card of one model; ModelError with the names that there are."""
    cards = {card.name: card for card in model_cards()}
    if name not in cards:
        raise ModelError(f"There is no model {name!r}; there are: {', '.join(cards)}.")
    return cards[name]


def load_model(name: str, device: str = "auto", checkpoint: Path | None = None, ask: Ask | None = None) -> Model:
    """A model on a device, loaded once per process.

    Weights that are not on disk are downloaded once if the user agreed to their licence (see `hub.weights`);
    `checkpoint` is the user's own file of the card's architecture, to be used instead.

    Raises ModelError: unknown or damaged model, no weights, licence not accepted, no such device, package missing; of
    these ModelTooLarge where it does not fit in memory.
    """
    card = model_card(name)
    if card.source == "none":
        raise ModelError(f"{card.title} cannot be run yet: {card.reason}")
    if card.source == "embedded":
        if checkpoint is not None:
            raise ModelError(f"{card.title} takes no other weights; leave out the checkpoint, or choose another model.")
        return _embedded(name, device)
    from . import families
    from .hub.weights import ensure_weights

    families.require_packages(f"The model {name}")
    resident = any(key[0] == name and key[-1] == device for key in _loaded)  # its memory is taken already
    if not resident and (device == "cpu" or not families.has_gpu()):
        require_memory(card)
    weights = ensure_weights(card, checkpoint, ask)
    return _family_model(replace_weights(card, weights.revision, weights.sha256), weights.path, device)


def load_recorded(name: str, device: str, revision: str, sha256: str) -> str | Model:
    """For making a result anew: its model if it was one of a user's own file, which was kept; else just the name.

    Raises ModelError as `load_model` does.
    """
    card = model_card(name)
    if revision != USER_FILE:
        return name
    from .hub import store

    path = store.place(card.family, sha256)
    if (kept := store.note_of(path)) is None:
        raise ModelError(
            f"It was made with a checkpoint of the user's own (sha256 {sha256[:12]}...), which was not used on this "
            "computer so far; use it once (segment ... --checkpoint FILE), then try again."
        )
    store.check(path, kept)
    return _family_model(replace_weights(card, revision, sha256), path, device)


def require_memory(card: ModelCard) -> None:
    """Raises ModelTooLarge if running the model on the CPU needs more memory than is free."""
    from .memory import available_bytes

    need, free = card.data.get("memory_mb", 0) * 10**6, available_bytes()
    if free is not None and free < need:
        raise ModelTooLarge(
            f"{card.title} needs about {need / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free; close other "
            "programs, or choose a smaller model (foundation-seg models list)."
        )


def replace_weights(card: ModelCard, revision: str, sha256: str) -> ModelCard:
    """The card with the revision and checksum of the weights in use."""
    return replace(card, revision=revision, sha256=sha256)


@lru_cache(maxsize=4)
def _embedded(name: str, device: str) -> Model:
    card = model_card(name)
    from .compact.predictor import CompactPredictor
    from .region_segmenter import RegionModel

    predictor = CompactPredictor(resource_folder("Weights"), card.revision, device, card.weights["sha256"])
    return RegionModel(predictor, predictor.policy, predictor.quality)


# The models used last, by what they were made from; few, because each can take gigabytes.
_loaded: dict[tuple[str, str, str, Path, str], Model] = {}
_KEPT = 2


def _family_model(card: ModelCard, weights: Path, device: str) -> Model:
    key = (card.name, card.revision, card.sha256, weights, device)
    model = _loaded.pop(key, None)
    if model is None:
        from . import families

        while len(_loaded) >= _KEPT:
            _loaded.pop(next(iter(_loaded)))
        model = families.load(card, weights, device)
    _loaded[key] = model
    return model
