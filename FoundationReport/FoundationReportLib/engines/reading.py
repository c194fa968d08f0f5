# SPDX-License-Identifier: Apache-2.0
"""Pictures that a model reads once, and is asked about as often as there are questions.

What comes before the question (instruction, pictures, labels) is the same for all of them and nearly all of the work:
its keys and values are kept, and each question goes on from a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .base import Watch
from .generation import Drawn, moved, prepared, write
from .loading import Loaded, too_large
from .slices import Picture

if TYPE_CHECKING:
    from .hf_chat import Settings

# Kinds for which going on from kept keys and values was found to give the same text. Qwen's positions of pictures are
# counted anew with every input, so it reads everything each time.
KINDS = frozenset({"gemma3", "llava"})


class Reader:
    """`texts`: the instruction, then a label for each picture. `questions`: how many will be asked."""

    def __init__(
        self, loaded: Loaded, pictures: Sequence[Picture], texts: Sequence[str], questions: int, settings: Settings
    ) -> None:
        self._loaded, self._pictures, self._texts, self._settings = loaded, pictures, list(texts), settings
        self._keeps = questions > 1 and loaded.kind in KINDS
        self._read: tuple[Any, Any] | None = None  # token ids, and their keys and values

    def answer(self, question: str, watch: Watch) -> Drawn:
        """Raises EngineError, Cancelled."""
        if self._read is not None:
            return self._go_on(question, watch)
        inputs = moved(self._loaded, prepared(self._loaded, self._pictures, [*self._texts, question]))
        watch.check()
        if self._keeps:
            self._read = self._keep(inputs, question)
            if self._read is not None:
                return self._go_on(question, watch)
        return write(self._loaded, inputs, self._settings, watch)

    def _go_on(self, question: str, watch: Watch) -> Drawn:
        import torch

        assert self._read is not None
        ids, cache = self._read
        whole = torch.cat([ids, self._rest(question).to(ids.device)], dim=1)
        inputs = {"input_ids": whole, "attention_mask": torch.ones_like(whole)}
        return write(self._loaded, inputs, self._settings, watch, cache)

    def _keep(self, inputs: dict[str, Any], question: str) -> tuple[Any, Any] | None:
        """What was read up to the last picture; None where the question's tokens cannot be told from the rest."""
        import torch
        from transformers import DynamicCache

        model, ids = self._loaded.model, inputs["input_ids"]
        end = self._end(ids)
        if not end or not torch.equal(ids[:, end:].cpu(), self._rest(question)):
            return None
        first = {name: value[:, :end] if value.shape == ids.shape else value for name, value in inputs.items()}
        try:
            with torch.inference_mode():
                cache = DynamicCache(config=model.config)
                read = model(**first, past_key_values=cache, use_cache=True, logits_to_keep=1)
        except torch.OutOfMemoryError as error:
            raise too_large("that was chosen", self._loaded.device, len(self._pictures)) from error
        return ids[:, :end], read.past_key_values

    def _rest(self, question: str) -> Any:
        """Token ids (1, n) of what follows the last picture, found with that picture alone."""
        texts = [self._texts[0], self._texts[-1], question]
        ids = prepared(self._loaded, self._pictures[-1:], texts)["input_ids"]
        return ids[:, self._end(ids) :]

    def _end(self, ids: Any) -> int:
        """Where the last picture's last token ends; 0 if there is none."""
        config = self._loaded.model.config
        token = getattr(config, "image_token_id", None)
        places = (ids[0] == (token if token is not None else config.image_token_index)).nonzero()
        return int(places[-1]) + 1 if len(places) else 0
