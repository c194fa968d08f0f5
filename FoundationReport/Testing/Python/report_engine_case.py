# SPDX-License-Identifier: Apache-2.0
"""What the tests of engines share: a report to be filled, a card, and the trained model on a Hub on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from FoundationReportLib.engines import catalogue
from FoundationReportLib.engines.hf_chat import HfChat, Settings
from FoundationReportLib.model import Fact, Facts, Kind, Origin, Report, Section, Side, Statement, Subject
from FoundationSegLib.hub import snapshot
from FoundationSegLib.hub.weights import Ask
from hub_case import use_hub
from loopback_hub import Hub, serve

REPO = "someone/tiny-gemma"
CARD: dict[str, Any] = {
    "name": "tiny",
    "title": "Tiny Gemma",
    "family": "hf-chat",
    "revision": "main",
    "licence": "HAI-DEF terms",
    "task": "tests",
    "dimension": "slices",
    "prompts": ["image", "text"],
    "modalities": ["CT"],
    "description": "For tests.",
    "intended_use": "Tests.",
    "limits": ["It knows seven answers."],
    "terms": {"kinds": ["own-terms", "gated"], "source": "made up", "page": "https://example.org/tiny"},
    "weights": {"source": "hub", "snapshot": True, "repo": REPO, "revision": "main", "size_bytes": 300_000},
    "architecture": {"packing": "ct-3-window", "max_slices": 8},
    "citation": "none",
}


def make_report(*extra: Statement, facts: Facts | None = None) -> Report:
    """A draft with one field that nobody filled."""
    known = facts or Facts(
        (Subject("image", "image", Kind.IMAGE), Subject("liver", "Liver", Kind.ORGAN, "liver")),
        (Fact("f1", "image", "contrast", "without"), Fact("f2", "liver", "volume", 1500.0, "mL")),
        "CT",
    )
    open_field = Statement("s1", "findings", "Liver and kidneys: [not assessed]", Origin.TEMPLATE, placeholder=True)
    sections = (Section("history", "History"), Section("findings", "Findings"), Section("impression", "Impression"))
    return Report("r1", "generic", "1", "en", known, sections, (open_field, *extra), next_statement=10)


def lesion(side: Side = Side.RIGHT, organ: str = "liver", long_axis: float = 31.0) -> Facts:
    """Facts with one measured lesion."""
    return Facts(
        (
            Subject("image", "image", Kind.IMAGE),
            Subject(organ, organ, Kind.ORGAN, organ),
            Subject("lesion-1", "Tumour", Kind.LESION, organ, side, "lesion"),
        ),
        (
            Fact("f1", "lesion-1", "presence", "present", of="lesion"),
            Fact("f2", "lesion-1", "long_axis", long_axis, "mm"),
            Fact("f3", organ, "count", 1, "1", of="lesion", exhaustive=True),
        ),
        "CT",
    )


def vlm_texts(report: Report) -> list[str]:
    return [statement.text for statement in report.statements if statement.origin is Origin.VLM]


def engine_of(folder: Path, **settings: Any) -> HfChat:
    """An engine over a folder, with the card of the tests."""
    card = catalogue.ModelCard.from_dict(CARD)
    return HfChat(card, snapshot.local_snapshot(folder), Settings(device="cpu", **settings))


@dataclass
class Served:
    """The Hub, our folder, the Hub's cache, the folder of cards, and the stages that were told."""

    hub: Hub
    home: Path
    cache: Path
    cards: Path
    stages: list[tuple[str, float]]

    def ask(self, agrees: bool = True, **more: Any) -> Ask:
        return Ask(lambda card: agrees, lambda stage, fraction: self.stages.append((stage, fraction)), **more)

    def asked(self) -> set[str]:
        """Names of all files that were asked for."""
        paths = [path.partition("?")[0] for _, path, _ in self.hub.requests if "/resolve/" in path]
        return {path.rpartition("/")[2] for path in paths}

    def card(self, **weights: Any) -> None:
        """Writes the card, with other weights."""
        data = {**CARD, "weights": {**CARD["weights"], **weights}}
        (self.cards / "report" / "tiny.json").write_text(json.dumps(data), encoding="utf-8")


@contextmanager
def served(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A Hub with the trained model and what else lies in such repositories."""
    with serve() as hub:
        for file in model.iterdir():
            hub.files[f"{REPO}/{file.name}"] = file.read_bytes()
        hub.files[f"{REPO}/README.md"] = b"# Tiny"
        hub.files[f"{REPO}/modeling_tiny.py"] = b"raise SystemExit('code of the repository was run')"
        hub.files[f"{REPO}/pytorch_model.bin"] = b"\x80\x04a pickle"
        case = Served(hub, tmp_path / "home", tmp_path / "cache", tmp_path / "cards", [])
        (case.cards / "report").mkdir(parents=True)
        case.card()
        use_hub(hub, case.home, case.cache, tmp_path / "token", monkeypatch)
        monkeypatch.setattr(catalogue, "resource_folder", lambda name: case.cards)
        monkeypatch.setattr(snapshot, "_checked", set())
        yield case
