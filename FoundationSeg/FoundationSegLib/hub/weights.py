# SPDX-License-Identifier: Apache-2.0
"""From a model card to a safetensors file that can be used: what is kept, else the Hub's cache, else the Hub."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .. import families
from ..catalogue import USER_FILE, ModelCard
from ..errors import ModelError
from ..predictor import CancelToken, Progress
from . import licence, store
from .home import home, only_one
from .records import Pin, now, pin, pins
from .transfer import HubFile, fetch, remove_cached, sha256_of


@dataclass(frozen=True)
class Ask:
    """How `ensure_weights` talks to whoever asked: all optional.

    Attributes:
        consent: is shown a card whose licence was not accepted yet; True only if a person agrees. Without it, such a
            model is refused.
        progress: told the stage ("download", "verify", "convert") and a fraction in [0, 1].
        cancel: looked at all the time.
    """

    consent: Callable[[ModelCard], bool] | None = None
    progress: Progress | None = None
    cancel: CancelToken | None = None


@dataclass(frozen=True)
class Weights:
    """Weights that can be used.

    Attributes:
        path: a safetensors file with the names and shapes of the family's network, its bytes verified just now.
        sha256: of the published file, or of the file that the user gave.
        revision: the Hub's commit; "file" for a user's file.
    """

    path: Path
    sha256: str
    revision: str


def ensure_weights(card: ModelCard, checkpoint: Path | None = None, ask: Ask | None = None) -> Weights:
    """The weights of a card, downloaded and converted if need be; or those of `checkpoint`, a file of the user's.

    Once they are here, no network is used and huggingface_hub is not imported.

    Raises:
        ModelError: every failure, in one sentence.
        Cancelled: after `ask.cancel.cancel()`.
    """
    ask = ask or Ask()
    families.require_packages(f"The model {card.name}")
    if checkpoint is not None:
        return _from_file(card, checkpoint, ask)
    if card.source == "user":
        raise ModelError(
            f"{card.title} cannot be downloaded from here: {card.weights['how']} Then give the file with --checkpoint "
            "FILE."
        )
    if (ready := _kept(card, ask)) is not None:
        return ready
    require_consent(card, ask)
    with only_one(f"model-{card.name}", lambda: ask.progress and ask.progress("waiting for another process", 0.0)):
        if (ready := _kept(card, ask)) is not None:  # by the process that was waited for
            return ready
        return _from_hub(card, ask)


def on_disk(card: ModelCard) -> Path | None:
    """The file that using the model would read; None if there is none. No checksum is computed, nothing imported."""
    known = pins().get(card.name)
    if known is None:
        return None
    path = store.place(card.family, known.sha256)
    return path if store.note_of(path) is not None else None


def verify(card: ModelCard, ask: Ask | None = None) -> str:
    """Reads a model's weights in full and compares them with what was recorded; what was found. Raises ModelError."""
    ask = ask or Ask()
    path = on_disk(card)
    if path is None:
        raise ModelError(
            f"{card.name} is not on this computer; get it with: foundation-seg models download {card.name}"
        )
    kept = store.note_of(path)
    assert kept is not None, "on_disk has looked"
    _require_pinned(card, kept.source_sha256)
    store.check(path, kept, ask.progress, ask.cancel, again=True)
    families.require_packages(f"The model {card.name}")
    from .checkpoint import compare_file

    compare_file(path, card)
    return f"{path.stat().st_size} bytes, sha256 {kept.sha256}, all tensors as expected"


def remove(card: ModelCard, keep_cache: bool = False) -> int:
    """Deletes a model's weights, also from the Hub's cache unless `keep_cache`; the number of bytes freed.

    What was pinned stays pinned, so that a later download has to give the same file.
    """
    known = pins().get(card.name)
    if known is None:
        return 0
    freed = store.remove(store.place(card.family, known.sha256))
    if not keep_cache and card.source == "hub":
        from importlib.util import find_spec

        if find_spec("huggingface_hub") is not None:
            freed += remove_cached(HubFile(known.repo, known.file, known.commit))
    return freed


def _kept(card: ModelCard, ask: Ask) -> Weights | None:
    """What is on disk already, verified; None if nothing is."""
    path = on_disk(card)
    kept = store.note_of(path) if path is not None else None
    if path is None or kept is None:
        return None
    _require_pinned(card, kept.source_sha256)
    store.check(path, kept, ask.progress, ask.cancel)
    return Weights(path, kept.source_sha256, kept.revision)


def _require_pinned(card: ModelCard, sha256: str) -> None:
    """What the card says rules over what was recorded. Raises ModelError."""
    if card.sha256 and card.sha256 != sha256:
        raise ModelError(
            f"The weights of {card.name} on this computer are not those that its card names (sha256 {sha256[:12]}... "
            f"instead of {card.sha256[:12]}...); remove and download them again "
            f"(foundation-seg models remove {card.name})."
        )


def require_consent(card: ModelCard, ask: Ask) -> None:
    """Raises ModelError unless the licence was accepted before, or is now."""
    if licence.accepted(card):
        return
    if ask.consent is None or not ask.consent(card):
        raise licence.refused(card)
    licence.accept(card)


def _from_hub(card: ModelCard, ask: Ask) -> Weights:
    known = pins().get(card.name)
    source = card.weights
    if known is not None and (known.repo, known.file) == (source["repo"], source["file"]):
        _require_pinned(card, known.sha256)
        wanted = HubFile(known.repo, known.file, known.commit, known.sha256, known.size_bytes)
    else:
        wanted = HubFile(source["repo"], source["file"], source["revision"], card.sha256 or None, _exact_size(card))
    families.expected_tensors(card)  # a family that cannot run here is not downloaded
    fetched = fetch(wanted, lambda size: (home(), size), ask.progress, ask.cancel)
    path = _convert(card, fetched.path, fetched.sha256, fetched.commit, f"{wanted.repo}/{wanted.file}", ask)
    # Only now: a file that does not fit must not be what is enforced from here on.
    entry = Pin(wanted.repo, wanted.file, fetched.commit, fetched.sha256, fetched.size_bytes, now(), "hub")
    pin(card.name, entry)
    return Weights(path, fetched.sha256, fetched.commit)


def _exact_size(card: ModelCard) -> int | None:
    """Only where the card knows it to the byte; most sizes are known to the megabyte."""
    return card.size_bytes if card.weights.get("size_exact") else None


def _from_file(card: ModelCard, checkpoint: Path, ask: Ask) -> Weights:
    if not checkpoint.is_file():
        raise ModelError(f"There is no file {checkpoint}; check the path of the checkpoint.")
    digest = sha256_of(checkpoint, ask.progress, ask.cancel)
    path = store.place(card.family, digest)
    with only_one(f"file-{digest[:24]}"):
        kept = store.note_of(path)
        if kept is not None:
            from .checkpoint import compare_file

            compare_file(path, card)  # it may have been used with another card of the family
            store.check(path, kept, ask.progress, ask.cancel)
            return Weights(path, digest, kept.revision)
        _convert(card, checkpoint, digest, USER_FILE, checkpoint.name, ask)
    return Weights(path, digest, USER_FILE)


def _convert(card: ModelCard, source: Path, sha256: str, revision: str, name: str, ask: Ask) -> Path:
    from .checkpoint import read_state

    if ask.progress is not None:
        ask.progress("convert", 0.0)
    state = read_state(source, card, name, intact=revision != USER_FILE)
    if ask.cancel is not None:
        ask.cancel.check()
    path, _ = store.keep(state, card.family, sha256, revision)
    if ask.progress is not None:
        ask.progress("convert", 1.0)
    return path
