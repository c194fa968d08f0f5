# SPDX-License-Identifier: Apache-2.0
"""From mentions to claims: who or what a part of a sentence speaks of, and what it says of it.

A sentence is cut into chunks at commas, brackets and conjunctions. Each chunk continues the claim before it (more
attributes of the same thing), joins it (one more thing of the same list) or begins a new one that inherits what it does
not name itself ("a 14 mm nodule in the upper lobe and an 8 mm one in the lower lobe").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from ..measure.quantities import Dimension
from .lexicon import Lexicon
from .reader import Measure, Mention

SIZE = {"long_axis", "short_axis", "mean_diameter", "max_diameter_3d", "extent_cc", "extent_ap", "extent_lr"}


@dataclass(frozen=True)
class Site:
    """A place of the body: nodes that all hold ("lower pole" and "kidney"), and a side if one is named."""

    nodes: tuple[str, ...] = ()
    side: str = ""

    @property
    def empty(self) -> bool:
        return not self.nodes and not self.side


@dataclass(frozen=True)
class Value:
    """A number that a claim states: of which quantity (empty: not said), now or earlier, exactly or as a bound."""

    measure: Measure
    quantity: str = ""
    prior: bool = False
    cmp: str = ""
    by: bool = False


@dataclass(frozen=True)
class Count:
    op: str
    n: int
    strict: bool = False


@dataclass
class Claim:
    """What one part of a sentence says. Empty fields: it does not say."""

    finding: str = ""
    plural: bool = False
    definite: bool = False
    enlarged_node: bool = False
    target: bool = False
    inherited: bool = False
    prior_open: bool = False
    located: bool = False
    uptake: bool = False
    sites: list[Site] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    count: Count | None = None
    partitive: Count | None = None
    unknown: bool = False
    select: str = ""
    negated: bool = False
    hedged: bool = False
    values: list[Value] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    factor: float | None = None
    persists: bool = False
    normal: str = ""
    size: str = ""
    coverage: str = ""
    density: list[str] = field(default_factory=list)
    avid: str = ""
    severity: str = ""
    relation: str = ""
    relation_site: Site | None = None
    relation_value: Measure | None = None
    than: Site | None = None
    than_finding: str = ""
    compared: str = ""
    quantity: str = ""
    pronoun: bool = False
    study: bool = False
    group: int = 0
    ordered_sides: tuple[str, ...] = ()

    @property
    def predicated(self) -> bool:
        return bool(
            self.values or self.changes or self.normal or self.size or self.coverage or self.density or self.avid
            or self.relation or self.than is not None or self.factor
        )  # fmt: skip

    @property
    def headless(self) -> bool:
        return not (self.finding or self.sites or self.names)


@dataclass
class Reading:
    """A sentence: its claims, and what holds of the sentence as a whole."""

    claims: list[Claim] = field(default_factory=list)
    technique: list[str] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    modalities: list[str] = field(default_factory=list)
    terms: list[tuple[str, str]] = field(default_factory=list)
    categories: list[tuple[str, str]] = field(default_factory=list)
    no_prior: bool = False
    compares: bool = False
    hedged: bool = False
    recommends: bool = False
    quotes: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


@dataclass
class Chunk:
    link: str
    mentions: list[Mention] = field(default_factory=list)

    def all(self, kind: str) -> list[Mention]:
        return [m for m in self.mentions if m.kind == kind]

    def has(self, *kinds: str) -> bool:
        return any(m.kind in kinds for m in self.mentions)


STUDY_QUANTITIES = {
    "sum_of_diameters", "nadir_sum", "baseline_sum", "slice_thickness", "slice_spacing", "field_strength", "interval",
}  # fmt: skip


def chunks(mentions: list[Mention]) -> list[Chunk]:
    """Cut at separators and conjunctions, and before a negation that follows something."""
    out = [Chunk("")]
    for n, mention in enumerate(mentions):
        if mention.kind == "SEP" or (mention.kind == "CONJ" and not _inside_list(mentions, n)):
            link = str(mention.value)
            if link == ":" and out[-1].mentions and all(m.kind in ("PRIOR", "NOW", "NEUTRAL", "DET") for m in out[-1].mentions) and out[-1].has("PRIOR", "NOW"):
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


def understand(mentions: list[Mention], lex: Lexicon) -> Reading:
    """The claims of a sentence."""
    mentions = _plain_words(mentions)
    reading = Reading()
    _study_level(mentions, reading)
    builder = _Builder(lex, reading)
    builder.respective = any(m.kind == "RESPECTIVELY" for m in mentions)
    row = chunks(mentions)
    for n, chunk in enumerate(row):
        builder.next_link = row[n + 1].link if n + 1 < len(row) else ""
        builder.take(chunk)
    reading.claims = [c for c in builder.finish() if not _void(c)]
    return reading


_ADJECTIVES = {"suspicious", "concerning", "worrisome", "apparent", "indeterminate"}
_AMOUNT_TO = {"compatible with", "consistent with", "correspond to", "corresponds to", "corresponding to", "in keeping with", "representing",
              "represent", "represents", "most consistent with"}  # fmt: skip


def _plain_words(mentions: list[Mention]) -> list[Mention]:
    """Words that hedge elsewhere: "no suspicious nodule", "corresponds to PR"."""
    graded = any(m.kind in ("CATEGORY", "RADS", "QUOTE") for m in mentions)
    out = []
    denied = False
    for mention in mentions:
        word = " ".join(mention.text.lower().split())
        denied = (denied or mention.kind == "NEG") and mention.kind != "SEP"
        if mention.kind == "HEDGE" and ((denied and word in _ADJECTIVES) or (graded and word in _AMOUNT_TO)):
            mention = replace(mention, kind="NEUTRAL")
        out.append(mention)
    return out


def _void(claim: Claim) -> bool:
    return (claim.headless and not claim.predicated and claim.count is None and not claim.negated) and not claim.select


def _study_level(mentions: list[Mention], reading: Reading) -> None:
    for mention in mentions:
        if mention.kind in ("UNKNOWN", "DATE", "SLICE"):
            reading.unknown.append(mention.text)
        elif mention.kind == "TECHNIQUE":
            reading.technique.append(mention.value)
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
        for entry in (*mention.others, *([] if mention.kind != "TERM" else [mention])):
            if entry.kind == "TERM":
                reading.terms.append((str(entry.value), mention.text))


_IMPLIES = {
    "AVID": "PT", "UPTAKE": "PT", "QUANTITY suv_max": "PT", "QUANTITY suv_mean": "PT", "QUANTITY suv_peak": "PT", "QUANTITY mtv": "PT",
    "DENSITY hypo": "CT", "DENSITY hyper": "CT",
}  # fmt: skip


class _Builder:
    """Chunks to claims, from left to right."""

    def __init__(self, lex: Lexicon, reading: Reading) -> None:
        self.lex = lex
        self.reading = reading
        self.claims: list[Claim] = []
        self.group: list[Claim] = []  # the claims that the next chunk's attributes belong to
        self.base: Claim | None = None  # the claim whose finding and place a continuation inherits
        self.groups = 0
        self.pair: tuple[Claim, Claim] | None = None
        self.ordered: tuple[str, ...] = ()
        self.respective = False
        self.except_ = False
        self.open_prior = False
        self.next_link = ""

    # --- chunk by chunk ---

    def take(self, chunk: Chunk) -> None:
        bags = [self._bag(part) for part in self._heads(chunk)]
        for n, bag in enumerate(bags):
            self._join(bag, chunk.link if n == 0 else "of")

    def finish(self) -> list[Claim]:
        self._share_sites()
        for claim in self.claims:
            _complete(claim)
        _respective(self.claims)
        return self.claims

    def _heads(self, chunk: Chunk) -> list[Chunk]:
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
        than = any(m.kind == "THAN" for m in between.mentions)
        return than or not gap

    def _bag(self, chunk: Chunk) -> Claim:
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
            self._site(state, value, mention)
        elif kind == "SIDE":
            head = next((m.kind for m in row[n + 1 :] if m.kind in ("FIND", "SITE")), "")
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
            state.neg = True
            if mention.text.lower() == "neither":
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
        elif kind == "SELECT":
            bag.select = bag.select or value
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
            self._leave_relation(bag, state)
            state.relation = value
        elif kind == "THAN":
            if mention.text.lower().startswith("exceed") and following is not None and following.kind == "MEASURE":
                state.cmp = ">"
                return
            self._leave_relation(bag, state)
            state.than = True
        elif kind == "CMP":
            words = mention.text.lower().split()
            if words[-1] == "than" and words[0] in _COMPARED and (following is None or following.kind != "MEASURE"):
                bag.compared = _COMPARED[words[0]]
                self._leave_relation(bag, state)
                state.than = True
            else:
                state.cmp = value
        elif kind == "UPTO":
            state.cmp = "max"
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
        elif kind == "PRONOUN":
            bag.pronoun = True
        elif kind == "UNKNOWN":
            bag.unknown = True
        elif kind in ("STUDY", "MODALITY"):
            bag.study = True
        elif kind == "NEUTRAL" and mention.text.lower() in ("the", "this", "these", "that", "known"):
            bag.definite = True
        elif kind == "NEUTRAL" and mention.text.lower() in _VERBS and (bag.finding or bag.select):
            bag.located = True
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
        if bag.count is not None and bag.count.op == count.op == "=" and _of_the(row, n):
            bag.partitive = bag.count
        if bag.count is None or bag.count.op != "=" or count.op == "=":
            bag.count = count
        bag.plural |= count.n > 1

    def _than_before(self, bag: Claim, state: _State) -> bool:
        """"Larger than before" is a change, no comparison of two things."""
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
        for place in word.makes:
            if place not in _LININGS and any(self.lex.disjoint(n, place) for s in state.sites for n in s[0]):
                continue  # "fatty infiltration of the pancreas": what is said outweighs what the word implies
            state.sites = [s for s in state.sites if not any(self.lex.disjoint(n, place) for n in s[0])]
            state.sites.append(((place,), "", mention.start))
            state.made.append(place)
        if state.neg:
            bag.negated = True

    def _site(self, state: _State, value: Any, mention: Mention) -> None:
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
            state.sites.append((nodes if several else (nodes,), side, mention.start))
        state.site_plural |= mention.plural

    def _late_quantity(self, bag: Claim, quantity: str) -> None:
        """"14 mm in short axis": the name of the quantity may follow its number."""
        if bag.values and not bag.values[-1].quantity and quantity != "long_axis":
            last = bag.values[-1]
            if _fits(quantity, last.measure):
                bag.values[-1] = replace(last, quantity=quantity)

    def _measure(self, bag: Claim, state: _State, mention: Mention, following: Mention | None) -> None:
        measure: Measure = mention.value
        if measure.dimension is None and len(measure.values) == 1 and measure.to is None:
            n = measure.values[0]
            countable = following is not None and following.kind in ("FIND", "SITE", "SELECT", "AVID", "SIDE", "CHANGE", "ENLARGED", "DENSITY")
            if state.quantity not in ("suv_max", "suv_mean", "suv_peak", "tlg") and countable and n == int(n) and n > 0 and not measure.decimals:
                bag.count = Count("=", int(n))
                return
        quantity = state.quantity
        if quantity and not _fits(quantity, measure):
            quantity = ""
        if state.relation == "distance" or (state.quantity == "distance" and measure.dimension is Dimension.LENGTH) or (following is not None and following.kind == "RELATION" and following.value == "distance"):
            self._place(bag, state)
            bag.relation, bag.relation_value = "distance", measure
            state.relation = "distance"
            return
        if state.than and not state.sites and not state.sides and state.cmp == "" and bag.than is None:
            state.cmp = ">" if bag.compared in ("larger", "") else "<"
            state.than, bag.compared = False, ""
        value = Value(measure, quantity, state.prior, state.cmp, state.by)
        if measure.to is not None and (state.from_ or bag.changes) and not _ranging(mention):
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
        if value in ("larger", "smaller") and _than_follows(row[n + 1 :]):
            bag.compared = value
            return
        if value == "smaller" and mention.text.lower() in ("lower", "less") and state.quantity:
            bag.compared = value
        head = next((m.kind for m in row[n + 1 :] if m.kind not in ("NEUTRAL", "DET", "SKIP", "MEASURE", "COUNT")), "")
        if mention.text.lower() in ("smaller", "larger", "bigger") and head == "FIND":
            bag.select = bag.select or "other"  # "a second, smaller nodule"
            return
        if state.take_not():
            value = {"larger": "not larger", "smaller": "not smaller", "stable": "not stable", "new": "not new", "resolved": "not resolved"}[value]
        bag.changes.append(value)

    def _leave_relation(self, bag: Claim, state: _State) -> None:
        self._place(bag, state)

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
        side, ordered = "", ()
        for name, text in state.sides:
            if side and side != name:
                side = "both"
            else:
                side = name
            if text.startswith(("right and", "right &")):
                ordered = ("right", "left")
            elif text.startswith(("left and", "left &")):
                ordered = ("left", "right")
        self.ordered = ordered or self.ordered
        nodes: list[str] = []
        own = ""
        for names, fixed, _ in state.sites:
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
        """"left" and "lobe" with "liver" are the left lobe; a place that only contains another one is dropped."""
        if "bone" in nodes and "pelvis" in nodes:
            nodes = [n for n in nodes if n not in ("bone", "pelvis")] + ["pelvic bone"]
        kept = [n for n in nodes if not any(o != n and self.lex.place_in(o, n) for o in nodes)]
        for lobe, named in (("left hepatic lobe", "left"), ("right hepatic lobe", "right")):
            if lobe in kept:
                others = [n for n in kept if n != lobe]
                if any(self.lex.disjoint(n, "liver") for n in others):  # a lobe of the thyroid or the prostate
                    kept, side = others, side or named
                else:
                    kept, side = [*[n for n in others if not self.lex.place_in(n, "liver")], *others][:1] or ["liver"], named
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
        if state.negafter:
            bag.negated = not bag.negated
        if bag.enlarged_node and bag.finding == "lymphadenopathy":
            bag.finding = "lymph node"

    # --- how a chunk continues ---

    def _join(self, bag: Claim, link: str) -> None:
        last = self.group[-1] if self.group else None
        if self.open_prior and "(" in link and bag.values and not bag.finding and not bag.sites:
            bag.values = [replace(v, prior=True) for v in bag.values]
        self.open_prior = bag.prior_open
        if last is None:
            self._start(bag)
            return
        if link == ";" or "but" in link or link in ("while", "whereas", "however", "although"):
            if bag.finding or bag.sites or bag.names:
                self._start(self._inherit(bag, last))
                return
        if bag.quantity in STUDY_QUANTITIES and not bag.finding and not bag.sites and (last.finding or last.sites):
            self._start(bag)
            return
        if self._continues_head(bag, last, link):
            self._merge(bag, last, link)
        elif bag.finding:
            self._new_finding(bag, last, link)
        elif bag.sites or bag.names:
            self._new_site(bag, last, link)
        else:
            self._attributes(bag, last, link)

    def _start(self, claim: Claim) -> None:
        self.groups += 1
        claim.group = self.groups
        self.claims.append(claim)
        self.group = [claim]

    def _continues_head(self, bag: Claim, last: Claim, link: str) -> bool:
        """A place, then what is there: "Liver: 24 mm lesion", "The spleen without lesion"; or attributes, then the thing."""
        if last.headless and not last.pronoun:
            return True
        if bag.finding and not last.finding and (last.sites or last.names) and not last.predicated:
            return not last.negated or (bool(bag.sites) and link in (",", "or", "and", "/", "nor", ", or", ", and"))
        if bag.sites and last.names and not last.sites and not last.predicated and not bag.finding:
            return True
        return False

    def _merge(self, bag: Claim, last: Claim, link: str) -> None:
        sites = list(last.sites)
        if bag.sites:
            apart = all(self.lex.disjoint(a, b) for s in sites for a in s.nodes for b in bag.sites[0].nodes) or any(
                s.side and b.side and s.side != b.side for s in sites for b in bag.sites
            )
            if sites and link in ("and", ",", "or", "/", ", and", ", or", "nor", "and or") and (not bag.finding or apart):
                sites += bag.sites
            else:
                sites = [self._refined(s, b) for s in (sites or [Site()]) for b in bag.sites]
        _absorb(last, bag)
        last.sites = sites

    def _new_finding(self, bag: Claim, last: Claim, link: str) -> None:
        if bag.finding == last.finding and link in ("/", "(") and not last.predicated and last.negated == bag.negated:
            bag.sites = [s for s in bag.sites if s.side] if last.sites else bag.sites
            self._merge(bag, last, link)
            return
        listed = link in (",", "and", "or", "/", ", or", ", and", "and or", "/ or", "nor") and last.finding
        plain = not (bag.count or bag.values or bag.changes or bag.definite)
        if listed and plain and last.negated and not last.predicated and not bag.negated:
            bag.negated = True
            bag.hedged |= last.hedged
        if listed and plain and not last.predicated and bag.negated == last.negated:
            bag.group = last.group
            if not bag.changes:
                bag.changes = list(last.changes) if last.negated else []
            self.claims.append(bag)
            self.group.append(bag)
            return
        self._start(self._inherit(bag, last))

    def _new_site(self, bag: Claim, last: Claim, link: str) -> None:
        if not last.finding and not last.predicated and not last.names:
            self._merge(bag, last, link)
            return
        if self.respective and last.finding and last.sites and not last.predicated and link in ("and", ",", ", and"):
            last.sites += bag.sites
            bag.sites = []
            self._attributes(replace(bag, sites=[]), last, link)
            return
        whole = all(s.nodes for s in bag.sites)
        if whole and not bag.predicated and (last.predicated or last.negated) and self.next_link in ("neg", "nor", "with", ":") and not bag.negated:
            self._start(bag)  # "left ovary with a cyst, right ovary without": another place begins
            return
        plain = not bag.predicated and not bag.count and not bag.select and not bag.negated
        if plain and last.values and "(" in link and (last.inherited or (self._refines(bag, last) and not last.finding)):
            last.sites = [self._in_context(s, last) for s in bag.sites]
            last.inherited = False
            return
        if last.finding and plain and last.count is not None and last.count.n > 1 and link in (":", "("):
            self._start(self._inherit(bag, last))
            return
        if last.finding and plain:
            refined = self._refines(bag, last)
            if refined or not last.sites:
                for claim in self.group:
                    claim.sites = [self._refined(s, bag.sites[0]) for s in (claim.sites or [Site()])]
                return
            if not last.values and link in ("and", ",", "or", "/", ", and"):
                last.sites += bag.sites
                return
        if last.finding and not last.sites and not last.values and not bag.count and not bag.select and not (last.count and last.count.n > 1):
            for claim in self.group:
                claim.sites = list(bag.sites)
            bag.sites = []
            self._attributes(bag, last, link)
            return
        if not last.values and not last.changes and self._refines(bag, last) and last.finding and not _many(last) and not bag.count:
            last.sites = [self._refined(s, bag.sites[0]) for s in last.sites]
            bag.sites = []
            self._attributes(bag, last, link)
            return
        self._start(self._inherit(bag, last))

    def _attributes(self, bag: Claim, last: Claim, link: str) -> None:
        if bag.quantity and not bag.predicated and last.values and "(" in link and _fits(bag.quantity, last.values[-1].measure):
            last.values[-1] = replace(last.values[-1], quantity=bag.quantity)
            return
        if bag.select or (bag.count and last.finding):
            self._start(self._inherit(bag, last))
            return
        if last.than is not None and bag.values and not bag.changes and len(self.claims) > 0 and "(" in link:
            other = Claim(finding=last.than_finding or ("" if last.than.nodes else last.finding), sites=[last.than] if last.than.nodes else [self._in_context(last.than, last)], values=bag.values, quantity=bag.quantity)
            self.claims.append(other)
            self.pair = (last, other)
            return
        if self.pair is not None and bag.values and not bag.changes:
            subject, other = self.pair
            self.claims.append(replace(subject, values=other.values, than=None, compared="", changes=[]))
            given = other.values[0].quantity if other.values else ""
            self.claims[-1].values = list(other.values)
            other.values = [replace(v, quantity=v.quantity or given) for v in bag.values]
            self.pair = None
            return
        changing = bool(last.changes or bag.changes)
        repeats = any(not v.prior and not (v.by and changing) and not v.measure.signed for v in bag.values) and any(
            _same_slot(v, w, changing) for v in bag.values for w in last.values
        )
        aggregated = any(v.cmp or v.measure.to is not None for v in bag.values)
        if bag.values and (repeats or (_many(last) and not aggregated and not bag.changes)) and not last.headless:
            child = self._inherit(bag, last)
            if repeats and not _many(last):
                child.ordered_sides = last.ordered_sides
            self._start(child)
            return
        if bag.negated and (bag.changes or bag.values) and last.finding:
            pass
        for claim in self.group:
            _absorb(claim, bag)

    def _refines(self, bag: Claim, last: Claim) -> bool:
        if not last.sites or len(last.sites) > 1 or not bag.sites:
            return False
        old, new = last.sites[0], bag.sites[0]
        if old.side and new.side and old.side != new.side:
            return False
        if not new.nodes:
            return not old.side
        return all(
            self.lex.place_in(n, o) or o in self.lex.places.get(n, _NOWHERE).host for n in new.nodes for o in old.nodes
        )

    def _refined(self, old: Site, new: Site) -> Site:
        """Both places at once, where that is possible; else the new one."""
        if any(self.lex.disjoint(a, b) for a in old.nodes for b in new.nodes):
            return new
        nodes = list(dict.fromkeys((*old.nodes, *new.nodes)))
        kept = tuple(n for n in nodes if not any(o != n and self.lex.place_in(o, n) for o in nodes))
        return Site(kept, new.side or old.side)

    def _inherit(self, bag: Claim, last: Claim) -> Claim:
        source = last
        if bag.normal and bag.sites and not bag.finding and not bag.negated:
            bag.sites = [self._in_context(s, replace(source, finding="")) for s in bag.sites]
            return bag
        if not bag.finding and not bag.names:
            bag.finding = source.finding
            bag.enlarged_node = source.enlarged_node
            bag.names = list(source.names) if not bag.sites and not bag.select else []
            bag.plural = bag.plural and bag.count is not None
        if not bag.sites and not bag.names:
            bag.sites = list(source.sites)
            bag.inherited = True
        elif bag.sites and not bag.names:
            bag.sites = [self._in_context(s, source) for s in bag.sites]
        bag.quantity = bag.quantity or source.quantity
        bag.values = [
            replace(v, quantity=source.quantity) if not v.quantity and source.quantity and _fits(source.quantity, v.measure) else v
            for v in bag.values
        ]
        return bag

    def _in_context(self, site: Site, source: Claim) -> Site:
        """A part without its organ, or a bare side, takes the organ that was spoken of."""
        organs = [n for s in source.sites for n in s.nodes]
        if not site.nodes:
            whole = [n for n in organs if self.lex.places.get(n, _NOWHERE).paired]
            keep = not source.finding
            tops = list(dict.fromkeys(n if keep else self._organ(n) for n in (whole or organs)))
            return Site(tuple(tops[:1]), site.side)
        if all(self.lex.places.get(n, _NOWHERE).host for n in site.nodes):
            hosts = [self._organ(n) for n in organs]
            fitting = [h for h in hosts if h in self.lex.places[site.nodes[0]].host]
            return Site((*site.nodes, *fitting[:1]), site.side or (source.sites[0].side if source.sites else ""))
        return site

    def _organ(self, node: str) -> str:
        for name in (node, *self.lex.place_ancestors(node)):
            place = self.lex.places.get(name)
            if place is not None and place.family in ("organ", "vessel", "bone part"):
                return name
        return node

    def _share_sites(self) -> None:
        """In a list of findings those without a place share the place of their neighbours."""
        for claim in self.claims:
            if claim.sites or not claim.finding or claim.names:
                continue
            if self.lex.findings.get(claim.finding) and self.lex.findings[claim.finding].at:
                continue
            mates = [c for c in self.claims if c.group == claim.group and c.sites]
            if mates:
                claim.sites = list(mates[-1].sites)


@dataclass
class _State:
    """What a chunk has said so far and not yet placed."""

    sites: list[tuple[tuple[str, ...], str, int]] = field(default_factory=list)
    alternatives: list[tuple[str, ...]] = field(default_factory=list)
    sides: list[tuple[str, str]] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    site_plural: bool = False
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


_COMPARED = {
    "larger": "larger", "bigger": "larger", "greater": "larger", "higher": "larger", "smaller": "smaller", "lower": "smaller",
    "less": "smaller",
}  # fmt: skip


_LININGS = {"pleura", "pericardium", "peritoneum", "pulmonary artery", "mediastinum"}
_VERBS = {"is", "are", "was", "were", "lies", "lie", "located", "situated", "centered", "lying"}


class _Nowhere:
    paired = False
    host: tuple[str, ...] = ()


_NOWHERE: Any = _Nowhere()


_FLUIDS = {"pleura": "pleural effusion", "pericardium": "pericardial effusion", "peritoneum": "ascites", "abdomen": "ascites", "pelvis": "ascites"}


def _of_the(row: list[Mention], n: int) -> bool:
    """"two of the three": whether "of" stands between two counts."""
    for mention in reversed(row[:n]):
        if mention.kind == "COUNT":
            return any(m.text.lower() == "of" for m in row[row.index(mention) : n])
        if mention.kind not in ("NEUTRAL", "DET"):
            return False
    return False


def _than_follows(rest: list[Mention]) -> bool:
    """Whether "than" comes next, at most a quantity or a property away ("higher uptake than")."""
    for mention in rest:
        if mention.kind == "THAN":
            return True
        if mention.kind not in ("NEUTRAL", "DET", "SKIP", "UPTAKE", "QUANTITY", "DENSITY", "AVID"):
            return False
    return False


def _complete(claim: Claim) -> None:
    """Fluid is named after where it is. An earlier value without a unit has that of the present one ("16 mm, previously 12")."""
    if claim.finding == "fluid":
        nodes = nodes_of(claim.sites)
        claim.finding = next((f for n, f in _FLUIDS.items() if n in nodes), "fluid")
    known = [v for v in claim.values if v.measure.dimension is not None or v.quantity]
    for n, value in enumerate(claim.values):
        if value.prior and value.quantity == "" and value.measure.dimension is None and known:
            model = next((v for v in reversed(claim.values[:n]) if v in known), known[0])
            factor = model.measure.factor
            measure = replace(value.measure, values=tuple(v * factor for v in value.measure.values), dimension=model.measure.dimension)
            claim.values[n] = replace(value, measure=measure, quantity=model.quantity)
        elif known and value.prior and not value.quantity and known[0].quantity and _fits(known[0].quantity, value.measure):
            claim.values[n] = replace(value, quantity=known[0].quantity)


def _respective(claims: list[Claim]) -> None:
    """"The right and left kidneys measure 152 and 161 mL": one value each."""
    for n, claim in enumerate(claims):
        k = len(claim.sites)
        run = claims[n : n + k]
        if k > 1 and len(run) == k and all(c.sites == claim.sites and len(c.values) == 1 and c.finding == claim.finding for c in run):
            for c, site in zip(run, list(claim.sites), strict=True):
                c.sites, c.plural = [site], False
    for first, second in zip(claims, claims[1:], strict=False):
        sites = _ordered(first)
        if len(sites) == 2 and len(first.values) == 1 and len(second.values) == 1 and _ordered(second) == sites:
            first.sites, second.sites = [sites[0]], [sites[1]]


def _ordered(claim: Claim) -> list[Site]:
    if claim.ordered_sides and len(claim.sites) == 1:
        return [replace(claim.sites[0], side=side) for side in claim.ordered_sides]
    return claim.sites


def _ranging(mention: Mention) -> bool:
    return "-" in mention.text or "–" in mention.text


def _many(claim: Claim) -> bool:
    return claim.plural or (claim.count is not None and claim.count.n > 1) or claim.select == "all"


def _same_slot(a: Value, b: Value, changing: bool = True) -> bool:
    return a.prior == b.prior and (a.by == b.by or not changing) and a.measure.dimension == b.measure.dimension and a.measure.signed == b.measure.signed and (
        a.quantity == b.quantity or not a.quantity or not b.quantity
    )  # fmt: skip


_DIMENSION = {
    "volume": Dimension.VOLUME, "mtv": Dimension.VOLUME, "mean": Dimension.INTENSITY, "sd": Dimension.INTENSITY,
    "min": Dimension.INTENSITY, "max": Dimension.INTENSITY, "median": Dimension.INTENSITY, "doubling_time": Dimension.TIME,
    "interval": Dimension.TIME, "field_strength": Dimension.OTHER,
}  # fmt: skip


def _fits(quantity: str, measure: Measure) -> bool:
    """Whether a number with this unit can be of that quantity."""
    if quantity.startswith("suv") or quantity == "tlg":
        return measure.dimension in (None, Dimension.UPTAKE)
    return measure.dimension == _DIMENSION.get(quantity, Dimension.LENGTH)


def _absorb(claim: Claim, bag: Claim) -> None:
    """Adds what a chunk says to a claim."""
    if bag.finding and not claim.finding:
        claim.finding = bag.finding
    for name in ("plural", "definite", "enlarged_node", "target", "located", "unknown", "uptake", "hedged", "persists", "study"):
        setattr(claim, name, getattr(claim, name) or getattr(bag, name))
    for name in ("count", "partitive", "select", "factor", "normal", "size", "coverage", "avid", "severity", "relation", "relation_site",
                 "relation_value", "than", "than_finding", "compared", "quantity", "ordered_sides"):  # fmt: skip
        setattr(claim, name, getattr(claim, name) or getattr(bag, name))
    if bag.count is not None and claim.count is not None and bag.count.n > claim.count.n:
        claim.count = bag.count
    claim.names += bag.names
    claim.values += bag.values
    claim.changes += bag.changes
    claim.density += bag.density
    if bag.negated:
        claim.negated = True


def nodes_of(sites: Iterable[Site]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(n for s in sites for n in s.nodes))
