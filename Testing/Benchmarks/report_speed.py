#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Time to a draft: measuring a CT of 512 x 512 x 300 voxels with 10 segments, drafting, and checking 40 sentences.

    python Testing/Benchmarks/report_speed.py               # 3 repeats
    python Testing/Benchmarks/report_speed.py --repeats 1 --threads 1 --out report-speed

The patient is made: two lungs, liver, spleen, two kidneys, an aorta, two nodules and a liver lesion, as ellipsoids of
the usual sizes in noise, in memory, so that nothing depends on a disk. Reading a volume from its file comes on top of
it. Seconds are wall clock, the median of the repeats; the targets are those of the issue (10 s for measuring and
drafting on two cores, 0.5 s for the check). A timing never decides a test.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2] / name) for name in ("FoundationSeg", "FoundationReport")]
SHAPE = (300, 512, 512)
SPACING_MM = (0.75, 0.75, 1.25)  # i, j, k
DRAFT_TARGET_S, CHECK_TARGET_S, SENTENCES = 10.0, 0.5, 40
# Name, centre (R, A, S) and half axes in mm.
SEGMENTS = (
    ("Right lung", (75, 0, 60), (55, 85, 115)),
    ("Left lung", (-75, 0, 60), (50, 85, 115)),
    ("Liver", (55, 15, -95), (95, 75, 70)),
    ("Spleen", (-90, -40, -90), (30, 45, 50)),
    ("Right kidney", (60, -60, -150), (27, 27, 32)),
    ("Left kidney", (-60, -60, -145), (27, 27, 37)),
    ("Aorta", (-10, -45, 0), (12, 12, 180)),
    ("Right lung nodule 1", (85, 20, 90), (9, 6, 7)),
    ("Left lung nodule 2", (-70, 10, 30), (5, 4, 5)),
    ("Liver lesion", (60, 20, -90), (17, 12, 14)),
)


def made_patient() -> tuple[Any, list[Any]]:
    """The volume and its segments."""
    import numpy as np  # after `main` has set the threads, which numpy reads when it is loaded
    from FoundationSegLib import Volume
    from FoundationSegLib.segmentation_io import SegmentRecord

    matrix = np.diag([-SPACING_MM[0], -SPACING_MM[1], SPACING_MM[2], 1.0])
    centre = (np.array(SHAPE[::-1]) - 1) / 2
    matrix[:3, 3] = -matrix[:3, :3] @ centre
    generator = np.random.default_rng(1)
    array = generator.integers(-20, 80, SHAPE, dtype=np.int16)
    i, j, k = (matrix[a, a] * np.arange(n) + matrix[a, 3] for a, n in enumerate(SHAPE[::-1]))
    records = []
    for name, (r, a, s), (x, y, z) in SEGMENTS:
        terms = ((k - s) / z)[:, None, None] ** 2, ((j - a) / y)[None, :, None] ** 2, ((i - r) / x)[None, None] ** 2
        mask = (terms[0] + terms[1] + terms[2]) <= 1
        records.append(SegmentRecord(name, mask, segment_id=name.replace(" ", "_")))
        array[mask] += -850 if name.endswith("lung") else 60
    return Volume(array, matrix, "CT"), records


def timed(call: Callable[[], Any], repeats: int) -> tuple[Any, list[float]]:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
    return result, seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="of SimpleITK and numpy; the target is for two cores")
    parser.add_argument("--template", default="ct-chest")
    parser.add_argument("--out", help="also write the table to OUT.md")
    arguments = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
        os.environ[name] = str(arguments.threads)
    volume, records = made_patient()
    rows = []
    start = time.perf_counter()
    import SimpleITK  # noqa: F401 - loaded here, so that its seconds are told apart
    from FoundationReportLib.check import check, check_text
    from FoundationReportLib.draft import draft
    from FoundationReportLib.measure import Search, measure

    rows.append(("importing", [time.perf_counter() - start], None))
    searched = [Search("lung", "nodule"), Search("liver", "lesion")]

    def measured() -> Any:
        # The fingerprint is remembered by the volume; each repeat has to make it anew.
        volume.__dict__.pop("fingerprint", None)
        return measure(volume, records, searched=searched)

    facts, measuring = timed(measured, arguments.repeats)
    report, drafting = timed(lambda: draft(facts, template=arguments.template), arguments.repeats)
    checked, checking = timed(lambda: check(report), arguments.repeats)
    sentences = [statement.text for statement in checked.statements] or ["The liver is enlarged."]
    text = "\n".join((sentences * (SENTENCES // len(sentences) + 1))[:SENTENCES])
    _, checking_text = timed(lambda: check_text(facts, text), arguments.repeats)
    rows += [
        (f"measuring, {len(facts.facts)} facts", measuring, None),
        (f"drafting, {len(report.statements)} statements", drafting, None),
        ("measuring and drafting", [a + b for a, b in zip(measuring, drafting, strict=True)], DRAFT_TARGET_S),
        (f"checking {len(checked.statements)} drafted statements", checking, None),
        (f"checking {SENTENCES} sentences of text", checking_text, CHECK_TARGET_S),
    ]
    lines = [
        f"{SHAPE[2]} x {SHAPE[1]} x {SHAPE[0]} voxels, {len(records)} segments, {arguments.threads} threads",
        "",
        "| step | median s | all s | target s |",
        "|---|---|---|---|",
    ]
    for name, seconds, target in rows:
        every = ", ".join(f"{s:.2f}" for s in seconds)
        lines.append(f"| {name} | {statistics.median(seconds):.2f} | {every} | {target if target else ''} |")
    table = "\n".join(lines)
    print(table)
    if arguments.out:
        Path(f"{arguments.out}.md").write_text(table + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
