# SPDX-License-Identifier: Apache-2.0
"""How the cross-check of reports does on the corpus of planted errors, as a table per kind and half; and its speed.

    python Testing/Benchmarks/checker.py [--half dev|test|outside|both] [--json FILE]

Rates only: which sentence of the test half was judged how is not printed, so that no rule is written on it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
for folder in (ROOT / "FoundationSeg", ROOT / "FoundationReport", ROOT / "FoundationReport/Testing/Python"):
    sys.path.insert(0, str(folder))

from checker_corpus import Rates, facts_of, items, rates  # noqa: E402
from FoundationReportLib.check import check_text  # noqa: E402

# name, numerator, denominator, bar, whether the bar is a most
BARS = (
    ("planted errors contradicted or unverifiable", "flagged", "errors", 0.95, False),
    ("contradicted where a fact exists", "contradicted", "fact", 0.85, False),
    ("false alarms (contradicted although true)", "false_alarms", "true", 0.02, True),
    ("true statements supported", "supported", "true", 0.85, False),
    ("reports whose omissions are found, and no others", "reports_right", "reports", 0.95, False),
)


def table(half: str, found: Rates) -> str:
    """The rates of a half with their bars, and the counts per kind."""
    lines = [f"{half} half"]
    for name, part, whole, bar, most in BARS:
        n, of = getattr(found, part), getattr(found, whole)
        if not of:
            continue
        lines.append(f"  {name:<50} {100 * n / of:5.1f} %  ({n}/{of}, bar {'<=' if most else '>='} {100 * bar:g} %)")
    lines.append(f"  {'kind':<12}{'n':>5}{'contradicted':>14}{'unverifiable':>14}{'supported':>11}")
    for kind, counts in sorted(found.kinds.items()):
        if kind != "omitted":
            row = "".join(
                f"{counts[v]:>{w}}" for v, w in (("contradicted", 14), ("unverifiable", 14), ("supported", 11))
            )
            lines.append(f"  {kind:<12}{counts['n']:>5}{row}")
    return "\n".join(lines)


def speed(name: str = "onco_response", sentences: int = 40, repeats: int = 5) -> dict[str, Any]:
    """Seconds for a report of so many sentences: the first time (with the lexicon) and after."""
    texts = [i["text"] for i in items("dev") if i["facts"] == name and "text" in i][:sentences]
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        check_text(facts_of(name), "\n".join(texts))
        times.append(time.perf_counter() - start)
    return {"sentences": len(texts), "first_s": round(times[0], 3), "best_s": round(min(times[1:]), 3)}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--half", choices=["dev", "test", "outside", "both"], default="both")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args(argv)
    fast = speed()
    out: dict[str, Any] = {"speed": fast}
    for half in ("dev", "test") if options.half == "both" else (options.half,):
        found = rates(half)
        out[half] = asdict(found)
        print(table(half, found), end="\n\n")
    print(f"{fast['sentences']} sentences: {fast['best_s']} s, the first time {fast['first_s']} s (bar 0.5 s)")
    if options.json:
        options.json.write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
