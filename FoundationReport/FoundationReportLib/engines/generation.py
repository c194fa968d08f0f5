# SPDX-License-Identifier: Apache-2.0
"""One question to a loaded model: input, tokens as they come, an end on request or when the text goes round."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import EngineError
from . import qwen
from .base import Watch
from .loading import Loaded, quiet, too_large
from .reject import loops
from .slices import Picture

if TYPE_CHECKING:
    from .hf_chat import Settings

_LOOK_EVERY = 16  # tokens between two looks for a loop


@dataclass(frozen=True)
class Drawn:
    """The greedy answer and further samples; `cut`: it ended at the limit of tokens, or in a loop."""

    text: str
    cut: bool
    samples: tuple[tuple[str, bool], ...] = ()


def write(loaded: Loaded, inputs: dict[str, Any], settings: Settings, watch: Watch, read: Any = None) -> Drawn:
    """The answer to an input. `read`: a cache with what the model has read of it already; it is not changed.

    Raises EngineError (memory), Cancelled.
    """
    import torch

    watch.check()
    length = int(inputs["input_ids"].shape[1])
    try:
        with quiet(), torch.inference_mode():
            streamer = _streamer(loaded.tokenizer, watch.on_token)
            greedy = _generate(loaded, inputs, watch, settings, streamer, **_from(read))
            text, cut = _decoded(loaded, greedy[0, length:])
            samples: list[tuple[str, bool]] = []
            if settings.samples:
                more = {"temperature": settings.temperature, "num_return_sequences": settings.samples}
                with _seeded(loaded.device, settings.seed):
                    options = {"do_sample": True, **more, **_from(read, settings.samples)}
                    drawn = _generate(loaded, inputs, watch, settings, None, **options)
                samples = [_decoded(loaded, row[length:]) for row in drawn]
    except torch.OutOfMemoryError as error:
        raise too_large("that was chosen", loaded.device) from error
    return Drawn(text, cut, tuple(samples))


def _from(read: Any, times: int = 1) -> dict[str, Any]:
    """A copy of a cache, for so many sequences; writing goes on in it."""
    if read is None:
        return {}
    copied = copy.deepcopy(read)
    if times > 1:
        copied.batch_repeat_interleave(times)
    return {"past_key_values": copied}


def prepared(loaded: Loaded, pictures: Sequence[Picture], texts: Sequence[str]) -> dict[str, Any]:
    """The model's input as tensors on the CPU: `texts[0]`, each picture and its label, the question `texts[-1]`.

    Raises EngineError if it cannot be made.
    """
    from PIL import Image

    head, *labels, question = texts
    images = [Image.fromarray(picture) for picture in pictures]
    content: list[dict[str, Any]] = [{"type": "text", "text": head}]
    for image, label in zip(images, labels, strict=True):
        content += [{"type": "image", "image": image}, {"type": "text", "text": label}]
    content.append({"type": "text", "text": question})
    messages = [{"role": "user", "content": content}]
    try:
        if loaded.processor is None:
            return qwen.inputs(loaded.model.config, loaded.tokenizer, loaded.image_processor, messages, images)
        return dict(
            loaded.processor.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
            )
        )
    except EngineError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise EngineError(
            f"The model's own chat template or processor does not take pictures and text in turn "
            f"({type(error).__name__}); choose another model."
        ) from error


def moved(loaded: Loaded, inputs: dict[str, Any]) -> dict[str, Any]:
    """On the model's device; pictures in its precision."""
    dtype, device = loaded.model.dtype, loaded.device
    return {
        name: value.to(device, dtype=dtype) if value.is_floating_point() else value.to(device)
        for name, value in inputs.items()
    }


def _generate(
    loaded: Loaded, inputs: dict[str, Any], watch: Watch, settings: Settings, streamer: Any, **more: Any
) -> Any:
    options = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None, **more}
    length = int(inputs["input_ids"].shape[1])
    return loaded.model.generate(
        **inputs,
        max_new_tokens=settings.max_new_tokens,
        stopping_criteria=[_stop(loaded.tokenizer, length, watch)],
        streamer=streamer,
        **options,
    )


def _stop(tokenizer: Any, length: int, watch: Watch) -> Callable[..., Any]:
    """Asked after every token; raises Cancelled, and ends sequences that go round in circles."""
    import torch

    def stop(ids: Any, scores: Any, **_: Any) -> Any:
        watch.check()
        done = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
        new = ids.shape[1] - length
        if new and new % _LOOK_EVERY == 0:
            for row, tokens in enumerate(ids[:, length:]):
                done[row] = loops(tokenizer.decode(tokens, skip_special_tokens=True))
        return done

    return stop


def _streamer(tokenizer: Any, on_token: Callable[[str], None] | None) -> Any:
    """Hands on what is new in the decoded text; a token can be half a letter."""
    if on_token is None:
        return None
    say = on_token
    from transformers.generation.streamers import BaseStreamer

    class Streamer(BaseStreamer):
        def __init__(self) -> None:
            self.ids: list[int] = []
            self.shown = ""
            self.prompt = True

        def put(self, value: Any) -> None:
            if self.prompt:  # the first call brings what was asked
                self.prompt = False
                return
            self.ids += value.flatten().tolist()
            text = tokenizer.decode(self.ids, skip_special_tokens=True)
            if text.startswith(self.shown) and not text.endswith("�"):
                piece, self.shown = text[len(self.shown) :], text
                if piece:
                    say(piece)

        def end(self) -> None:
            """Nothing is held back but half a letter."""

    return Streamer()


def _decoded(loaded: Loaded, tokens: Any) -> tuple[str, bool]:
    """The answer's text, and whether it was cut."""
    ends = loaded.model.generation_config.eos_token_id
    ended = {ends} if isinstance(ends, int) else set(ends or ())
    ids = tokens.tolist()
    text = loaded.tokenizer.decode(ids, skip_special_tokens=True)
    # Thinking is marked by tokens that some tokenizers count as special: they have to stay for the parser.
    marked = loaded.tokenizer.decode(ids, skip_special_tokens=False)
    if "<unused94>" in marked and "<unused94>" not in text:
        text = marked
    return text, not ended & set(ids)


def _seeded(device: str, seed: int) -> Any:
    """Random numbers from a seed for the length of a block; other code's are as they were afterwards."""
    import torch

    if device == "mps":
        torch.manual_seed(seed)
        return nullcontext()
    scope = torch.random.fork_rng(devices=[torch.device(device)] if device.startswith("cuda") else [])

    class Seeded:
        def __enter__(self) -> None:
            scope.__enter__()
            torch.manual_seed(seed)

        def __exit__(self, *error: Any) -> None:
            scope.__exit__(*error)

    return Seeded()
