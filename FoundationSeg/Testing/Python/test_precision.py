# SPDX-License-Identifier: Apache-2.0
"""The number format of encoders: measured on real blocks, remembered, overridden, and honoured by the families."""

from __future__ import annotations

import json
import platform
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the families need the extra `torch`")

from FoundationSegLib import ModelError, families  # noqa: E402
from FoundationSegLib.families.sam.config import VARIANTS  # noqa: E402
from FoundationSegLib.families.sam.encoder import ImageEncoder  # noqa: E402
from FoundationSegLib.families.sam_med3d.config import SamMed3dConfig  # noqa: E402
from FoundationSegLib.families.sam_med3d.predictor import SamMed3dPredictor  # noqa: E402
from FoundationSegLib.precision import (  # noqa: E402
    FORMATS,
    VARIABLE,
    choose,
    computing_in,
    encoded,
    fastest,
    machine,
    measure,
    transformer_block,
)
from FoundationSegLib.predictor import ModelIdentity  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from sam_med3d_case import MODEL_A, card, drawn_network  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture
def remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FOUNDATIONSEG_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path / "home" / "precision.json"


@pytest.mark.parametrize(
    ("float32", "bfloat16", "float16", "choice"),
    [
        (1.0, 0.5, 0.5, "bfloat16"),
        (1.0, 0.5, 0.46, "bfloat16"),  # a little faster is no reason for the smaller range
        (1.0, 0.5, 0.4, "float16"),
        (1.0, 2.0, 0.5, "float16"),  # as on GPUs before 2020
        (1.0, 0.9, 0.95, "float32"),  # not clearly faster
        (1.0, 2.0, 3.0, "float32"),
        (1.0, 1.0, 1.0, "float32"),
        (1.0, None, 0.3, "float16"),
        (1.0, 0.3, None, "bfloat16"),
        (1.0, None, None, "float32"),
    ],
)
def test_the_rule(float32: float, bfloat16: float | None, float16: float | None, choice: str) -> None:
    seconds = {"float32": float32, "bfloat16": bfloat16, "float16": float16}
    assert fastest({name: value for name, value in seconds.items() if value is not None}) == choice


def test_formats_are_measured_in_turns() -> None:
    called: list[str] = []

    def run(name: str) -> None:
        called.append(name)
        if name == "bfloat16":
            raise RuntimeError("not implemented for 'BFloat16'")

    seconds = measure(run, FORMATS, budget_s=0.0)
    assert called == ["float32", "bfloat16", "float16", "float32", "float16"]
    assert list(seconds) == ["float32", "float16"], "what does not work is left out"
    assert all(0 <= value < 1 for value in seconds.values())
    called.clear()
    measure(run, ("float32", "float16"), budget_s=60.0)
    assert called == ["float32", "float16"] * 16, "quick blocks do not use up the budget"
    with pytest.raises(RuntimeError):
        measure(_broken, FORMATS)


def _broken(name: str) -> None:
    raise RuntimeError("nothing works")


def test_a_format_that_is_emulated_is_given_up_after_one_run() -> None:
    called: list[str] = []

    def run(name: str) -> None:
        called.append(name)
        time.sleep(0.3 if name == "float16" else 0)

    assert list(measure(run, FORMATS, budget_s=0.0)) == ["float32", "bfloat16"]
    assert called.count("float16") == 1


def test_a_real_block_on_this_processor() -> None:
    seconds = measure(transformer_block(CPU), FORMATS, budget_s=0.0)
    assert "float32" in seconds and all(0 < value < 60 for value in seconds.values())
    chosen = fastest(seconds)
    assert seconds[chosen] <= seconds["float32"], "never a slower one"


def test_on_the_cpu_it_is_float32_unless_asked_otherwise(remembered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose(CPU) == choose(CPU, "auto") == "float32"
    assert not remembered.exists(), "nothing was measured"
    assert choose(CPU, "bfloat16") == "bfloat16"
    monkeypatch.setenv(VARIABLE, " Float16 ")
    assert choose(CPU) == "float16"
    assert choose(CPU, "float32") == "float32", "what is asked for goes before the environment"
    for word in ("double", "bf16"):
        with pytest.raises(ModelError, match=f"precision '{word}' is not known; choose auto, fastest"):
            choose(CPU, word)
    monkeypatch.setenv(VARIABLE, "quick")
    with pytest.raises(ModelError, match="'quick'"):
        choose(CPU)


def test_a_measurement_is_remembered(remembered: Path) -> None:
    first = choose(CPU, "fastest")
    data = json.loads(remembered.read_text())
    (key,) = data["seconds"]
    assert key == machine(CPU) and fastest(data["seconds"][key]) == first
    assert torch.__version__ in key and platform.node() not in key
    data["seconds"][key] = {"float32": 1.0, "bfloat16": 0.1, "float16": 0.5}
    data["seconds"]["another machine"] = {"float32": 1.0}
    remembered.write_text(json.dumps(data))
    assert choose(CPU, "fastest") == "bfloat16", "what is remembered decides"
    data["seconds"][key]["bfloat16"] = 3.0
    remembered.write_text(json.dumps(data))
    assert choose(CPU, "fastest") == "float16"
    assert "another machine" in json.loads(remembered.read_text())["seconds"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"format": 0, "seconds": {}}',
        '{"format": 1}',
        '{"format": 1, "seconds": {"KEY": {"float16": 1}}}',
    ],
)
def test_a_damaged_memory_is_made_anew(remembered: Path, content: str) -> None:
    remembered.parent.mkdir()
    remembered.write_text(content.replace("KEY", machine(CPU)))
    assert choose(CPU, "fastest") in FORMATS
    assert "float32" in json.loads(remembered.read_text())["seconds"][machine(CPU)]


def test_a_memory_that_cannot_be_written_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("where the folder should be")
    monkeypatch.setenv("FOUNDATIONSEG_HOME", str(tmp_path / "file"))
    assert choose(CPU, "fastest") in FORMATS
    assert "cannot be remembered" in caplog.text


def test_formats_take_effect() -> None:
    layer, x = torch.nn.Linear(4, 4), torch.ones(2, 4)
    for name, wanted in (("float32", torch.float32), ("int8", torch.float32), ("bfloat16", torch.bfloat16)):
        with torch.inference_mode(), computing_in(name, CPU):
            assert layer(x).dtype == wanted
        assert layer(x).dtype == torch.float32, "and end with the block"


def test_what_float16_cannot_hold_is_computed_again() -> None:
    weight, x = torch.full((4, 4), 300.0), torch.full((1, 4), 300.0)
    with torch.inference_mode():
        inside = encoded(lambda: x @ (weight / 300), "float16", CPU)
        beyond = encoded(lambda: x @ weight, "float16", CPU)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, torch.full((1, 4), 1200.0))
    torch.testing.assert_close(beyond, torch.full((1, 4), 360000.0))


def _similar(found: np.ndarray, exact: np.ndarray) -> float:
    assert found.shape == exact.shape and found.dtype == np.float32
    a, b = found.ravel().astype(np.float64), exact.ravel().astype(np.float64)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_sam_med3d_in_bfloat16() -> None:
    """The attention's sums over padding stay good where matrix products have 8 bits: with weights of usual size."""
    network = drawn_network(SamMed3dConfig.from_dict(MODEL_A), 31)
    prepared = np.random.default_rng(0).normal(size=(1, 32, 32, 32)).astype(np.float32)
    made = {}
    for name in ("float32", "bfloat16"):
        identity = ModelIdentity("sam-med3d", "test", "0" * 64, "cpu", name)
        made[name] = SamMed3dPredictor(network, CPU, identity).encode(prepared).tensors["image"]
    assert (made["bfloat16"] != made["float32"]).any()
    assert _similar(made["bfloat16"], made["float32"]) > 0.995


def test_cards_and_the_environment_reach_the_model(
    remembered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "random.safetensors"
    save_file(drawn_network(SamMed3dConfig.from_dict(MODEL_A), 31).state_dict(), path)
    asked = card({**MODEL_A, "precision": "bfloat16"})
    assert families.load(asked, path, "cpu").identity.precision == "bfloat16"
    assert families.expected_tensors(asked) == families.expected_tensors(card(MODEL_A))
    assert families.load(card(MODEL_A), path, "cpu").identity.precision == "float32"
    monkeypatch.setenv(VARIABLE, "float16")
    assert families.load(card(MODEL_A), path, "cpu").identity.precision == "float16"
    assert families.load(asked, path, "cpu").identity.precision == "bfloat16"
    monkeypatch.setenv(VARIABLE, "half")
    with pytest.raises(ModelError, match="'half' is not known"):
        families.load(card(MODEL_A), path, "cpu")


def test_sam_in_bfloat16() -> None:
    config = replace(
        VARIANTS["vit_b"], img_size=128, embed_dim=48, depth=2, num_heads=4, window_size=5, global_attn_indexes=(1,),
        out_chans=32,
    )  # fmt: skip
    torch.manual_seed(0)
    encoder = ImageEncoder(config).eval().requires_grad_(False)
    for name, parameter in encoder.named_parameters():
        if "pos" in name:
            parameter.copy_(torch.randn(parameter.shape) * 0.3)
    image = torch.randn(1, 3, 128, 128)
    with torch.inference_mode():
        exact = encoded(lambda: encoder(image), "float32", CPU)
        rounded = encoded(lambda: encoder(image), "bfloat16", CPU)
    assert not torch.equal(exact, rounded)
    assert _similar(rounded.numpy(), exact.numpy()) > 0.995


def test_own_linear_layers_follow_the_chosen_format() -> None:
    from FoundationSegLib.families.onednn import linear

    layer, x = torch.nn.Linear(8, 8), torch.randn(3, 8)
    with torch.inference_mode(), computing_in("bfloat16", CPU):
        assert linear(layer, x).dtype == torch.bfloat16
    with torch.inference_mode():
        assert linear(layer, x).dtype == torch.float32
