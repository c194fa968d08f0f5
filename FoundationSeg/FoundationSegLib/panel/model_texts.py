# SPDX-License-Identifier: Apache-2.0
"""What the list of models says of a model and of work on it. Nothing here has a state, or touches a widget."""

from __future__ import annotations

import time
from html import escape
from pathlib import Path

from slicer.i18n import tr as _

from ..hub import licence
from ..hub.home import megabytes
from ..hub.listing import ABSENT, HERE, NOT_YET, READY, YOUR_FILE, Entry


def title(entry: Entry) -> str:
    """Name and licence, two lines; what restricts the use comes first, for the end may be cut off."""
    restricted = f"{', '.join(entry.restrictions)}: " if entry.restrictions else ""
    none = "none-found" in entry.card.terms.get("kinds", [])
    return f"{entry.card.title}\n{restricted}{_('no licence found') if none else entry.card.licence}"


def good_for(entry: Entry) -> str:
    """Task, modalities and prompts, two lines; the task without its end, which the second line says better."""
    card = entry.card
    return f"{card.task.partition(', from ')[0]}\n{' '.join(card.modalities)} · {', '.join(card.prompts)}"


def standing(entry: Entry, chosen: bool, checkpoint: Path | None = None) -> str:
    """State, and the size or the user's own file that is used instead; two lines."""
    if chosen and checkpoint is not None:
        return f"{state(entry, chosen)}\n{checkpoint.name}"
    return "\n".join([state(entry, chosen), *([] if entry.size_bytes is None else [megabytes(entry.size_bytes)])])


def state(entry: Entry, chosen: bool) -> str:
    """What can be done with it now."""
    if chosen:
        return _("in use")
    return {
        READY: _("ready"),
        HERE: _("on disk"),
        ABSENT: _("to download"),
        YOUR_FILE: _("needs your file"),
        NOT_YET: _("not yet"),
    }[entry.state]


def matches(entry: Entry, words: str) -> bool:
    """Whether all words are in what is said of a model, capitals aside."""
    card = entry.card
    text = " ".join(
        (card.name, title(entry), good_for(entry), card.family, card.description, card.dimension, state(entry, False))
    ).lower()
    return all(word in text for word in words.lower().split())


def description(entry: Entry, free_bytes: int | None, free_memory: int | None) -> str:
    """All that a person should know before choosing, as HTML."""
    card = entry.card
    parts = [f"<p><b>{escape(card.title)}</b> ({escape(card.dimension)}). {escape(card.description)}</p>"]
    if card.reason is not None:
        parts.append(f"<p><b>{_('Cannot be run yet:')}</b> {escape(card.reason)}</p>")
    if entry.state == YOUR_FILE:
        parts.append(f"<p><b>{_('Weights:')}</b> {escape(card.weights['how'])}</p>")
    parts.append(f"<p><b>{_('Licence:')}</b> {escape(card.licence)}{_page(entry)}</p>")
    terms = [*licence.warnings(card), *([card.terms["note"]] if card.terms.get("note") else [])]
    parts.append(_items(terms))
    if entry.state == ABSENT and entry.size_bytes:
        free = "" if free_bytes is None else _("; {free} are free").format(free=megabytes(free_bytes))
        needs = _("{size} to download, and as much again for the checked copy{free}.").format(
            size=megabytes(entry.size_bytes), free=free
        )
        parts.append(f"<p><b>{_('Disk:')}</b> {needs}</p>")
    if need := card.data.get("memory_mb", 0) * 10**6:
        free = "" if free_memory is None else _("; {free} are free").format(free=megabytes(free_memory))
        parts.append(f"<p><b>{_('Memory:')}</b> {_('about {need}').format(need=megabytes(need))}{free}.</p>")
    parts.append(f"<p><b>{_('Limits:')}</b></p>{_items(card.data.get('limits', []))}")
    if citation := card.data.get("citation"):
        parts.append(f"<p><b>{_('Cite:')}</b> {escape(citation)}</p>")
    return "".join(parts)


def use(entry: Entry) -> str:
    """The text of the one button."""
    if entry.state == ABSENT:
        if entry.size_bytes is None:
            return _("Download and use")
        return _("Download {size} and use").format(size=megabytes(entry.size_bytes))
    return _("Choose its file...") if entry.state == YOUR_FILE else _("Use this model")


def why_not(entry: Entry, chosen: bool, accepted: bool) -> str:
    """Why a model cannot be chosen now, for a tool tip; "" if it can."""
    if chosen:
        return _("This model is in use.")
    if entry.state == NOT_YET:
        return _("It cannot be run yet: {reason}").format(reason=entry.card.reason)
    return "" if accepted else _("Read the licence and accept it first.")


def work(stage: str, name: str) -> str:
    """What is being done to a model."""
    known = {
        "start": _("Starting..."),
        "download": _("Downloading {name}"),
        "verify": _("Checking {name}"),
        "convert": _("Making {name} ready"),
        "waiting for another process": _("Waiting for another program that works on {name}"),
        "waiting for another download": _("Waiting for another download of {name}"),
    }
    return known.get(stage, stage).format(name=name)


class Clock:
    """How long a stage will still take, from how fast it went so far."""

    def __init__(self) -> None:
        self._stage, self._start, self._first = "", 0.0, 0.0

    def left(self, stage: str, fraction: float) -> str:
        """For people; "" while nothing can be said."""
        moment = time.monotonic()
        if stage != self._stage:
            self._stage, self._start, self._first = stage, moment, fraction
        gone, done = moment - self._start, fraction - self._first
        if gone < 2 or done <= 0 or fraction >= 1:
            return ""
        seconds = gone * (1 - fraction) / done
        if seconds < 90:
            return _("about {count:.0f} s left").format(count=max(1.0, seconds))
        return _("about {count:.0f} min left").format(count=seconds / 60)


def progress(stage: str, name: str, fraction: float, total: int | None, left: str) -> str:
    """The line under the bar."""
    parts = [work(stage, name)]
    if stage == "download" and total:
        parts.append(_("{done} of {total}").format(done=megabytes(int(total * fraction)), total=megabytes(total)))
    return ", ".join([*parts, *([left] if left else [])])


def finished(what: str, data: dict[str, object], name: str) -> str:
    """What came out of a job that went well."""
    if what == "remove":
        freed = data.get("freed_bytes")
        count = sum(freed.values()) if isinstance(freed, dict) else 0
        return _("{name} was removed; {size} are free again.").format(name=name, size=megabytes(count))
    if what == "verify":
        return _("{name} is as it was when it came here.").format(name=name)
    if what == "bundle":
        return _("{name} was written; choose More > Import on the other computer.").format(name=name)
    if what == "import":
        names = data.get("models")
        return _("Imported: {names}.").format(names=", ".join(names) if isinstance(names, list) else name)
    return _("{name} is ready.").format(name=name)


def bad(data: dict[str, object]) -> str:
    """What a verification found wrong; "" if nothing."""
    models = data.get("models")
    found = models if isinstance(models, list) else []
    return " ".join(str(item["found"]) for item in found if isinstance(item, dict) and item.get("good") is False)


def _page(entry: Entry) -> str:
    page = entry.card.terms.get("page")
    return "" if page is None else f' (<a href="{escape(page)}">{_("read it")}</a>)'


def _items(lines: list[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>" if lines else ""
