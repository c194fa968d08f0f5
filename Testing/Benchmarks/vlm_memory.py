#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Memory and time of a MedGemma-shaped model with drawn weights, by the number of slices, through the engine's code.

    python Testing/Benchmarks/vlm_memory.py                       # 16, 32 and 85 slices on a GPU, bfloat16
    python Testing/Benchmarks/vlm_memory.py --size tiny --device cpu --slices 2 4

Nothing is downloaded: configuration and tokenizer are made here, of Gemma 3 4B's sizes (34 layers, 4 key-value heads
of 256, SigLIP 896), so that the numbers of memory and time are those of the real weights; what it writes is noise. The
volume is a CT of 512 x 512 x 300 voxels of noise. Columns: seconds for pictures and processor, seconds to the first
token (prefill), seconds to the first token of a second question about the same pictures, milliseconds for each
further token, the most memory that the device held, and what `engines.budget` estimated for the slices beside the
weights.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "FoundationSeg"), str(ROOT / "FoundationReport")]
sys.path.append(str(ROOT / "FoundationReport" / "Testing" / "Python"))

SIZES: dict[str, dict[str, Any]] = {
    "4b": {
        "text": {
            "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "num_attention_heads": 8,
            "num_key_value_heads": 4, "head_dim": 256, "sliding_window": 1024, "vocab_size": 262208,
        },
        "vision": {
            "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
            "image_size": 896, "patch_size": 14,
        },
        "tokens": 256,
    },
    "tiny": {
        "text": {
            "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 6, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 16, "sliding_window": 64, "vocab_size": 2048,
        },
        "vision": {
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 56, "patch_size": 14,
        },
        "tokens": 16,
    },
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="4b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--slices", type=int, nargs="+", default=[16, 32, 85])
    parser.add_argument("--tokens", type=int, default=32, help="that are written")
    parser.add_argument("--repeats", type=int, default=2, help="the last counts: the first warms up")
    parser.add_argument("--out", type=Path, help="JSON file")
    parsed = parser.parse_args()
    loaded, seconds = make(SIZES[parsed.size], parsed.device)
    weights = sum(p.numel() * p.element_size() for p in loaded.model.parameters())
    print(f"{loaded.device_name}, {loaded.precision}, weights {weights / 1e9:.2f} GB, made in {seconds:.1f} s")
    print(HEADER)
    rows = [measure(loaded, count, parsed.tokens, parsed.repeats, weights) for count in parsed.slices]
    if parsed.out is not None:
        data = {"device": loaded.device_name, "precision": loaded.precision, "weights_bytes": weights, "rows": rows}
        parsed.out.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return 0


def make(size: dict[str, Any], device: str) -> tuple[Any, float]:
    """The model with drawn weights, on the device from the beginning."""
    import tiny_vlm
    import torch
    from FoundationReportLib.engines.loading import Loaded
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3Processor
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    began = time.perf_counter()
    tokenizer = tiny_vlm.gemma_processor().tokenizer
    side = size["vision"]["image_size"]
    pictures = Gemma3ImageProcessorPil(
        size={"height": side, "width": side}, image_mean=[0.5] * 3, image_std=[0.5] * 3, do_pan_and_scan=False
    )
    tokenizer.model_max_length = 131072
    processor = Gemma3Processor(pictures, tokenizer, chat_template=tiny_vlm.CHAT, image_seq_length=size["tokens"])
    ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    layers = size["text"]["num_hidden_layers"]
    types = ["full_attention" if n % 6 == 5 else "sliding_attention" for n in range(layers)]
    config = Gemma3Config(
        text_config={**size["text"], "layer_types": types, "max_position_embeddings": 131072, **ids},
        vision_config={**size["vision"], "vision_use_head": False},
        mm_tokens_per_image=size["tokens"],
        boi_token_index=tokenizer.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<end_of_image>"),
        image_token_index=tokenizer.convert_tokens_to_ids("<image_soft_token>"),
        **ids,
    )
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = Gemma3ForConditionalGeneration(config).eval()
    finally:
        torch.set_default_dtype(default)
    model.generation_config.eos_token_id = None  # noise would end anywhere
    name = f"{device} ({torch.cuda.get_device_name(device)})" if device.startswith("cuda") else device
    precision = str(dtype).removeprefix("torch.")
    loaded = Loaded(model, processor, tokenizer, pictures, "gemma3", device, name, precision, dtype.itemsize)
    return loaded, time.perf_counter() - began


HEADER = "slices  tokens  prepare s  first token s  next question s  ms/token  peak GB  beside weights GB  estimated GB"
QUESTION = "Which findings do the slices show?"


class Clock:
    """Is asked before the model reads and after every token whether to stop; notes when."""

    def __init__(self) -> None:
        self.times: list[float] = []

    @property
    def cancelled(self) -> bool:
        self.times.append(time.perf_counter())
        return False


def measure(loaded: Any, count: int, tokens: int, repeats: int, weights: int) -> dict[str, float]:
    """One row, printed too."""
    import torch
    from FoundationReportLib.engines import budget, generation, prompts, reading, slices
    from FoundationReportLib.engines.base import Watch
    from FoundationReportLib.engines.hf_chat import Settings
    from FoundationSegLib import Volume

    noise = np.random.default_rng(0).integers(-200, 200, (300, 512, 512), dtype=np.int16)
    stack = slices.axial(Volume(noise, np.diag([-0.75, -0.75, -1.25, 1.0]), "CT"))
    texts = ["A CT.", *(prompts.slice_label(n + 1) for n in range(count))]
    cuda = loaded.device.startswith("cuda")
    for _ in range(repeats):
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        chosen = slices.choose(stack, [], count, "CT")
        pictures = [slices.picture(stack, position, slices.CT_WINDOWS) for position in chosen]
        length = int(generation.prepared(loaded, pictures, [*texts, QUESTION])["input_ids"].shape[1])
        prepared = time.perf_counter() - began
        reader = reading.Reader(loaded, pictures, texts, 2, Settings(device=loaded.device, max_new_tokens=tokens))
        clock = Clock()
        reader.answer(QUESTION, Watch(cancel=clock))  # type: ignore[arg-type]
        second, began = Clock(), time.perf_counter()
        reader.answer("Is the liver normal?", Watch(cancel=second))  # type: ignore[arg-type]
    # Asked: after the input was prepared, before it writes, after every token.
    first, following = clock.times[2] - clock.times[0], second.times[1] - began
    each = statistics.median(b - a for a, b in pairwise(clock.times[2:])) if len(clock.times) > 3 else float("nan")
    peak = torch.cuda.max_memory_allocated() if cuda else float("nan")
    estimate = count * budget.bytes_per_slice(loaded.model.config, loaded.item_bytes, 2)
    print(
        f"{count:6d}  {length:6d}  {prepared:9.2f}  {first:13.2f}  {following:15.2f}  {1e3 * each:8.1f}  "
        f"{peak / 1e9:7.2f}  {(peak - weights) / 1e9:17.2f}  {estimate / 1e9:12.2f}"
    )
    return {
        "slices": count, "tokens": length, "prepare_s": prepared, "first_token_s": first,
        "next_question_s": following, "token_s": each,
        "peak_bytes": peak, "estimated_bytes": estimate,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
