# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of users: read without running anything from them, compared with the network, kept as safetensors."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from FoundationSegLib import ModelError, families
from FoundationSegLib.catalogue import load_model, model_card, model_cards
from FoundationSegLib.hub import store
from FoundationSegLib.hub.checkpoint import identify
from FoundationSegLib.hub.weights import ensure_weights
from hub_case import checkpoint
from tiny_family import CARD, install, make_state, write_cards

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")

ROOT = Path(__file__).resolve().parents[3]
OTHER = {**CARD, "name": "other", "title": "Other", "architecture": {"width": 200}}
FIXTURES = ROOT.parent / "shared" / "fixtures"
MANIFESTS = {
    "sam-med3d-turbo": "sam_med3d/manifest_vit_b_ori_128.json",
    "sam-med3d-cvpr25": "sam_med3d/manifest_vit_b_ori_128_cvpr25_bbox.json",
    "sam-vit-b": "sam_vit_b/manifest_vit_b.json",
    "sam-vit-l": "sam_vit_b/manifest_vit_l.json",
    "sam-vit-h": "sam_vit_b/manifest_vit_h.json",
    "medsam": "sam_vit_b/manifest_vit_b.json",
    "medsam2": "medsam2/manifest_sam2.1_hiera_t512.json",
    "universeg": "universeg/manifest_v1_nf64.json",
    "vista3d": "vista3d/manifest_vista3d132_monai16.json",
}


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("FOUNDATIONSEG_HOME", str(tmp_path / "home"))
    install(write_cards(tmp_path / "cards", CARD, OTHER), monkeypatch.setattr)
    yield


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def read(path: Path, name: str = "tiny") -> dict[str, Any]:
    return safetensors_torch.load_file(ensure_weights(model_card(name), path).path)


def same(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[k], v) for k, v in expected.items())


# --- What is understood ----------------------------------------------------------------------------------------------


def wrapped(state: dict[str, Any]) -> Any:
    return {"model_state_dict": state, "epoch": 7, "best_loss": np.float64(0.25), "seen": np.int64(3)}


FORMS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "under the card's key, with numbers of NumPy beside it": wrapped,
    "bare": lambda state: state,
    "under another key": lambda state: {"state_dict": state, "optimizer": {"lr": 1.0, "moments": {"a": torch.ones(2)}}},
    "data parallel": lambda state: {"model_state_dict": {f"module.{k}": v for k, v in state.items()}},
    "another writer's names": lambda state: {
        k.replace("first.", "layer_0.").replace("last.", "layer_1."): v for k, v in state.items()
    },
    "with what can be computed": lambda state: {**state, "mask.computable": torch.zeros(3)},
    "parameters": lambda state: {k: torch.nn.Parameter(v) for k, v in state.items()},
    "views of one tensor, not contiguous": lambda state: {k: torch.stack([v, v], -1)[..., 0] for k, v in state.items()},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("old", [False, True], ids=["zip", "legacy"])
def test_the_usual_ways_of_saving(tmp_path: Path, form: str, old: bool) -> None:
    state = make_state()
    path = tmp_path / "a checkpoint.pth"
    torch.save(FORMS[form](state), path, _use_new_zipfile_serialization=not old)
    assert same(read(path), state)


def test_safetensors_and_half_precision(tmp_path: Path) -> None:
    state = make_state()
    safetensors_torch.save_file(state, tmp_path / "a.safetensors")
    assert same(read(tmp_path / "a.safetensors"), state)
    half = {name: value.half() for name, value in state.items()}
    assert same(read(saved(tmp_path / "half.pt", half)), {name: value.float() for name, value in half.items()})


def test_parts_under_several_keys_and_in_lists(tmp_path: Path) -> None:
    keys = {"encoder_dict": "first.", "features.1": "last.", "rest": ""}
    card = {**CARD, "weights": {**CARD["weights"], "checkpoint_key": keys}}
    write_cards(tmp_path / "cards", card)
    state = make_state()
    parts = {
        "encoder_dict": {"weight": state["first.weight"], "bias": state["first.bias"]},
        "features": [{"weight": torch.zeros(1)}, {"weight": state["last.weight"]}],
        "rest": {"scale": state["scale"]},
    }
    assert same(read(saved(tmp_path / "parts.pt", parts)), state)


def test_a_file_is_converted_once_and_its_identity_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "mine.pth", make_state(seed=5))
    first = ensure_weights(model_card("tiny"), path)
    monkeypatch.setattr("FoundationSegLib.hub.checkpoint._read", lambda *_: pytest.fail("read again"))
    assert ensure_weights(model_card("tiny"), path) == first
    identity = load_model("tiny", "cpu", path).identity
    assert (identity.revision, identity.sha256) == ("file", first.sha256)
    monkeypatch.setattr(store, "CONVERSION", store.CONVERSION + 1)
    with pytest.raises(pytest.fail.Exception, match="read again"):
        ensure_weights(model_card("tiny"), path)


def test_the_model_that_a_checkpoint_fits_is_found(tmp_path: Path) -> None:
    assert identify(saved(tmp_path / "a.pth", wrapped(make_state(200)))).name == "other"
    with pytest.raises(ModelError, match="fits none of the models; say with --model"):
        identify(saved(tmp_path / "b.pth", make_state(100)))
    write_cards(tmp_path / "cards", {**OTHER, "name": "third"})
    with pytest.raises(ModelError, match="fits other or third; say with --model"):
        identify(tmp_path / "a.pth")


# --- What is refused -------------------------------------------------------------------------------------------------


class Harmful:
    """Leaves a trace if its pickle is obeyed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("old", [False, True], ids=["zip", "legacy"])
def test_a_pickle_that_imports_code_is_refused_and_not_obeyed(tmp_path: Path, old: bool) -> None:
    trace = tmp_path / "trace"
    path = tmp_path / "bad.pth"
    torch.save({**make_state(), "extra": Harmful(trace)}, path, _use_new_zipfile_serialization=not old)
    with pytest.raises(
        ModelError, match=r"bad.pth was refused: to be read it wants to import (posix|nt)\.mkdir, and a file"
    ):
        read(path)
    assert not trace.exists()


def test_a_pickle_of_a_whole_network_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.pth", torch.nn.Linear(2, 2))
    with pytest.raises(ModelError, match=r"wants to import torch\.nn\.modules\.linear\.Linear"):
        read(path)
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ModelError, match=r"net.pth (was refused|is cut off|is not a checkpoint)"):
        read(path)


def test_truncated_and_damaged_files(tmp_path: Path) -> None:
    whole = checkpoint()
    path = tmp_path / "c.pth"
    for length in (10, 100, 5_000, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError, match=r"c.pth is (cut off or damaged|not a checkpoint).* get the file again"):
            read(path)
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        largest = max(archive.infolist(), key=lambda info: info.file_size)
    for place in (largest.header_offset + 200, len(whole) // 2):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ModelError, match="cut off or damaged; get the file again"):
            read(path)
    tensors = safetensors_torch.save(make_state())
    for damaged in (tensors[:-1], tensors[:50], tensors[:8] + b"[" + tensors[9:], tensors[:20] + b"\0" + tensors[21:]):
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match=r"c.pth is (cut off or damaged|not a checkpoint)"):
            read(path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"<!DOCTYPE html><html>sign in</html>", "is a web page, not the weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "is a Git LFS pointer"),
        (b"", "is not a checkpoint"),
        (b"hello", "is not a checkpoint"),
        (b"\x80", "cut off or damaged|was refused"),
        (b"PK\x03\x04", "cut off or damaged"),
    ],
)
def test_files_that_are_something_else(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "d.pth"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=f"d.pth.*({sentence})"):
        read(path)
    with pytest.raises(ModelError, match=r"There is no file .*gone\.pth"):
        read(tmp_path / "gone.pth")


def without(state: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in state.items() if name not in names}


def test_tensors_that_are_missing_unknown_or_of_another_shape_are_named(tmp_path: Path) -> None:
    state = make_state()
    cases = [
        (without(state, "first.bias"), r"e.pth does not fit tiny: 1 tensor missing \(first.bias\)\. Choose the model"),
        ({**state, "z": torch.ones(1)}, r"does not fit tiny: 1 tensor unknown \(z\)"),
        ({**state, "scale": torch.ones(2, 3)}, r"1 tensor of another shape \(scale is 2x3, expected a single number\)"),
        (
            {**without(state, "scale"), "a": torch.ones(1), "b": torch.ones(1), "c": torch.ones(1), "d": torch.ones(1)},
            r"1 tensor missing \(scale\); 4 tensors unknown \(a, b, c, \.\.\.\)",
        ),
        ({"q": torch.ones(1), "scale": state["scale"]}, "of its 2 tensors only 1 are among the 4 expected"),
        ({"epoch": 3}, "of its 0 tensors only 0 are among the 4 expected"),
        ([1, 2], "of its 0 tensors only 0 are among the 4 expected"),
        (make_state(200), "e.pth is not a checkpoint of tiny; it fits other: choose that with --model"),
        (wrapped(make_state(200)), "it fits other: choose that with --model"),
    ]
    for content, sentence in cases:
        with pytest.raises(ModelError, match=sentence):
            read(saved(tmp_path / "e.pth", content))
    assert not list((tmp_path / "home").rglob("*.safetensors"))


def test_values_that_are_no_weights(tmp_path: Path) -> None:
    state = make_state()
    broken = state["first.bias"].clone()
    broken[7] = float("nan")
    with pytest.raises(ModelError, match=r"values that are not finite in first.bias"):
        read(saved(tmp_path / "f.pth", {**state, "first.bias": broken}))
    with pytest.raises(ModelError, match=r"first.bias in a form that is not supported"):
        read(saved(tmp_path / "f.pth", {**state, "first.bias": state["first.bias"].to(torch.complex64)}))


def test_models_of_users_files_say_where_the_file_comes_from(tmp_path: Path) -> None:
    write_cards(tmp_path / "cards", {**CARD, "weights": {"source": "user", "how": "Ask its authors."}})
    with pytest.raises(ModelError, match=r"Tiny cannot be downloaded from here: Ask its authors. Then give the file"):
        ensure_weights(model_card("tiny"))


def test_packages_that_are_missing_are_named_with_the_line_to_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "find_spec", lambda name: None)
    with pytest.raises(
        ModelError,
        match=r'The model tiny needs the package "torch", which is not installed; install it with: '
        r"python -m pip install torch safetensors huggingface_hub$",
    ):
        load_model("tiny")


# --- The shipped cards -----------------------------------------------------------------------------------------------


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="the fixtures (../shared/fixtures beside the repository) are absent")
@pytest.mark.parametrize("name", MANIFESTS)
def test_networks_of_the_cards_have_the_tensors_of_the_published_files(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "vista3d":
        pytest.importorskip("monai")
    if name == "medsam2":
        pytest.importorskip("transformers")
    monkeypatch.undo()
    manifest = json.loads((FIXTURES / MANIFESTS[name]).read_text(encoding="utf-8"))
    card = {card.name: card for card in model_cards()}[name]
    assert families.expected_tensors(card) == {t["name"]: tuple(t["shape"]) for t in manifest["tensors"]}
    megabytes = 4 * manifest["meta"]["n_elements_state_dict"] / 1e6
    assert card.size_bytes is not None and card.size_bytes / 1e6 == pytest.approx(megabytes, rel=0.01)
