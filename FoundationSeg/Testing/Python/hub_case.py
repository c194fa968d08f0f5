# SPDX-License-Identifier: Apache-2.0
"""What the tests of weights share: a Hub on loopback with the tiny family's checkpoint, and folders of their own."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from FoundationSegLib import catalogue
from FoundationSegLib.catalogue import ModelCard, model_card
from FoundationSegLib.hub.weights import Ask
from loopback_hub import Hub, serve
from tiny_family import CARD, install, make_state, write_cards

TINY = "someone/tiny/folder/tiny.pth"


def checkpoint(seed: int = 1, width: int = 300, **more: Any) -> bytes:
    """A training checkpoint as PyTorch writes it: the tensors under a key, and an optimizer beside them."""
    import torch

    state = {**make_state(width, seed), "mask.computable": torch.zeros(5)}
    buffer = io.BytesIO()
    torch.save({"model_state_dict": state, "epoch": 3, "optimizer": {"lr": 0.1}, **more}, buffer)
    return buffer.getvalue()


@dataclass
class Case:
    """The Hub, our folder, the Hub's cache, the folder of cards, and what the stages said."""

    hub: Hub
    home: Path
    cache: Path
    cards: Path
    stages: list[str]

    @property
    def card(self) -> ModelCard:
        return model_card("tiny")

    def ask(self, agrees: bool = True) -> Ask:
        return Ask(lambda card: agrees, lambda stage, fraction: self.stages.append(stage))

    def parts(self) -> list[Path]:
        """What a download has left unfinished."""
        return sorted(self.cache.rglob("*.incomplete"))

    def temporary(self) -> list[Path]:
        return [path for path in self.home.rglob("*") if path.name.endswith(".tmp")]

    def environment(self) -> dict[str, str]:
        """For processes of their own."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        return {
            **kept,
            "HF_ENDPOINT": self.hub.endpoint,
            "HF_HUB_CACHE": str(self.cache),
            "HF_HOME": str(self.cache / "home"),
            "HF_HUB_DOWNLOAD_TIMEOUT": "1",
            "FOUNDATIONSEG_HOME": str(self.home),
            "PYTHONPATH": os.pathsep.join(str(Path(__file__).parents[up]) for up in (2, 0)),
            "OMP_NUM_THREADS": "1",
        }


def use_hub(hub: Hub, home: Path, cache: Path, token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points huggingface_hub and FoundationSegLib at a Hub on loopback and at folders of a test."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(token))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("FOUNDATIONSEG_HOME", str(home))
    monkeypatch.delenv("HF_TOKEN", raising=False)


def hub_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    """Serves the Hub and points huggingface_hub and FoundationSegLib at it and at folders of the test."""
    pytest.importorskip("huggingface_hub")
    pytest.importorskip("torch")
    with serve() as hub:
        hub.files[TINY] = checkpoint()
        case = Case(hub, tmp_path / "home", tmp_path / "cache", write_cards(tmp_path / "cards"), [])
        use_hub(hub, case.home, case.cache, tmp_path / "token", monkeypatch)
        monkeypatch.setattr(catalogue, "_loaded", {})  # what another test has loaded takes no memory anew
        install(case.cards, monkeypatch.setattr)
        yield case


__all__ = ["CARD", "TINY", "Case", "checkpoint", "hub_case", "make_state", "use_hub", "write_cards"]
