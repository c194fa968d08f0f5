# SPDX-License-Identifier: Apache-2.0
"""Other architectures than MedGemma's through the same engine, without torchvision; their weights are drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from FoundationReportLib.engines import generation, reading
from FoundationReportLib.engines.base import Watch
from FoundationReportLib.engines.hf_chat import HfChat
from FoundationReportLib.errors import EngineError
from report_engine_case import engine_of

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny_vlm  # noqa: E402

TEXTS = ["What is it?", "SLICE 1", "SLICE 2", "SLICE 3", "Which findings?"]


def pictures(first: int = 0) -> list[np.ndarray]:
    return [np.full((56, 56, 3), value, np.uint8) for value in (first, 200, 90)]


def logits(engine: HfChat, first: int) -> torch.Tensor:
    loaded = engine._load()
    with torch.inference_mode():
        return loaded.model(**generation.prepared(loaded, pictures(first), TEXTS)).logits[0, -1]


def answer(engine: HfChat, texts: list[str]) -> generation.Drawn:
    """Everything is read anew."""
    loaded = engine._load()
    inputs = generation.moved(loaded, generation.prepared(loaded, pictures(), texts))
    return generation.write(loaded, inputs, engine.settings, Watch())


def test_qwen_takes_pictures_without_its_video_processor(tmp_path: Path) -> None:
    engine = engine_of(tiny_vlm.qwen(tmp_path), max_new_tokens=12)
    loaded = engine._load()
    assert loaded.processor is None or pytest.importorskip("torchvision")
    inputs = generation.prepared(loaded, pictures(), TEXTS)
    pad = loaded.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    merged = inputs["image_grid_thw"].prod(dim=1).sum() // 4
    assert int((inputs["input_ids"] == pad).sum()) == int(merged) == int(inputs["mm_token_type_ids"].sum()) == 12
    text = loaded.tokenizer.decode(inputs["input_ids"][0])
    assert (
        text.index("What is it?") < text.index("<|image_pad|>") < text.index("SLICE 1") < text.index("Which findings?")
    )
    assert not torch.equal(logits(engine, 0), logits(engine, 255)), "the text does not depend on the pictures"
    drawn = answer(engine, TEXTS)
    assert drawn.cut and drawn == answer(engine, TEXTS)


def test_qwen_s_template_has_to_have_a_place_for_every_picture(tmp_path: Path) -> None:
    engine = engine_of(tiny_vlm.qwen(tmp_path))
    loaded = engine._load()
    if loaded.processor is not None:
        pytest.skip("torchvision is here: its own processor does this")
    loaded.tokenizer.chat_template = "{{ messages[0]['content'][0]['text'] }}"
    with pytest.raises(EngineError, match="0 places for 3 pictures"):
        generation.prepared(loaded, pictures(), TEXTS)


def test_llava_takes_several_pictures(tmp_path: Path) -> None:
    engine = engine_of(tiny_vlm.llava(tmp_path), max_new_tokens=12)
    assert generation.prepared(engine._load(), pictures(), TEXTS)["pixel_values"].shape == (3, 3, 28, 28)
    assert not torch.equal(logits(engine, 0), logits(engine, 255))
    assert answer(engine, TEXTS).cut


@pytest.mark.parametrize("make", [tiny_vlm.llava, tiny_vlm.qwen, None], ids=["llava", "qwen", "gemma3"])
def test_reading_the_pictures_once_gives_the_same_answers(make: Any, tmp_path: Path, tiny_gemma: Path) -> None:
    engine = engine_of(make(tmp_path) if make else tiny_gemma, max_new_tokens=12, samples=2)
    loaded, (head, *labels, _) = engine._load(), TEXTS
    reader = reading.Reader(loaded, pictures(), [head, *labels], 3, engine.settings)
    for question in ("Liver: which findings?", "Bones?", "Liver: which findings?"):
        assert reader.answer(question, Watch()) == answer(engine, [head, *labels, question])
    assert (reader._read is not None) == (make is not tiny_vlm.qwen)


def test_pictures_go_through_the_encoder_once(tiny_gemma: Path) -> None:
    engine = engine_of(tiny_gemma, max_new_tokens=2)
    loaded = engine._load()
    seen: list[int] = []
    tower = loaded.model.model.vision_tower
    handle = tower.register_forward_hook(lambda *_: seen.append(1))
    try:
        reader = reading.Reader(loaded, pictures(), TEXTS[:-1], 3, engine.settings)
        for question in ("One?", "Two?", "Three?"):
            reader.answer(question, Watch())
    finally:
        handle.remove()
    assert len(seen) == 1


def test_the_benchmark_of_memory_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "Testing" / "Benchmarks"))
    import vlm_memory

    loaded, _ = vlm_memory.make(vlm_memory.SIZES["tiny"], "cpu")
    weights = sum(parameter.numel() for parameter in loaded.model.parameters())
    row = vlm_memory.measure(loaded, 3, 5, 1, weights)
    assert row["slices"] == 3 and row["tokens"] > 3 * 16 and row["first_token_s"] > 0
    assert capsys.readouterr().out.split()[0] == "3"
