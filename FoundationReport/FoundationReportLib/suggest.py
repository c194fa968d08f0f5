# SPDX-License-Identifier: Apache-2.0
"""Findings that image-text models suggest: scores that a person looks at, never statements by themselves.

A picture and two sentences, one with and one without the finding, are compared by a CLIP- or SigLIP-type model
(Radford et al., arXiv 2103.00020; Zhai et al., arXiv 2303.15343). The score of a slice is the share of the sentence
with the finding. It is a probability only after calibration (Platt scaling) on labelled cases, and says which.
Models without text (DINO) give features: the score is then the likeness to labelled examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from FoundationSegLib.catalogue import ModelCard
from FoundationSegLib.hub.snapshot import Snapshot
from FoundationSegLib.volume import Volume

from .calibration import Calibration, sigmoid
from .engines import loading, slices
from .engines.base import BoolArray, Watch
from .errors import EngineError, StateError
from .model import ModelInfo, Origin, Report, Section, State, Statement, sha256
from .signatures import OPEN

FloatArray = npt.NDArray[np.float64]

_BATCH = 8
_DEFAULT_SLICES = 32


@dataclass(frozen=True)
class Finding:
    """What is asked for.

    Attributes:
        name: such as "pleural effusion".
        statement: what a report says if a person accepts it.
        present, absent: sentences in the style of captions; several are averaged.
    """

    name: str
    statement: str
    present: tuple[str, ...]
    absent: tuple[str, ...]


@dataclass(frozen=True)
class Suggestion:
    """A finding that a model holds possible.

    Attributes:
        score: in [0, 1]; the raw score, or the calibrated probability.
        calibrated: whether `score` is a probability, and on what it was fitted ("" if not).
        slices: volume indices of the slices that scored highest, best first; along k unless `info` says otherwise.
        info: which model, from which slices.
    """

    finding: str
    statement: str
    score: float
    calibrated: str
    slices: tuple[int, ...]
    info: ModelInfo


class ZeroShot:
    """An image-text model over the files of a snapshot; loaded when it is first used."""

    def __init__(self, card: ModelCard, snapshot: Snapshot, device: str = "auto") -> None:
        self.card, self.snapshot = card, snapshot
        self._asked = device
        self._model: Any = None

    def suggest(
        self,
        volume: Volume,
        findings: Sequence[Finding],
        calibrations: Mapping[str, Calibration] | None = None,
        masks: Sequence[BoolArray] = (),
        watch: Watch | None = None,
        most_slices: int | None = None,
    ) -> list[Suggestion]:
        """One suggestion for each finding, highest score first; nothing is left out for being unlikely.

        The score of a volume is the mean of its best tenth of slices (at least one): findings are small.

        Raises EngineError, Cancelled.
        """
        watch = watch or Watch()
        shown = _shown(self.card, volume, masks, most_slices, watch)
        self._load()
        pictures = self._pictures(shown.pictures, watch)
        info = self._info(shown, findings)
        found = []
        for finding in findings:
            watch.check()
            per_slice = self._scores(pictures, finding)
            order = np.argsort(-per_slice, kind="stable")
            best = order[: max(1, len(order) // 10)]
            raw = float(per_slice[best].mean())
            fitted = (calibrations or {}).get(finding.name)
            fits = fitted is not None and fitted.model == info.model and fitted.revision == info.revision
            score, source = (fitted(raw), fitted.source) if fitted is not None and fits else (raw, "")
            places = tuple(shown.indices[n] for n in best)
            found.append(Suggestion(finding.name, finding.statement, score, source, places, info))
        return sorted(found, key=lambda one: (-one.score, one.finding))

    def _load(self) -> None:
        if self._model is not None:
            return
        model, self._prepare, self._tokens, self.device = _loaded(self.card, self.snapshot, self._asked, texts=True)
        if not (hasattr(model, "get_image_features") and hasattr(model, "get_text_features")):
            raise EngineError(f"The model {self.card.name} does not compare pictures with text; choose another one.")
        self._model = model

    def _pictures(self, pictures: Sequence[slices.Picture], watch: Watch) -> FloatArray:
        """Unit vectors (n, features)."""
        return _embedded(pictures, self._prepare, self._model.get_image_features, self.device, watch)

    def _texts(self, texts: Sequence[str]) -> FloatArray:
        """One unit vector: the mean of those of the texts."""
        import torch

        length = int(getattr(self._model.config.text_config, "max_position_embeddings", 64))
        # SigLIP was trained with all texts padded to the same length; CLIP does not mind.
        tokens = self._tokens(
            list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        ).to(self.device)
        names = ("input_ids",) if "siglip" in self._model.config.model_type else ("input_ids", "attention_mask")
        with torch.inference_mode():
            vectors = _vectors(self._model.get_text_features(**{name: tokens[name] for name in names}))
        mean = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).mean(axis=0)
        return np.asarray(mean / np.linalg.norm(mean))

    def _scores(self, pictures: FloatArray, finding: Finding) -> FloatArray:
        """Of each slice: the share of the sentence with the finding, by a softmax over the two."""
        with_it, without = self._texts(finding.present), self._texts(finding.absent)
        scale = float(self._model.logit_scale.detach().exp())
        return np.asarray(sigmoid(scale * (pictures @ with_it - pictures @ without)))

    def _info(self, shown: slices.Shown, findings: Sequence[Finding]) -> ModelInfo:
        return ModelInfo(
            id="",
            engine=self.card.family,
            model=self.card.weights.get("repo", self.card.name),
            revision=self.snapshot.commit,
            licence=self.card.licence,
            device=self.device,
            precision="float32",
            prompt_sha256=sha256(tuple(findings)),
            slices=shown.indices,
            windows=shown.windows,
            decoding={} if shown.along == "k" else {"slices_along": shown.along},
        )


class Features:
    """A picture model without text; gives vectors that can be compared."""

    def __init__(self, card: ModelCard, snapshot: Snapshot, device: str = "auto") -> None:
        self.card, self.snapshot, self._asked = card, snapshot, device
        self._model: Any = None

    def features(self, volume: Volume, masks: Sequence[BoolArray] = (), watch: Watch | None = None) -> FloatArray:
        """Unit vectors (slices, features) of the slices that are chosen. Raises EngineError, Cancelled."""
        watch = watch or Watch()
        shown = _shown(self.card, volume, masks, None, watch)
        if self._model is None:
            self._model, self._prepare, _, self.device = _loaded(self.card, self.snapshot, self._asked)

        def pooled(pixel_values: Any) -> Any:
            return self._model(pixel_values=pixel_values)

        return _embedded(shown.pictures, self._prepare, pooled, self.device, watch)


def likeness(features: FloatArray, positive: FloatArray, negative: FloatArray) -> float:
    """In [0, 1]: how much nearer the best slice is to the positive examples' mean than to the negative ones'.

    All are unit vectors (n, features). Raises EngineError without examples of both kinds.
    """
    if len(positive) == 0 or len(negative) == 0:
        raise EngineError("Likeness needs labelled examples with and without the finding; give both.")
    near, far = (group.mean(axis=0) / np.linalg.norm(group.mean(axis=0)) for group in (positive, negative))
    return float((1 + (features @ near - features @ far) / 2).max() / 2)


def accept(report: Report, suggestion: Suggestion, section: str, by: str) -> Report:
    """The report with a suggestion as a statement, because a named person took it over.

    The statement stays marked as a model's, with the model and its slices, and is checked like every other. Raises
    StateError: no name, unknown section, or a report that is signed.
    """
    if not by.strip():
        raise StateError("No name is given; say who accepts the suggestion.")
    if report.state not in OPEN:
        raise StateError(f"The report is {report.state} and takes no suggestion; write an addendum.")
    if section not in [one.key for one in report.sections]:
        raise StateError(f'The report has no section "{section}"; it has {_keys(report.sections)}.')
    name = f"m{len(report.models) + 1}"
    new = Statement(
        f"s{report.next_statement}", section, suggestion.statement, Origin.VLM,
        model=name, slices=suggestion.slices, accepted_by=by.strip(),
    )  # fmt: skip
    places = [n for n, statement in enumerate(report.statements) if statement.section == section]
    at = places[-1] + 1 if places else len(report.statements)
    return replace(
        report,
        state=State.EDITED,
        statements=(*report.statements[:at], new, *report.statements[at:]),
        models=(*report.models, replace(suggestion.info, id=name)),
        next_statement=report.next_statement + 1,
    )


def _loaded(card: ModelCard, snapshot: Snapshot, asked: str, texts: bool = False) -> tuple[Any, Any, Any, str]:
    """Model, image processor, tokenizer (None without `texts`), device. Raises EngineError."""
    loading.require_packages(f"The model {card.name}")
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    folder, device = snapshot.folder, loading.device_for(asked)
    try:
        with loading.quiet():
            model = AutoModel.from_pretrained(folder, use_safetensors=True, **options).to(device).eval()
            prepare = AutoImageProcessor.from_pretrained(folder, backend="pil", **options)
            tokens = AutoTokenizer.from_pretrained(folder, **options) if texts else None
    except Exception as error:
        raise loading.not_loaded(card.name, device, error) from error
    return model, prepare, tokens, device


def _keys(sections: Sequence[Section]) -> str:
    return ", ".join(section.key for section in sections) or "none"


def _shown(card: ModelCard, volume: Volume, masks: Sequence[BoolArray], most: int | None, watch: Watch) -> slices.Shown:
    budget = min(most or _DEFAULT_SLICES, int(card.architecture.get("max_slices", _DEFAULT_SLICES)))
    packing = str(card.architecture.get("packing", "grey"))
    return slices.show(
        volume, volume.modality or "", masks, max(1, budget), packing, lambda fraction: watch.at("pictures", fraction)
    )


def _embedded(pictures: Sequence[slices.Picture], prepare: Any, forward: Any, device: str, watch: Watch) -> FloatArray:
    import torch
    from PIL import Image

    rows = []
    for start in range(0, len(pictures), _BATCH):
        watch.at("compare", start / len(pictures))
        images = [Image.fromarray(picture) for picture in pictures[start : start + _BATCH]]
        values = prepare(images=images, return_tensors="pt")["pixel_values"].to(device)
        with torch.inference_mode():
            rows.append(_vectors(forward(pixel_values=values)))
    vectors = np.concatenate(rows)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def _vectors(output: Any) -> FloatArray:
    """(n, features), whether a model gives them bare or as one of its outputs."""
    found = output if hasattr(output, "shape") else getattr(output, "pooler_output", None)
    if found is None:
        found = output.last_hidden_state[:, 0]
    return np.asarray(found.detach().float().cpu().numpy(), dtype=np.float64)
