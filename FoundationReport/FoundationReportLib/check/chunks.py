# SPDX-License-Identifier: Apache-2.0
"""A sentence cut at separators, conjunctions and negations."""

from __future__ import annotations

from dataclasses import dataclass, field

from .mentions import Mention


@dataclass
class Chunk:
    link: str
    mentions: list[Mention] = field(default_factory=list)

    def has(self, *kinds: str) -> bool:
        return any(m.kind in kinds for m in self.mentions)


def chunks(mentions: list[Mention]) -> list[Chunk]:
    """Cut at separators and conjunctions, and before a negation that follows something."""
    out = [Chunk("")]
    for n, mention in enumerate(mentions):
        if mention.kind == "SEP" or (mention.kind == "CONJ" and not _inside_list(mentions, n)):
            link = str(mention.value)
            if (
                link == ":"
                and out[-1].mentions
                and all(m.kind in ("PRIOR", "NOW", "NEUTRAL", "DET") for m in out[-1].mentions)
                and out[-1].has("PRIOR", "NOW")
            ):
                continue
            if out[-1].mentions:
                out.append(Chunk(link))
            elif link not in (",",) or not out[-1].link:
                out[-1].link = link if out[-1].link in ("", ",") else f"{out[-1].link} {link}"
            continue
        if mention.kind == "NEG" and any(m.kind not in ("NEUTRAL", "DET", "SKIP", "PRONOUN") for m in out[-1].mentions):
            out.append(Chunk("nor" if mention.text.lower() == "nor" else "neg"))
        out[-1].mentions.append(mention)
    return [c for c in out if c.mentions]


def _inside_list(mentions: list[Mention], n: int) -> bool:
    """Whether an "and" only joins two sides, or two numbers of one list, of the same thing."""
    if mentions[n].value not in ("and", "or") or not 0 < n < len(mentions) - 1:
        return False
    before, after = mentions[n - 1], mentions[n + 1]
    if before.kind == after.kind == "SIDE":
        return True
    return before.kind == "CMP" and after.kind == "MEASURE"
