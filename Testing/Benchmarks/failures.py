#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pictures of where a model fails, for its card: the worst and the middling structures of an accuracy run.

    python Testing/Benchmarks/failures.py build/benchmarks/accuracy.json
    python Testing/Benchmarks/failures.py RESULT.json --at 10 --out Resources/Screenshots/compact-failures.png

Each structure is segmented anew from the prompts that the run stored, and shown in three planes through the largest
error, with the reference's outline and ours. Only data under a licence that allows derived pictures with attribution is
shown (CC BY, CC0, public domain; nothing non-commercial, share-alike, or of unclear terms); source and licence stand in
the picture and in the caption file beside it (OUT with .md). Exit status 0, or 2 for wrong use.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from FoundationSegLib import Box, Point, Scribble, SegmentationSession, Volume
from FoundationSegLib.errors import FoundationSegError
from FoundationSegLib.prompts import Prompt
from segbench import cases, environment, gallery, report
from segbench.metrics import dice

Row = dict[str, Any]
DEFAULT_DATA = environment.ROOT.parent / "shared" / "data"
DEFAULT_OUT = environment.ROOT / "build" / "benchmarks" / "failures.png"
_ALLOWED = re.compile(r"\s*(CC BY|CC0|PUBLIC DOMAIN)\b", re.IGNORECASE)
_REFUSED = re.compile(r"\b(NC|SA|ND|verify|no licen[cs]e|unclear)\b", re.IGNORECASE)
_SAME_DICE = 0.01


def may_be_shown(licence: str, also: Sequence[str] = ()) -> bool:
    """Whether an index's words on a licence allow a derived picture with attribution, beyond doubt.

    `also`: further licences that the caller has looked into, as the words begin ("MIT").
    """
    if _REFUSED.search(licence):
        return False
    return bool(_ALLOWED.match(licence)) or any(licence.lower().startswith(word.lower()) for word in also)


def choose(rows: Sequence[Row], at: int, worst: int, middle: int) -> list[tuple[str, Row]]:
    """The worst rows and those nearest to the median by Dice after `at` clicks, at most one per case, labelled so."""
    scored = sorted(
        ((score, row) for row in rows if (score := report.at_click(row, "dice", at)) is not None),
        key=lambda pair: (pair[0], pair[1]["case"], pair[1]["structure"]),
    )
    if not scored:
        return []
    median = float(np.median([score for score, _ in scored]))
    chosen: list[tuple[str, Row]] = []

    def take(word: str, count: int, ranked: Sequence[tuple[float, Row]]) -> None:
        seen: set[str] = {row["case"] for _, row in chosen}
        for _, row in ranked:
            if count and row["case"] not in seen:
                chosen.append((word, row))
                seen.add(row["case"])
                count -= 1

    take("worst", worst, scored)
    take("median", middle, sorted(scored, key=lambda pair: abs(pair[0] - median)))
    return chosen


def prompts_of(row: Row, at: int) -> list[Prompt]:
    """The prompts that a row's series gave up to `at` clicks."""
    found: list[Prompt] = []
    for entry in row["prompts"][: at + (1 if row["series"] == "box" else 0)]:
        if "box" in entry:
            low, high = entry["box"]
            found.append(Box(tuple(low), tuple(high)))
        elif "stroke" in entry:
            found.append(Scribble(tuple(tuple(point) for point in entry["stroke"]), entry["positive"]))
        else:
            found.append(Point(tuple(entry["ras"]), entry["positive"]))
    return found


def picture_of(word: str, row: Row, case: cases.Case, at: int) -> gallery.Entry:
    """Segments one structure anew. Raises DataError, FoundationSegError."""
    structures = [structure for structure in case.structures if structure.name == row["structure"]]
    if not structures:
        raise cases.DataError(f"{case.name} has no structure {row['structure']}; name the run's own data with --data")
    volume = Volume.read(case.folder / structures[0].image)
    reference, _ = case.reference(structures[0])
    session = SegmentationSession(volume, model=row["method"])
    prompts, expected = prompts_of(row, at), None
    for prompt in prompts:
        expected = session.add("it", prompt).predicted_iou
    mask = session.mask("it")
    score, before = dice(reference, mask), report.at_click(row, "dice", at)
    if before is not None and abs(score - before) > _SAME_DICE:
        print(
            f"failures: {case.name} {row['structure']}: Dice {score:.3f}, in the run {before:.3f}; "
            "the model has changed since, so the choice of structures is that of the run.",
            file=sys.stderr,
        )
    what = "strokes" if row["series"] == "strokes" else "clicks"
    given = f"box and {at} {what}" if row["series"] == "box" else f"{at} {what}"
    quality = "" if expected is None else f", predicted IoU {expected:.2f}"
    caption = (
        f"{word}: {row['structure']} in {case.name} ({row['modality'] or 'unknown'}, {row['ml']:.3g} mL), "
        f"{given}: Dice {score:.2f}{quality}"
    )
    source = f"Data: {case.source}, {case.labels_by}; licence: {case.licence}"
    return gallery.Entry(volume, reference, mask, tuple(prompts), caption, source)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("accuracy", type=Path, help="JSON that accuracy.py wrote")
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="folder with index.json (default: shared data)")
    parser.add_argument("--method", default="compact")
    parser.add_argument("--series", default="clicks", choices=("clicks", "box", "strokes"))
    parser.add_argument("--variant", default="tidy")
    parser.add_argument("--at", type=int, default=5, help="clicks after which the mask is shown (default: 5)")
    parser.add_argument("--worst", type=int, default=3)
    parser.add_argument("--median", type=int, default=2)
    parser.add_argument("--also-licence", nargs="+", default=[], metavar="WORD", help="as the licence's words begin")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="the PNG")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> tuple[list[gallery.Entry], str]:
    """The entries, and a sentence on how they were chosen. Raises DataError, FoundationSegError."""
    try:
        document = json.loads(options.accuracy.read_text(encoding="utf-8"))
        rows = [
            row
            for row in document["rows"]
            if (row["method"], row["series"], row["variant"]) == (options.method, options.series, options.variant)
            and row["labels"] == "human"
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise cases.DataError(f"{options.accuracy} is no result of accuracy.py") from error
    known = {case.name: case for case in cases.load_cases(options.data)}
    shown = [
        row for row in rows if row["case"] in known and may_be_shown(known[row["case"]].licence, options.also_licence)
    ]
    chosen = choose(shown, options.at, options.worst, options.median)
    if not chosen:
        raise cases.DataError(
            f"of {len(rows)} human-labelled structures of {options.method} none may be shown; see --also-licence"
        )
    about = document["environment"]
    sentence = (
        f"Chosen by Dice in the run of {about['date'][:10]}, commit {about['commit'][:12]}, from the {len(shown)} of "
        f"{len(rows)} human-labelled structures whose licence allows a derived picture; at most one per case."
    )
    return [picture_of(word, row, known[row["case"]], options.at) for word, row in chosen], sentence


def main(arguments: list[str] | None = None) -> int:
    """Choose, segment, draw."""
    options = parse(arguments)
    try:
        entries, sentence = run(options)
    except (cases.DataError, FoundationSegError) as error:
        print(f"failures: {error}", file=sys.stderr)
        return 2
    gallery.write_page(options.out, entries, f"{options.method}: where it fails, and what is usual")
    lines = [sentence, "", *(f"- {entry.caption}. {entry.source}" for entry in entries)]
    options.out.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
