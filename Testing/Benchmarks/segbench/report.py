# SPDX-License-Identifier: Apache-2.0
"""From rows to tables: means over structures, human labels apart from model labels, organs apart from lesions."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .methods import OWN, PEERS, REFERENCES

Row = dict[str, Any]

CLICK_COLUMNS = (1, 3, 5, 10)
BOX_COLUMNS = (0, 2, 3, 5, 10)
STROKE_COLUMNS = (1, 3, 5)
GOOD_DICE = 0.80
# A mean is "worse" when it falls at all, beyond what floating point sums leave.
WORSE = 1e-9

# What the embedded model is to reach on human-labelled structures: mean Dice after 1, 3, 5 and 10 clicks and after a
# box and two clicks; at every column this much above the best method that needs no download; this share at 0.80.
AIM_COLUMNS = (("clicks", 1), ("clicks", 3), ("clicks", 5), ("clicks", 10), ("box", 2))
AIMS = (
    ("organs", ("CT", "MR"), "organ", (0.70, 0.80, 0.85, 0.88, 0.85)),
    ("lesions", ("CT", "MR", "PT"), "lesion", (0.60, 0.72, 0.78, 0.82, 0.80)),
)
AIM_LEAD = 0.15
AIM_REACHED = 0.90

GROUPS: tuple[tuple[str, Callable[[Row], bool]], ...] = (
    ("human-labelled structures", lambda row: row["labels"] == "human"),
    ("human-labelled organs", lambda row: row["labels"] == "human" and row["kind"] == "organ"),
    ("human-labelled lesions", lambda row: row["labels"] == "human" and row["kind"] == "lesion"),
    ("model-labelled structures (agreement with another model, not truth)", lambda row: row["labels"] == "model"),
    ("structures whose labeller is unclear", lambda row: row["labels"] == "unclear"),
)


def at_click(row: Row, metric: str, count: int) -> float | None:
    """A row's score after `count` clicks; None when so many were not made."""
    return row[metric][row["at"].index(count)] if count in row["at"] else None


def mean_at(rows: Sequence[Row], metric: str, count: int) -> float | None:
    """Mean score over rows after `count` clicks; None when no row has so many."""
    values = [value for row in rows if (value := at_click(row, metric, count)) is not None]
    return statistics.fmean(values) if values else None


def worse_steps(rows: Sequence[Row], metric: str) -> list[tuple[int, float]]:
    """The clicks after which the mean is lower than before, with the fall: the check that no click does harm."""
    counts = sorted({count for row in rows for count in row["at"]})
    means = [(count, mean_at(rows, metric, count)) for count in counts]
    return [
        (count, round(before - after, 6))
        for (_, before), (count, after) in itertools.pairwise(means)
        if before is not None and after is not None and after < before - WORSE
    ]


def reached(rows: Sequence[Row], metric: str = "dice", level: float = GOOD_DICE) -> float | None:
    """Share of rows whose score is at least `level` after some click within those made."""
    if not rows:
        return None
    return float(sum(max(row[metric]) >= level for row in rows) / len(rows))


def summarise(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One entry per variant, group and method: means at every click, falls, share at 0.80, seconds, failures."""
    result = []
    for variant in _ordered(row["variant"] for row in rows):
        for group, belongs in GROUPS:
            chosen = [row for row in rows if row["variant"] == variant and belongs(row)]
            for method in _ordered(row["method"] for row in chosen):
                mine = [row for row in chosen if row["method"] == method]
                entry: dict[str, Any] = {
                    "variant": variant,
                    "group": group,
                    "method": method,
                    "structures": len({(row["case"], row["structure"]) for row in mine}),
                    "cases": len({row["case"] for row in mine}),
                    "failures": sum(row["failures"] for row in mine),
                }
                seconds = [value for row in mine for value in row["seconds"]]
                entry["seconds_median"] = statistics.median(seconds) if seconds else None
                for series in _ordered(row["series"] for row in mine):
                    part = [row for row in mine if row["series"] == series]
                    counts = sorted({count for row in part for count in row["at"]})
                    entry[series] = {
                        "at": counts,
                        "dice": [mean_at(part, "dice", count) for count in counts],
                        "nsd": [mean_at(part, "nsd", count) for count in counts],
                        "dice_falls": worse_steps(part, "dice"),
                        "nsd_falls": worse_steps(part, "nsd"),
                        "reached_080": reached(part),
                    }
                result.append(entry)
    return result


def _ordered(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _series_cells(entry: dict[str, Any], series: str, metric: str, columns: Sequence[int]) -> list[str]:
    data = entry.get(series)
    if data is None:
        return ["-"] * len(columns)
    return [_number(data[metric][data["at"].index(count)]) if count in data["at"] else "-" for count in columns]


def _falls(entry: dict[str, Any], metric: str) -> str:
    parts = []
    for series in ("clicks", "box", "strokes"):
        if series in entry:
            falls = entry[series][f"{metric}_falls"]
            steps = ", ".join(f"{count} (-{fall:.3f})" for count, fall in falls)
            parts.append(f"{series}: {steps or 'none'}")
    return "; ".join(parts)


def tables(summary: Sequence[dict[str, Any]]) -> list[tuple[str, list[str], list[list[str]]]]:
    """(title, header, cells) of every summary table. Columns of strokes appear where strokes were made."""
    result = []
    strokes = any("strokes" in entry for entry in summary)
    keys = list(dict.fromkeys((entry["variant"], entry["group"]) for entry in summary))
    for variant, group in keys:
        entries = [entry for entry in summary if (entry["variant"], entry["group"]) == (variant, group)]
        for metric, label in (("dice", "Dice"), ("nsd", "NSD 2 mm")):
            header = ["method", "n", *(f"click {count}" for count in CLICK_COLUMNS)]
            header += [f"box+{count}" for count in BOX_COLUMNS]
            header += [f"stroke {count}" for count in STROKE_COLUMNS] if strokes else []
            if metric == "dice":
                header += [">=.80 clicks", ">=.80 box", "s/prompt", "failed"]
            header.append("mean falls at click")
            cells = []
            for entry in entries:
                line = [entry["method"], str(entry["structures"])]
                line += _series_cells(entry, "clicks", metric, CLICK_COLUMNS)
                line += _series_cells(entry, "box", metric, BOX_COLUMNS)
                line += _series_cells(entry, "strokes", metric, STROKE_COLUMNS) if strokes else []
                if metric == "dice":
                    line += [_number(entry.get(series, {}).get("reached_080"), 2) for series in ("clicks", "box")]
                    line += [_number(entry["seconds_median"], 2), str(entry["failures"])]
                cells.append([*line, _falls(entry, metric)])
            result.append((f"{label}, {variant} prompts, {group}", header, cells))
    return result


def aims_tables(rows: Sequence[Row]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Per variant, organs and lesions: the aims, every method, and our lead over the best that needs no download."""
    header = ["method", "n", *(f"click {at}" if series == "clicks" else f"box+{at}" for series, at in AIM_COLUMNS)]
    header += [">=.80 clicks"]
    result = []
    for variant in _ordered(row["variant"] for row in rows):
        for name, modalities, kind, aims in AIMS:
            chosen = [
                row
                for row in rows
                if (row["variant"], row["labels"], row["kind"]) == (variant, "human", kind)
                and row.get("modality") in modalities
            ]
            if not chosen:
                continue
            cells = [["aim", "", *(_number(aim, 2) for aim in aims), _number(AIM_REACHED, 2)]]
            found: dict[str, list[float | None]] = {}
            for method in _ordered(row["method"] for row in chosen):
                mine = [row for row in chosen if row["method"] == method]
                found[method] = [
                    mean_at([row for row in mine if row["series"] == series], "dice", at) for series, at in AIM_COLUMNS
                ]
                count = len({(row["case"], row["structure"]) for row in mine})
                share = reached([row for row in mine if row["series"] == "clicks"])
                cells.append([method, str(count), *(_number(value) for value in found[method]), _number(share, 2)])
            for method in OWN:
                others = [values for other, values in found.items() if other in PEERS + REFERENCES]
                if method in found and others:
                    best = [
                        max((v for v in column if v is not None), default=None) for column in zip(*others, strict=True)
                    ]
                    leads = [
                        "-" if own is None or other is None else f"{own - other:+.3f}"
                        for own, other in zip(found[method], best, strict=True)
                    ]
                    cells.append([f"{method} above the best baseline (aim {AIM_LEAD:+.2f})", "", *leads, ""])
            title = f"Aims: mean Dice, human-labelled {name} ({', '.join(modalities)}), {variant} prompts"
            result.append((title, header, cells))
    return result


def structure_table(rows: Sequence[Row]) -> tuple[str, list[str], list[list[str]]]:
    """One line per structure, method and variant."""
    header = ["case", "structure", "kind", "labels", "mL", "variant", "method"]
    header += [f"Dice {count}" for count in CLICK_COLUMNS] + [f"Dice box+{count}" for count in BOX_COLUMNS]
    header += [f"NSD {CLICK_COLUMNS[-1]}", f"NSD box+{BOX_COLUMNS[-1]}"]
    lines: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        key = (row["case"], row["structure"], row["kind"], row["labels"], f"{row['ml']:.2f}", row["variant"])
        lines.setdefault((*key, row["method"]), {})[row["series"]] = row
    cells = []
    for names, found in lines.items():
        line = list(names)
        for series, metric, counts in (
            ("clicks", "dice", CLICK_COLUMNS),
            ("box", "dice", BOX_COLUMNS),
            ("clicks", "nsd", CLICK_COLUMNS[-1:]),
            ("box", "nsd", BOX_COLUMNS[-1:]),
        ):
            scored = found.get(series)
            line += [_number(at_click(scored, metric, count)) if scored else "-" for count in counts]
        cells.append(line)
    return "Every structure", header, cells


def as_text(title: str, header: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A table for the terminal: the first column left, the rest right, the last one left when it holds a sentence."""
    widths = [max(len(line[at]) for line in [header, *cells]) for at in range(len(header))]
    sentence = header[-1] == "mean falls at click"

    def line(values: Sequence[str]) -> str:
        parts = [values[0].ljust(widths[0])]
        last = len(values) - 1
        for at in range(1, len(values)):
            parts.append(values[at].ljust(widths[at]) if sentence and at == last else values[at].rjust(widths[at]))
        return "  ".join(parts).rstrip()

    return "\n".join([title, line(header), *(line(values) for values in cells)])


def as_markdown(title: str, header: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """The same table for a document."""
    lines = [f"### {title}", "", "| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(values) + " |" for values in cells)])


def preamble(document: dict[str, Any]) -> list[str]:
    """What must be known to read the tables, one sentence a line."""
    about, settings, rows = document["environment"], document["settings"], document["rows"]
    dirty = " with uncommitted changes" if about["uncommitted_changes"] else ""
    packages = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    cached = sum(row["cached"] for row in rows)
    lines = [
        f"{about['date']}, commit {about['commit'][:12]}{dirty}; {packages}; {about['processor']}, "
        f"{about['cores']} cores, OMP_NUM_THREADS={about['omp_num_threads']}.",
        f"Simulated prompts: {settings['clicks']} clicks, each at the deepest voxel of the largest error; box: tight, "
        f"then clicks; strokes: short, on one slice; seed {settings['seed']}; "
        f"NSD tolerance {settings['tolerance_mm']} mm. "
        "Means are over structures. Definitions: segbench/clicks.py, strokes.py, metrics.py, regions.py.",
        f"{len(rows)} rows, {cached} of them from the cache, the rest measured in this run"
        + ("." if document["complete"] else "; THE RUN IS NOT COMPLETE."),
    ]
    lines += [f"Left out: {name}: {reason}." for name, reason in document["left_out"].items()]
    lines += [f"FAILED case {name}: {reason}" for name, reason in document["failed_cases"].items()]
    for row in rows:
        if row["failures"]:
            where = f"{row['method']}, {row['case']} {row['structure']}, {row['series']}"
            lines.append(f"FAILED {row['failures']} times (mask kept as it was): {where}: {row['error']}")
    return lines


def text(document: dict[str, Any]) -> str:
    """Everything for the terminal."""
    parts = ["\n".join(preamble(document))]
    parts += [as_text(*table) for table in [*aims_tables(document["rows"]), *tables(document["summary"])]]
    return "\n\n".join(parts)


def markdown(document: dict[str, Any]) -> str:
    """Everything for a document, the table of all structures included."""
    parts = ["# Accuracy by simulated prompts", "\n".join(f"- {line}" for line in preamble(document))]
    rows = document["rows"]
    every = [*aims_tables(rows), *tables(document["summary"]), structure_table(rows)]
    parts += [as_markdown(*table) for table in every]
    return "\n\n".join(parts) + "\n"
