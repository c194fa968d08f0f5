# SPDX-License-Identifier: Apache-2.0
"""The shipped model: its files agree with its card, and ONNX Runtime, OpenVINO and torch with each other."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from FoundationSegLib import ModelError
from FoundationSegLib.catalogue import ModelCard, model_card, model_cards
from FoundationSegLib.compact.predictor import GRID_SIZES, CompactPredictor, graph_names
from FoundationSegLib.predictor import Embedding, GridBox, GridPrompts
from FoundationSegLib.resources import resource_folder

WEIGHTS = resource_folder("Weights")
LIMIT_BYTES = 16_000_000


@pytest.fixture(scope="module")
def predictor() -> CompactPredictor:
    card = model_card("compact")
    return CompactPredictor(WEIGHTS, card.revision, "cpu", card.data["weights"]["sha256"])


def example(n: int) -> tuple[np.ndarray, GridPrompts, np.ndarray]:
    rng = np.random.default_rng(0)
    image = rng.uniform(-1, 1, (2, n, n, n)).astype(np.float32)
    coords = rng.uniform(4, n - 4, (5, 3)).astype(np.float32)
    box = GridBox(np.full(3, n / 2), np.eye(3), np.full(3, n / 4))
    return image, GridPrompts(coords, np.array([1, 0, 1, 1, 0]), (box,)), rng.normal(0, 3, (n, n, n)).astype(np.float32)


def test_files_fit_the_limit_and_the_card() -> None:
    card = model_card("compact")
    files = list(WEIGHTS.glob("compact*"))
    graphs = {name for size in GRID_SIZES for name in graph_names(size)}
    assert {f.name for f in files} == {"compact.safetensors", "compact.calibration.json", *graphs}
    assert sum(f.stat().st_size for f in files) <= LIMIT_BYTES
    assert hashlib.sha256((WEIGHTS / "compact.safetensors").read_bytes()).hexdigest() == card.data["weights"]["sha256"]


def test_every_card_keeps_to_the_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((resource_folder("Models") / "model-card.schema.json").read_text(encoding="utf-8"))
    assert "compact" in [card.name for card in model_cards()]
    for card in model_cards():
        jsonschema.validate(card.data, schema)
    broken = {key: value for key, value in model_card("compact").data.items() if key != "licence"}
    with pytest.raises(jsonschema.ValidationError, match="licence"):
        jsonschema.validate(broken, schema)


@pytest.mark.parametrize("n", GRID_SIZES)
def test_torch_twin_agrees(predictor: CompactPredictor, n: int) -> None:
    torch = pytest.importorskip("torch", reason="the twin needs the extra `torch`")
    from FoundationSegLib.compact.network import load_network

    net = load_network(WEIGHTS / "compact.safetensors")
    image, prompts, previous = example(n)
    embedding = predictor.encode(image)
    decoded = predictor.decode(embedding, prompts, previous)
    from FoundationSegLib.compact.inputs import box_map

    box = prompts.boxes[0]
    with torch.no_grad():
        features = net.encoder(torch.from_numpy(image[None]))
        logits, quality = net.decoder(
            torch.from_numpy(image[None]),
            *features,
            torch.from_numpy(prompts.point_coords[None]),
            torch.from_numpy(prompts.point_labels[None]),
            torch.from_numpy(box_map(box.centre, box.directions, box.half, n // 2)[None]),
            torch.from_numpy(np.clip(previous, -8, 8)[None, None]),
        )
    for name, feature in zip(("f2", "f4", "f8", "f16"), features, strict=True):
        assert np.abs(embedding.tensors[name] - feature.numpy()).max() < 1e-3, name
    assert np.abs(decoded.logits - logits[0, 0].numpy()).max() < 1e-3
    assert decoded.predicted_iou == pytest.approx(float(quality[0]), abs=1e-4)


def test_openvino_agrees_where_it_is_installed(predictor: CompactPredictor) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is optional")
    card = model_card("compact")
    other = CompactPredictor(WEIGHTS, card.revision, "openvino")
    image, prompts, previous = example(predictor.grid_size)
    ours = predictor.decode(predictor.encode(image), prompts, previous)
    theirs = other.decode(other.encode(image), prompts, previous)
    assert np.abs(ours.logits - theirs.logits).max() < 1e-2


def test_same_input_same_bits(predictor: CompactPredictor) -> None:
    image, prompts, previous = example(predictor.grid_size)
    runs = [predictor.decode(predictor.encode(image), prompts, previous) for _ in range(2)]
    assert np.array_equal(runs[0].logits, runs[1].logits) and runs[0].predicted_iou == runs[1].predicted_iou


def test_a_click_acts_where_it_is_made(predictor: CompactPredictor) -> None:
    n = predictor.grid_size
    image = np.full((2, n, n, n), -0.8, np.float32)
    for corner in (n // 4, 3 * n // 4):  # two bright balls, one clicked
        k, j, i = np.meshgrid(*[np.arange(n)] * 3, indexing="ij")
        image[:, (k - corner) ** 2 + (j - n // 2) ** 2 + (i - n // 2) ** 2 < (n / 8) ** 2] = 0.8
    embedding = predictor.encode(image)
    clicked = predictor.decode(
        embedding, GridPrompts(np.array([[n // 4, n // 2, n // 2]], np.float32), np.array([1])), None
    )
    assert clicked.logits[n // 4, n // 2, n // 2] > 0 > clicked.logits[0, 0, 0]
    assert clicked.logits[n // 4, n // 2, n // 2] > clicked.logits[3 * n // 4, n // 2, n // 2]


def test_damaged_and_missing_files_are_answered(tmp_path: Path) -> None:
    shutil.copytree(WEIGHTS, tmp_path / "w")
    card = model_card("compact")
    weights = tmp_path / "w" / "compact.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ModelError, match="checksum"):
        CompactPredictor(tmp_path / "w", "1", "cpu", card.data["weights"]["sha256"])
    (tmp_path / "w" / "compact_encoder_64.onnx").write_bytes(b"not a graph")
    with pytest.raises(ModelError, match=r"compact_encoder_64\.onnx"):
        CompactPredictor(tmp_path / "w", "1", "cpu")
    (tmp_path / "w" / "compact_decoder_64.onnx").unlink()
    with pytest.raises(ModelError, match="lacks"):
        CompactPredictor(tmp_path / "w", "1", "cpu")
    (tmp_path / "card.json").write_text("{}")
    with pytest.raises(ModelError, match="damaged"):
        ModelCard.read(tmp_path / "card.json")


def test_embedding_size_is_counted() -> None:
    assert Embedding({"a": np.zeros((2, 3), np.float32)}).nbytes == 24
