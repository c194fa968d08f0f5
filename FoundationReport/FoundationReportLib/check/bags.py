# SPDX-License-Identifier: Apache-2.0
"""One chunk of a sentence as a claim of its own, with empty fields for what it does not say."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from ..measure.quantities import Dimension
from .chunks import Chunk
from .claims import Claim, Count, Site, Value, fits
from .lexicon import Lexicon
from .mentions import Measure, Mention
from .rows import narrower, of_places, of_the, ranging, than_follows


class Bagger:
    """Reads chunks. What one chunk leaves open ("except for") holds for the next."""

    def __init__(self, lex: Lexicon) -> None:
        self.lex = lex
        self.ordered: tuple[str, ...] = ()
        self.except_ = False

    def heads(self, chunk: Chunk) -> list[Chunk]:
        """One part per finding; findings side by side are one ("mass lesion")."""
        parts, current, last = [], Chunk(chunk.link), None
        for mention in chunk.mentions:
            if mention.kind == "FIND" and last is not None and not self._compound(last, mention, current):
                parts.append(current)
                current = Chunk("of")
            if mention.kind == "FIND":
                last = mention
            current.mentions.append(mention)
        return [*parts, current]

    def _compound(self, a: Mention, b: Mention, between: Chunk) -> bool:
        at = between.mentions.index(a)
        gap = [m for m in between.mentions[at + 1 :] if m.kind not in ("SIDE", "SITE", "SKIP")]
        than = any(m.kind == "THAN" or (m.kind == "CMP" and m.text.endswith("than")) for m in between.mentions)
        return than or not gap

    def bag(self, chunk: Chunk) -> Claim:
        bag = Claim()
        state = _State()
        for n, mention in enumerate(chunk.mentions):
            self._one(bag, state, mention, chunk.mentions, n)
        self._close(bag, state)
        return bag

    def _one(self, bag: Claim, state: _State, mention: Mention, row: list[Mention], n: int) -> None:
        kind, value = mention.kind, mention.value
        following = next((m for m in row[n + 1 :] if m.kind not in ("NEUTRAL", "DET", "SKIP", "BY")), None)
        if kind == "FIND":
            self._finding(bag, state, mention)
        elif kind == "SITE":
            bag.lies |= bag.located
            self._site(state, value)
        elif kind == "SIDE":
            head = next((m.kind for m in row[n + 1 :] if m.kind in ("FIND", "SITE")), "")
            if mention.text.lower() == "both" and not any(m.kind in ("FIND", "SITE") for m in row):
                bag.of_all = True  # "..., both unchanged"
                return
            if value == "both" and head == "FIND" and mention.text.lower() in ("both", "either", "neither"):
                bag.select = "all"
            else:
                state.sides.append((value, mention.text.lower()))
        elif kind == "NAME":
            bag.names += value
        elif kind == "MEASURE":
            self._measure(bag, state, mention, following)
        elif kind == "QUANTITY":
            state.quantity = value
            bag.quantity = value
            self._late_quantity(bag, value)
        elif kind == "NEG":
            state.neg = not state.take_not()  # "is not absent"
            nor = any(m.text.lower() == "nor" for m in row[n + 1 :])  # "neither the patella nor the tibia"
            if mention.text.lower() == "neither" and following is not None and following.kind == "SITE" and not nor:
                state.sides.append(("both", "neither"))
        elif kind == "NEGAFTER":
            state.negafter = True
        elif kind == "NOT":
            state.not_ = True
            return
        elif kind == "HEDGE":
            bag.hedged |= mention.text.lower() not in _ADJECTIVES
        elif kind == "COUNT":
            self._counted(bag, state, value, row, n)
        elif kind == "SELECT" and value == "all" and of_places(bag, row, n):
            state.sides.append(("both", "each"))
        elif kind == "SELECT":
            bag.select = bag.select or value
            bag.everywhere |= value == "all" and n + 1 < len(row) and row[n + 1].text.lower() in _PARTS
            bag.uptake |= "avid" in mention.text.lower() or "hypermetabolic" in mention.text.lower()
        elif kind == "CHANGE":
            self._change(bag, state, value, mention, row, n)
        elif kind == "FACTOR":
            bag.factor = value
        elif kind == "REMAINS":
            bag.persists = True
        elif kind == "NORMAL":
            bag.normal = "abnormal" if state.take_not() else "normal"
        elif kind == "NORMALSIZE":
            bag.size = "normal"
        elif kind == "ENLARGED":
            bag.size = "normal" if state.take_not() else "enlarged"
        elif kind == "SMALL":
            bag.size = "small"
        elif kind == "COVERAGE":
            bag.coverage = bag.coverage or value
        elif kind == "DENSITY":
            bag.density.append(value)
        elif kind == "AVID":
            bag.avid = value
        elif kind == "UPTAKE":
            bag.uptake = True
        elif kind == "SEVERITY":
            bag.severity = value
        elif kind == "EXCEPT":
            self.except_ = True
        elif kind == "COMPARATIVE":
            bag.compared, bag.quantity = value.split()
        elif kind == "RELATION":
            self._place(bag, state)
            state.relation = value
        elif kind == "THAN":
            if mention.text.lower().startswith("exceed") and following is not None and following.kind == "MEASURE":
                state.cmp = ">"
                return
            self._place(bag, state)
            state.than = True
        elif kind == "CMP":
            words = mention.text.lower().split()
            if words[-1] == "than" and words[0] in _COMPARED and (following is None or following.kind != "MEASURE"):
                bag.compared = _COMPARED[words[0]]
                self._place(bag, state)
                state.than = True
            else:
                state.cmp = value
        elif kind == "UPTO":
            state.cmp = "max"
        elif kind in ("PRIOR", "COMPARE") and bag.density and following is not None and following.kind == "SITE":
            self._place(bag, state)
            state.than = True  # "hypodense compared with the spleen"
        elif kind == "PRIOR":
            before = next((m for m in reversed(row[:n]) if m.kind not in ("NEUTRAL", "SKIP", "DET")), None)
            if self._than_before(bag, state):
                return
            if before is not None and before.kind == "MEASURE" and not any(m.kind == "MEASURE" for m in row[n + 1 :]):
                bag.values[-1] = replace(bag.values[-1], prior=True)
            state.prior = True
            bag.prior_open = following is None
        elif kind == "NOW":
            state.prior = False
        elif kind == "COMPARE":
            if self._than_before(bag, state):
                return
            state.prior = "interval" not in mention.text.lower()
            bag.prior_open = following is None and "interval" not in mention.text.lower()
        elif kind == "BY":
            state.by = True
        elif kind == "FROM":
            state.from_ = True
        elif kind == "NUMBEROF":
            bag.number_of = True
        elif kind == "RESTRICT":
            bag.restricted = True
        elif kind == "PRONOUN":
            bag.pronoun = True
        elif kind == "UNKNOWN":
            bag.unknown = True
        elif kind in ("STUDY", "MODALITY"):
            bag.study = True
        elif kind == "NEUTRAL" and mention.text.lower() in ("the", "this", "these", "that", "known"):
            bag.definite = True
        elif kind == "NEUTRAL" and mention.text.lower() in ("only", "solely", "exclusively") and bag.count is not None:
            bag.count = replace(bag.count, strict=True)
        elif kind == "NEUTRAL" and mention.text.lower() in ("only", "sole") and not bag.finding:
            bag.sole = Site()
        elif kind == "NEUTRAL" and mention.text.lower() == "ago":
            bag.values = [replace(v, prior=True) for v in bag.values]
        elif kind == "NEUTRAL" and mention.text.lower() in _VERBS and (bag.finding or bag.select):
            bag.located = True
            if bag.sole is not None:  # of which place it is the only one, is said before the verb
                side = state.sides[0][0] if len(state.sides) == 1 else ""
                bag.sole = Site(tuple(node for nodes, _ in state.sites for node in nodes), side)
        elif kind == "NEUTRAL" and mention.text.lower().startswith(("rang", "vary", "varies")):
            state.range = True
        if kind not in ("NEUTRAL", "DET", "SKIP", "NOT"):
            state.not_ = False

    def _counted(self, bag: Claim, state: _State, value: Any, row: list[Mention], n: int) -> None:
        count = Count(*value)
        bound = row[n - 1].text.lower() if n and row[n - 1].kind in ("CMP", "UPTO") else ""
        if bound and count.op == "=":
            least = bound in ("at least", "no less than", "not less than")
            if state.cmp == ">":
                count = Count(">=", count.n + (0 if least else 1), True)
            elif state.cmp in ("<", "max"):
                count = Count("<=", count.n - (1 if bound in ("fewer than", "less than") else 0), True)
            state.cmp = ""
        if bag.count is not None and bag.count.op == count.op == "=" and of_the(row, n):
            bag.partitive = bag.count
        bag.count = narrower(bag.count, count)
        bag.plural |= count.n > 1

    def _than_before(self, bag: Claim, state: _State) -> bool:
        """ "Larger than before" is a change, no comparison of two things."""
        if not state.than or state.sites or state.sides or not bag.compared:
            return False
        state.than, bag.than = False, None
        bag.changes.append(bag.compared)
        bag.compared = ""
        bag.prior_open = True
        return True

    def _finding(self, bag: Claim, state: _State, mention: Mention) -> None:
        word = mention.value
        if state.than:
            bag.than_finding = word.concept
            state.sites += [((place,), "") for place in word.makes]
            return
        if not bag.finding or self.lex.finding_isa(word.concept, bag.finding) or bag.finding in ("lymph node",):
            old = bag.finding
            bag.finding = word.concept if old != "lymph node" or word.enlarged else old
            if old == "lymph node" and word.concept == "metastasis":
                bag.enlarged_node = True
        bag.plural |= mention.plural
        bag.target |= mention.text.lower().startswith("target")
        bag.enlarged_node |= word.enlarged
        bag.uptake |= word.uptake
        if word.uptake and bag.finding == word.concept:
            bag.finding, bag.avid = "lesion", "avid"
        for place in word.makes:
            if place not in _LININGS and any(self.lex.disjoint(n, place) for s in state.sites for n in s[0]):
                continue  # "fatty infiltration of the pancreas": what is said outweighs what the word implies
            state.sites = [s for s in state.sites if not any(self.lex.disjoint(n, place) for n in s[0])]
            state.sites.append(((place,), ""))
            state.made.append(place)
        if state.neg or state.take_not():  # "is not fractured"
            bag.negated = True

    def _site(self, state: _State, value: Any) -> None:
        nodes, side = value
        several = isinstance(nodes, tuple)
        if not several and any(self.lex.disjoint(nodes, n) for n in state.made):
            if any(n in _LININGS for n in state.made):
                return  # an effusion "in the lung" is in the pleura
            state.sites = [s for s in state.sites if not set(s[0]) & set(state.made)]
            state.made = []
        if several and len(nodes) > 1:
            state.alternatives = [(n,) for n in nodes]
        else:
            state.sites.append((nodes if several else (nodes,), side))

    def _late_quantity(self, bag: Claim, quantity: str) -> None:
        """ "14 mm in short axis": the name of the quantity may follow its number."""
        if bag.values and not bag.values[-1].quantity and quantity != "long_axis":
            last = bag.values[-1]
            if fits(quantity, last.measure):
                bag.values[-1] = replace(last, quantity=quantity)

    def _measure(self, bag: Claim, state: _State, mention: Mention, following: Mention | None) -> None:
        measure: Measure = mention.value
        if measure.dimension is None and len(measure.values) == 1 and measure.to is None:
            n = measure.values[0]
            if bag.number_of and n == int(n):
                bag.count = Count("=", int(n), True)
                return
            countable = following is not None and following.kind in (
                "FIND",
                "SITE",
                "SELECT",
                "AVID",
                "SIDE",
                "CHANGE",
                "ENLARGED",
                "DENSITY",
            )
            if (
                state.quantity not in ("suv_max", "suv_mean", "suv_peak", "tlg")
                and countable
                and n == int(n)
                and n > 0
                and not measure.decimals
            ):
                bag.count = Count("=", int(n))
                return
        quantity = state.quantity
        if quantity and not fits(quantity, measure):
            quantity = ""
        if (
            state.relation == "distance"
            or (state.quantity == "distance" and measure.dimension is Dimension.LENGTH)
            or (following is not None and following.kind == "RELATION" and following.value == "distance")
        ):
            self._place(bag, state)
            bag.relation, bag.relation_value = "distance", measure
            state.relation = "distance"
            return
        if state.than and not state.sites and not state.sides and state.cmp == "" and bag.than is None:
            state.cmp = ">" if bag.compared in ("larger", "") else "<"
            state.than, bag.compared = False, ""
        since = state.from_ and measure.to is None and bool(bag.changes)  # "decreased from 160 mL"
        value = Value(measure, quantity, state.prior or since, state.cmp, state.by)
        if measure.to is not None and (state.from_ or bag.changes) and not ranging(mention):
            before = replace(measure, to=None)
            now = replace(measure, values=(measure.to,), to=None)
            if state.range:
                bag.values.append(value)
            else:
                bag.values += [Value(before, quantity, True, state.cmp), Value(now, quantity, False, state.cmp)]
        else:
            bag.values.append(value)
        state.cmp, state.by = "", False

    def _change(self, bag: Claim, state: _State, value: str, mention: Mention, row: list[Mention], n: int) -> None:
        if value in ("larger", "smaller") and than_follows(row[n + 1 :]):
            bag.compared = value
            return
        if value == "smaller" and mention.text.lower() in ("lower", "less") and state.quantity:
            bag.compared = value
        head = next((m.kind for m in row[n + 1 :] if m.kind not in ("NEUTRAL", "DET", "SKIP", "MEASURE", "COUNT")), "")
        if mention.text.lower() in ("smaller", "larger", "bigger") and head == "FIND":
            if not bag.select and not any(m.kind == "DET" or m.text.lower() in ("the", "one") for m in row[:n]):
                bag.loosely = value  # "smaller renal cyst": than another one, or than before
            bag.select = bag.select or "other"  # "a second, smaller nodule"
            return
        if state.take_not():
            value = {
                "larger": "not larger",
                "smaller": "not smaller",
                "stable": "not stable",
                "new": "not new",
                "resolved": "not resolved",
            }[value]
        bag.changes.append(value)

    def _place(self, bag: Claim, state: _State) -> None:
        """What sites and sides were gathered become the claim's places, or the object of a relation."""
        sites = self._sites(state)
        if state.than:
            if sites:
                bag.than = sites[0]
            elif bag.than is None:
                bag.than = Site()
        elif state.relation:
            bag.relation = bag.relation or state.relation
            if sites:
                bag.relation_site = sites[0]
        else:
            bag.sites += sites
        state.sites, state.sides, state.alternatives = [], [], []

    def _sites(self, state: _State) -> list[Site]:
        side = ""
        ordered: tuple[str, ...] = ()
        for name, text in state.sides:
            side = "both" if side and side != name else name
            if text.startswith(("right and", "right &")):
                ordered = ("right", "left")
            elif text.startswith(("left and", "left &")):
                ordered = ("left", "right")
        self.ordered = ordered or self.ordered
        nodes: list[str] = []
        own = ""
        for names, fixed in state.sites:
            nodes += [n for n in names if n not in nodes]
            own = own or fixed
        side = side or own
        merged = self._lobes(nodes, side)
        if state.alternatives:
            return [Site((*merged[0], *names), merged[1]) for names in state.alternatives]
        if not merged[0] and not merged[1]:
            return []
        return [Site(tuple(merged[0]), merged[1])]

    def _lobes(self, nodes: list[str], side: str) -> tuple[list[str], str]:
        """ "left" and "lobe" with "liver" are the left lobe; a place that only contains another one is dropped."""
        if "bone" in nodes and "pelvis" in nodes:
            nodes = [n for n in nodes if n not in ("bone", "pelvis")] + ["pelvic bone"]
        kept = [n for n in nodes if not any(o != n and self.lex.place_in(o, n) for o in nodes)]
        for lobe, named in (("left hepatic lobe", "left"), ("right hepatic lobe", "right")):
            if lobe in kept:
                others = [n for n in kept if n != lobe]
                if any(self.lex.disjoint(n, "liver") for n in others):  # a lobe of the thyroid or the prostate
                    kept, side = others, side or named
                else:
                    kept, side = (
                        [*[n for n in others if not self.lex.place_in(n, "liver")], *others][:1] or ["liver"],
                        named,
                    )
        return kept, side

    def _close(self, bag: Claim, state: _State) -> None:
        self._place(bag, state)
        if state.neg and not bag.finding and bag.changes:
            bag.changes = [c if c.startswith("not ") or c == "new" else f"not {c}" for c in bag.changes]
            state.neg = False
        if self.except_ and (state.neg or bag.negated or bag.normal):
            bag.select = "other"
        bag.ordered_sides, self.ordered = self.ordered, ()
        if state.neg and not bag.finding:
            bag.negated = True
        if state.not_ and not bag.predicated and not bag.finding:
            bag.negated = True  # "the kidneys do not"
        if state.negafter:
            bag.negated = not bag.negated
        if bag.enlarged_node and bag.finding == "lymphadenopathy":
            bag.finding = "lymph node"


@dataclass
class _State:
    """What a chunk has said so far and not yet placed."""

    sites: list[tuple[tuple[str, ...], str]] = field(default_factory=list)
    alternatives: list[tuple[str, ...]] = field(default_factory=list)
    sides: list[tuple[str, str]] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    quantity: str = ""
    cmp: str = ""
    relation: str = ""
    neg: bool = False
    negafter: bool = False
    not_: bool = False
    than: bool = False
    prior: bool = False
    by: bool = False
    from_: bool = False
    range: bool = False

    def take_not(self) -> bool:
        was, self.not_ = self.not_, False
        return was


_PARTS = {"lobe", "lobes", "segment", "segments", "level", "levels", "station", "stations"}


_COMPARED = {
    "larger": "larger",
    "bigger": "larger",
    "greater": "larger",
    "higher": "larger",
    "smaller": "smaller",
    "lower": "smaller",
    "less": "smaller",
}


_LININGS = {"pleura", "pericardium", "peritoneum", "pulmonary artery", "mediastinum"}


_VERBS = {"is", "are", "was", "were", "lies", "lie", "located", "situated", "centered", "lying"}


_ADJECTIVES = {"suspicious", "concerning", "worrisome", "apparent", "indeterminate"}
