# SPDX-License-Identifier: Apache-2.0
"""From mentions to claims: who or what a part of a sentence speaks of, and what it says of it.

A sentence is cut into chunks at commas, brackets and conjunctions. Each chunk continues the claim before it (more
attributes of the same thing), joins it (one more thing of the same list) or begins a new one that inherits what it does
not name itself ("a 14 mm nodule in the upper lobe and an 8 mm one in the lower lobe").
"""

from __future__ import annotations

from dataclasses import replace

from ..measure.quantities import Dimension
from .chunks import chunks
from .claims import Claim, Reading
from .joining import Builder
from .lexicon import Lexicon
from .mentions import Mention


def understand(mentions: list[Mention], lex: Lexicon) -> Reading:
    """The claims of a sentence."""
    mentions = _plain_words(mentions)
    reading = Reading()
    _study_level(mentions, reading)
    builder = Builder(lex)
    builder.respective = any(m.kind == "RESPECTIVELY" for m in mentions)
    row = chunks(mentions)
    for n, chunk in enumerate(row):
        builder.next_link = row[n + 1].link if n + 1 < len(row) else ""
        builder.next_finds = n + 1 < len(row) and row[n + 1].has("FIND")
        builder.take(chunk)
    reading.claims = [c for c in builder.finish() if not _void(c)]
    return reading


_ADJECTIVES = {"suspicious", "concerning", "worrisome", "apparent", "indeterminate"}


_AMOUNT_TO = {
    "compatible with",
    "consistent with",
    "correspond to",
    "corresponds to",
    "corresponding to",
    "in keeping with",
    "representing",
    "represent",
    "represents",
    "most consistent with",
}


def _plain_words(mentions: list[Mention]) -> list[Mention]:
    """Words that hedge elsewhere: "no suspicious nodule". "Consistent with" states what a fact has to say, too."""
    out = []
    denied = False
    for mention in mentions:
        word = " ".join(mention.text.lower().split())
        denied = (denied or mention.kind == "NEG") and mention.kind != "SEP"
        if mention.kind == "HEDGE" and ((denied and word in _ADJECTIVES) or word in _AMOUNT_TO):
            mention = replace(mention, kind="NEUTRAL")
        out.append(mention)
    return _restricting(out)


def _restricting(mentions: list[Mention]) -> list[Mention]:
    """ "No spiculated nodule" is true where there is no nodule: an adjective narrows what is denied."""
    out = list(mentions)
    denied: list[int] | None = None
    for n, mention in enumerate(mentions):
        if mention.kind == "NEG":
            denied = []
        elif mention.kind in ("SEP", "CONJ"):
            denied = None if mention.value not in (",", "or", "and") or denied else denied
        elif denied is not None and mention.kind == "UNKNOWN":
            denied.append(n)
        elif denied is not None and mention.kind == "FIND":
            for k in denied:
                acute = mentions[k].text.lower() in ("acute", "recent", "fresh")
                out[k] = replace(mentions[k], kind="NEUTRAL" if acute else "RESTRICT")
            denied = None
    return out


def _void(claim: Claim) -> bool:
    return (claim.headless and not claim.predicated and claim.count is None and not claim.negated) and not claim.select


def _study_level(mentions: list[Mention], reading: Reading) -> None:
    for mention in mentions:
        if mention.kind in ("UNKNOWN", "DATE", "SLICE"):
            reading.unknown.append(mention.text)
        elif mention.kind == "TECHNIQUE":
            reading.technique.append(mention.value)
        elif mention.kind == "FIND" and mention.value.concept == "enhancement":
            reading.technique.append("enhancement")
        elif mention.kind == "PHASE":
            reading.phases.append(mention.value)
        elif mention.kind == "MODALITY":
            reading.modalities.append(mention.value)
        elif mention.kind == "CATEGORY":
            reading.categories.append(("response", mention.value))
        elif mention.kind == "RADS":
            reading.categories.append(mention.value)
        elif mention.kind == "NOPRIOR":
            reading.no_prior = True
        elif mention.kind in ("COMPARE", "REMAINS"):
            reading.compares = True
        elif mention.kind == "HEDGE":
            reading.hedged = True
        elif mention.kind == "RECOMMEND":
            reading.recommends = True
        elif mention.kind == "QUOTE":
            reading.quotes.append(mention.value)
        implied = _IMPLIES.get(mention.kind) or _IMPLIES.get(f"{mention.kind} {mention.value}")
        if mention.kind == "MEASURE" and mention.value.dimension is Dimension.INTENSITY:
            implied = "CT"
        if implied:
            reading.terms.append((implied, mention.text))
        readings = [(entry.kind, entry.value) for entry in mention.others] + [(mention.kind, mention.value)]
        reading.terms += [(str(value), mention.text) for kind, value in readings if kind == "TERM"]


_IMPLIES = {
    "AVID": "PT",
    "UPTAKE": "PT",
    "QUANTITY suv_max": "PT",
    "QUANTITY suv_mean": "PT",
    "QUANTITY suv_peak": "PT",
    "QUANTITY mtv": "PT",
    "DENSITY hypo": "CT",
    "DENSITY hyper": "CT",
}
