# SPDX-License-Identifier: Apache-2.0
"""Any image-text-to-text model that transformers itself knows: MedGemma, Lingshu, Qwen-VL, LLaVA.

The generic path: `AutoProcessor`, `AutoModelForImageTextToText`, the model's own chat template, pictures and texts in
turn. No remote code, safetensors only, no network once the files are here, no torchvision.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from FoundationSegLib.catalogue import ModelCard
from FoundationSegLib.hub.snapshot import Snapshot
from FoundationSegLib.volume import Volume

from ..errors import EngineError
from ..model import ClinicalContext, Facts, ModelInfo
from . import consistency, loading, prompts, slices
from .base import BoolArray, Narrative, Said, Watch
from .budget import bytes_per_slice, slices_that_fit, tokens_per_slice
from .parse import Parsed, Rejected, parse
from .reading import KINDS, Reader


@dataclass(frozen=True)
class Settings:
    """How a model is run. The same settings, model, device and input give the same text.

    Attributes:
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        slices: shown at most; None: as many as fit, up to what the card says.
        samples: further answers that are drawn to see whether the model says the same again; 0: none.
        temperature: of the samples. The answer that is used is greedy.
        seed: of the samples.
        max_new_tokens: of one answer.
        quantise: "" (none), "int8" or "int4": less memory, other numbers; by bitsandbytes on a GPU.
    """

    device: str = "auto"
    slices: int | None = None
    samples: int = 0
    temperature: float = 0.7
    seed: int = 0
    max_new_tokens: int = 256
    quantise: str = ""

    def __post_init__(self) -> None:
        if self.slices is not None and self.slices < 1:
            raise EngineError("The number of slices is below 1; give at least 1, or leave it out.")
        if not 0 <= self.samples <= 16:
            raise EngineError("The number of samples is not between 0 and 16; choose one of these.")
        if not 0 < self.temperature <= 2:
            raise EngineError("The temperature is not above 0 and up to 2; choose one of these.")
        if self.max_new_tokens < 1:
            raise EngineError("The number of new tokens is below 1; give at least 1.")
        if self.quantise not in ("", "int8", "int4"):
            raise EngineError(f'There is no quantisation "{self.quantise}"; choose int8 or int4, or leave it out.')


class HfChat:
    """An engine over the files of a snapshot; they are loaded at the first question and stay until `close`."""

    def __init__(self, card: ModelCard, snapshot: Snapshot, settings: Settings | None = None) -> None:
        self.card, self.snapshot, self.settings = card, snapshot, settings or Settings()
        self._loaded: loading.Loaded | None = None

    @property
    def name(self) -> str:
        return self.card.name

    def close(self) -> None:
        """Gives the memory back."""
        self._loaded = None
        loading.release()

    def narrate(
        self,
        facts: Facts,
        volume: Volume,
        context: ClinicalContext | None,
        questions: Sequence[prompts.Question],
        masks: Sequence[BoolArray] = (),
        watch: Watch | None = None,
    ) -> Narrative:
        """See `base.Engine`."""
        watch = watch or Watch()
        watch.at("load", 0.0)
        loaded = self._load()
        watch.at("load", 1.0)
        modality = facts.modality or volume.modality or ""
        packing = str(self.card.architecture.get("packing", "grey"))
        shown = slices.show(
            volume, modality, masks, self._budget(loaded), packing, lambda fraction: watch.at("pictures", fraction)
        )
        count = len(shown.pictures)
        head = prompts.instruction(facts, context, count)
        labels = [prompts.slice_label(number) for number in range(1, count + 1)]
        reader = Reader(loaded, shown.pictures, [head, *labels], len(questions), self.settings)
        answers: list[_Answer] = []
        for number, question in enumerate(questions):
            watch.at("write", number / len(questions))
            drawn = reader.answer(question.text, watch)
            others = [parse(text, cut) for text, cut in drawn.samples]
            answers.append(_Answer(question, parse(drawn.text, drawn.cut), others))
        watch.at("write", 1.0)
        text = "\n".join([head, *(f"[{n}]" for n in range(count)), *(question.text for question in questions)])
        return _narrative(answers, self._info(loaded, text, shown))

    def _load(self) -> loading.Loaded:
        if self._loaded is None:
            self._loaded = loading.load(self.card, self.snapshot, self.settings.device, self.settings.quantise)
        return self._loaded

    def _budget(self, loaded: loading.Loaded) -> int:
        most = int(self.card.architecture.get("max_slices", 16))
        if self.settings.slices is not None:
            return min(self.settings.slices, most)
        config = loaded.model.config
        room = loading.context_tokens(config)
        fits = (
            None if room is None else max(1, (room - 2048 - self.settings.max_new_tokens) // tokens_per_slice(config))
        )
        kept = loaded.kind in KINDS  # once as it was read, and a copy for each sequence that is written
        per_slice = bytes_per_slice(config, loaded.item_bytes, kept + max(1, self.settings.samples))
        return slices_that_fit(loading.free_bytes(loaded.device), per_slice, most, fits)

    def _info(self, loaded: loading.Loaded, text: str, shown: slices.Shown) -> ModelInfo:
        settings = self.settings
        decoding: dict[str, Any] = {"greedy": True, "max_new_tokens": settings.max_new_tokens}
        if settings.samples:
            decoding |= {"samples": settings.samples, "temperature": settings.temperature}
        if shown.along != "k":
            decoding["slices_along"] = shown.along
        return ModelInfo(
            id="",  # given when it enters a report
            engine=self.card.family,
            model=self.card.weights.get("repo", self.card.name),
            revision=self.snapshot.commit,
            licence=self.card.licence,
            device=loaded.device_name,
            precision=loaded.precision,
            prompt_sha256=hashlib.sha256(json.dumps([text, shown.indices]).encode()).hexdigest(),
            slices=shown.indices,
            windows=shown.windows,
            decoding=decoding,
            seed=settings.seed if settings.samples else None,
        )


@dataclass(frozen=True)
class _Answer:
    question: prompts.Question
    parsed: Parsed
    samples: list[Parsed]


def _narrative(answers: list[_Answer], info: ModelInfo) -> Narrative:
    said: list[Said] = []
    rejected: list[Rejected] = []
    opposed: list[str] = []
    for answer in answers:
        others = [list(sample.sentences) for sample in answer.samples]
        for sentence in answer.parsed.sentences:
            said.append(Said(answer.question, sentence, consistency.agreement(sentence, others) if others else None))
        rejected += answer.parsed.rejected
        opposed += consistency.disagreements(answer.parsed.sentences, others)
    answered = any(answer.parsed.sentences or answer.parsed.none for answer in answers)
    return Narrative(_once(said), info, tuple(dict.fromkeys(rejected)), tuple(dict.fromkeys(opposed)), answered)


def _once(said: list[Said]) -> tuple[Said, ...]:
    """What says the same in the same words only once, at the first question; the better agreement counts."""
    kept: dict[consistency.Claim, Said] = {}
    for one in said:
        own = consistency.claim(one.text)
        before = kept.setdefault(own, one)
        if one.agreement and before.agreement and one.agreement[0] > before.agreement[0]:
            kept[own] = replace(before, agreement=one.agreement)
    return tuple(kept.values())
