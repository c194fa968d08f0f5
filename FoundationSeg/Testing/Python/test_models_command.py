# SPDX-License-Identifier: Apache-2.0
"""`foundation-seg models ...` and weights of one's own: what is printed, asked, written, and refused."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from FoundationSegLib import ModelError, Volume, catalogue, cli, memory
from FoundationSegLib.catalogue import ModelCard, load_model, model_card, model_cards
from FoundationSegLib.cli import main
from FoundationSegLib.errors import ModelTooLarge
from FoundationSegLib.hub import licence, transfer
from FoundationSegLib.hub.records import pins
from FoundationSegLib.hub.weights import Ask
from FoundationSegLib.resources import resource_folder
from hub_case import CARD, TINY, Case, checkpoint, hub_case, write_cards
from image_files import OBLIQUE
from loopback_hub import COMMIT, Faults

ROOT = Path(__file__).resolve().parents[3]
FIXTURES = ROOT.parent / "shared" / "fixtures" / "sam_med3d"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    monkeypatch.setattr(transfer, "_RETRY_AFTER_S", (0.01, 0.01))
    yield from hub_case(tmp_path, monkeypatch)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return call


# --- Cards -----------------------------------------------------------------------------------------------------------


def schema() -> Any:
    jsonschema = pytest.importorskip("jsonschema")
    path = resource_folder("Models") / "model-card.schema.json"
    return jsonschema.Draft202012Validator(json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", sorted((ROOT / "Resources" / "Models").glob("*[!a].json")), ids=lambda path: path.stem)
def test_every_card_keeps_to_the_schema(path: Path) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    assert [error.message for error in schema().iter_errors(data)] == []
    assert ModelCard.read(path).name == path.stem


@pytest.mark.parametrize(
    "change",
    [
        {"weights": {**CARD["weights"], "source": "elsewhere"}},
        {"weights": {"source": "hub", "repo": "someone/tiny"}},
        {"weights": {"source": "none"}},
        {"not_yet": "it was not written yet."},
        {"terms": {"kinds": ["free"], "source": "x", "page": "https://example.org"}},
        {"licence": ""},
        {"colour": "red"},
    ],
)
def test_the_schema_refuses_what_it_should(change: dict[str, Any]) -> None:
    assert not list(schema().iter_errors(CARD))
    assert list(schema().iter_errors({**CARD, **change}))


@pytest.mark.parametrize(
    "change",
    [
        {"name": 3},
        {"prompts": "point"},
        {"weights": None},
        {"weights": {**CARD["weights"], "source": "elsewhere"}},
        {"weights": {**CARD["weights"], "file": "../../secret"}},
        {"weights": {**CARD["weights"], "size_bytes": "many"}},
    ],
)
def test_a_card_that_breaks_its_schema_is_answered(
    change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = write_cards(tmp_path / "cards", {**CARD, **change, "name": change.get("name", "tiny")})
    monkeypatch.setattr(catalogue, "resource_folder", lambda name: cards)
    with pytest.raises(ModelError, match=r"The model card .*\.json is damaged \(.*\); install the extension again"):
        model_cards()


def test_cards_of_one_name_are_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cards = write_cards(tmp_path / "cards", CARD)
    (cards / "again.json").write_text(json.dumps(CARD), encoding="utf-8")
    monkeypatch.setattr(catalogue, "resource_folder", lambda name: cards)
    with pytest.raises(ModelError, match="Several model cards are named tiny"):
        model_cards()


def test_models_that_cannot_run_yet_say_why(run: Run) -> None:
    names = [card.name for card in model_cards() if card.source == "none"]
    assert set(names) == {"sam-med2d", "nninteractive", "segvol"}
    for name in names:
        for arguments in (("models", "download", name), ("models", "bundle", name, "--out", "nowhere")):
            status, _, err = run(*arguments)
            assert status == 1 and ("cannot be run yet: it" in err or "cannot be bundled" in err)
        with pytest.raises(ModelError, match="cannot be run yet: it"):
            load_model(name)


# --- List, show, consent ---------------------------------------------------------------------------------------------


def test_list_tells_what_is_there(case: Case, run: Run) -> None:
    status, out, _ = run("models", "list")
    head, _, row, *_ = out.splitlines()
    assert status == 0 and head.split() == [
        "name", "family", "task", "prompts", "modalities", "dimension", "size", "licence", "state",
    ]  # fmt: skip
    assert " ".join(row.split()) == (
        "tiny tiny tests point CT 3-D 1 MB CC-BY-NC-SA-4.0 (non-commercial, share-alike) to download"
    )
    assert run("models", "download", "tiny", "--accept-licence")[0] == 0
    assert "on disk" in run("models", "list")[1]
    (data,) = json.loads(run("models", "list", "--json")[1])["models"]
    assert data["state"] == "on disk" and Path(data["path"]).is_file() and data["weights"]["repo"] == "someone/tiny"


def test_show_tells_the_terms_and_what_is_fixed(case: Case, run: Run) -> None:
    _, out, _ = run("models", "show", "tiny")
    for words in (
        "NON-COMMERCIAL",
        "SHARE-ALIKE",
        "https://example.org/tiny",
        "the first download fixes",
        "not on this",
    ):
        assert words in out
    run("models", "download", "tiny", "--accept-licence")
    assert f"commit {COMMIT}, sha256 {pins()['tiny'].sha256}" in run("models", "show", "tiny")[1]


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "Resources" / "Models").glob("*[!a].json"))])
def test_every_shipped_card_can_be_shown(name: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOUNDATIONSEG_HOME", str(tmp_path))
    status, out, _ = run("models", "show", name)
    assert status == 0 and f"({name})" in out and "Licence:" in out


def answering(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    """A person at a terminal."""

    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return answer

    monkeypatch.setattr(cli.sys, "stdin", Terminal())
    monkeypatch.setattr(cli.sys.stderr, "isatty", lambda: True, raising=False)


def test_on_a_terminal_the_user_is_asked_once(case: Case, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, "n\n")
    status, _, err = run("models", "download", "tiny")
    assert status == 1 and "NON-COMMERCIAL" in err and "Do you accept this licence? [y/N]" in err
    assert "was not accepted, so nothing was downloaded" in err and not case.hub.requests
    answering(monkeypatch, "yes\n")
    status, out, err = run("models", "download", "tiny")
    assert status == 0 and "Tiny is ready" in out and "download [####" in err and "100 %" in err
    status, _, err = run("models", "download", "tiny")
    assert status == 0 and "accept" not in err


def test_a_script_is_not_asked_and_has_to_say_so(case: Case, run: Run) -> None:
    status, out, err = run("models", "download", "tiny", "--json")
    assert status == 1 and "--accept-licence" in err and json.loads(out)["error"]["type"] == "ModelError"
    assert not case.hub.requests and not licence.accepted(case.card)


# --- Verify and remove -----------------------------------------------------------------------------------------------


def test_verify_and_remove(case: Case, run: Run) -> None:
    assert run("models", "verify")[1].startswith("No weights")
    run("models", "download", "tiny", "--accept-licence")
    status, out, _ = run("models", "verify")
    assert status == 0 and out.startswith("good  tiny: ") and "all tensors as expected" in out
    (path,) = case.home.rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    status, out, _ = run("models", "verify", "tiny")
    assert status == 1 and out.startswith("BAD   tiny: ") and "wrong checksum" in out
    status, out, _ = run("models", "remove", "tiny")
    assert status == 0 and "MB freed" in out and "tiny" in pins()
    assert not list(case.home.rglob("*.safetensors")) and not list(case.cache.rglob("tiny.pth"))
    assert run("models", "remove", "tiny")[1].strip() == "tiny: there was nothing to delete."
    status, out, _ = run("models", "verify", "tiny")
    assert status == 1 and "tiny is not on this computer; get it with: foundation-seg models download tiny" in out


def test_remove_leaves_what_other_revisions_of_the_hub_s_cache_use(case: Case, run: Run) -> None:
    run("models", "download", "tiny", "--accept-licence")
    case.hub.faults = Faults(commit="e" * 40)
    from huggingface_hub import hf_hub_download

    other = Path(hf_hub_download("someone/tiny", "folder/tiny.pth"))
    assert run("models", "remove", "tiny", "--keep-cache")[0] == 0
    assert (case.cache / "models--someone--tiny" / "snapshots" / COMMIT / "folder" / "tiny.pth").exists()
    run("models", "remove", "tiny")
    assert other.read_bytes() == case.hub.files[TINY]


# --- Bundles ---------------------------------------------------------------------------------------------------------


def bundled(case: Case, run: Run, folder: Path) -> Path:
    status, out, err = run("models", "bundle", "tiny", "--out", folder, "--accept-licence")
    assert status == 0 and "models import" in out, err
    return folder


def test_a_bundle_works_where_there_is_no_network(
    case: Case, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = bundled(case, run, tmp_path / "stick" / "bundle")
    assert "NON-COMMERCIAL" in (folder / "LICENCES.txt").read_text(encoding="utf-8")
    sha256 = pins()["tiny"].sha256
    case.hub.requests.clear()
    elsewhere = {**case.environment(), "FOUNDATIONSEG_HOME": str(tmp_path / "elsewhere"), "HF_HUB_CACHE": str(tmp_path)}
    code = (
        "import socket, sys; from pathlib import Path; import tiny_family; tiny_family.install(Path(sys.argv[1]))\n"
        "def refuse(*_, **__): raise AssertionError('a network call')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from FoundationSegLib.cli import main\n"
        "status = main(['models', 'import', sys.argv[2], '--accept-licence'])\n"
        "from FoundationSegLib.catalogue import load_model\n"
        "print(status, load_model('tiny', 'cpu').identity.sha256, 'huggingface_hub' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(case.cards), str(folder)]
    done = subprocess.run(command, check=False, env=elsewhere, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1:] == [f"0 {sha256} False"], done.stdout + done.stderr
    assert not case.hub.requests


def test_importing_asks_for_the_licence_too(
    case: Case, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = bundled(case, run, tmp_path / "bundle")
    monkeypatch.setenv("FOUNDATIONSEG_HOME", str(tmp_path / "elsewhere"))
    status, _, err = run("models", "import", folder)
    assert status == 1 and "was not accepted" in err and not list((tmp_path / "elsewhere").rglob("*.safetensors"))
    assert run("models", "import", folder, "--accept-licence")[0] == 0
    assert pins()["tiny"].origin == "bundle" and run("models", "verify")[0] == 0


def test_bundles_that_are_damaged_or_of_other_weights(
    case: Case, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = bundled(case, run, tmp_path / "bundle")
    monkeypatch.setenv("FOUNDATIONSEG_HOME", str(tmp_path / "elsewhere"))

    def refused(sentence: str) -> None:
        status, _, err = run("models", "import", folder, "--accept-licence")
        assert status == 1 and sentence in err, err
        assert not list((tmp_path / "elsewhere").rglob("*.safetensors")) and "tiny" not in pins()

    manifest, weights = folder / "bundle.json", folder / "tiny.safetensors"
    good, tensors = manifest.read_text(encoding="utf-8"), weights.read_bytes()
    weights.write_bytes(tensors[:-1] + bytes([tensors[-1] ^ 1]))
    refused("wrong checksum")
    weights.write_bytes(tensors[:1000])
    refused("wrong checksum")
    weights.unlink()
    refused("is incomplete: tiny.safetensors is missing")
    weights.write_bytes(tensors)
    for damage in ("{", "[]", '{"version": 1, "models": {"tiny": {}}}'):
        manifest.write_text(damage, encoding="utf-8")
        refused("damaged")
    pin = json.loads(good)["models"]["tiny"]["pin"]
    for key, outside in (("sha256", "../../outside"), ("commit", "../../../outside"), ("repo", "some/other")):
        manifest.write_text(good.replace(json.dumps(pin[key]), json.dumps(outside)), encoding="utf-8")
        refused("damaged")
    manifest.write_text(good.replace('"file": "tiny.safetensors"', '"file": "../../etc/passwd"'), encoding="utf-8")
    refused("is incomplete")
    manifest.write_text(good.replace('"version": 1', '"version": 2'), encoding="utf-8")
    refused("made by a newer version")
    manifest.write_text(good.replace('"conversion": 1', '"conversion": 0'), encoding="utf-8")
    refused("another version of FoundationSeg; make it anew")
    manifest.write_text(good.replace('"tiny": {', '"unknown": {'), encoding="utf-8")
    refused("There is no model 'unknown'")
    manifest.unlink()
    refused("is not a bundle (it has no bundle.json)")
    manifest.write_text(good, encoding="utf-8")
    assert run("models", "import", folder, "--accept-licence")[0] == 0


def test_a_bundle_must_agree_with_what_is_pinned(
    case: Case, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = bundled(case, run, tmp_path / "bundle")
    monkeypatch.setenv("FOUNDATIONSEG_HOME", str(tmp_path / "elsewhere"))
    case.hub.files[TINY] = checkpoint(seed=3)
    case.hub.faults.commit = "d" * 40
    import shutil

    shutil.rmtree(case.cache)
    assert run("models", "download", "tiny", "--accept-licence")[0] == 0
    status, _, err = run("models", "import", folder)
    assert status == 1 and "holds other weights of tiny than were pinned on this computer" in err


def test_what_comes_with_the_program_is_not_bundled(run: Run, tmp_path: Path) -> None:
    status, _, err = run("models", "bundle", "compact", "--out", tmp_path / "b")
    assert status == 1 and "compact cannot be bundled: it comes with the program" in err
    assert not (tmp_path / "b").exists()


# --- Memory ----------------------------------------------------------------------------------------------------------


def test_a_model_that_does_not_fit_says_how_much_it_needs(
    case: Case, run: Run, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (memory.available_bytes() or 10**9) > 10**7
    real = json.loads((ROOT / "Resources" / "Models" / "compact.json").read_text(encoding="utf-8"))
    write_cards(case.cards, {**CARD, "memory_mb": 5000}, real)
    monkeypatch.setattr(memory, "available_bytes", lambda: 10**9)
    with pytest.raises(ModelTooLarge, match=r"Tiny needs about 5.0 GB of memory and 1.0 GB are free; close other"):
        load_model("tiny", "cpu")
    arguments = (
        "segment",
        image,
        "--point",
        CENTRE,
        "--out",
        tmp_path / "o.seg.nrrd",
        "--model",
        "tiny",
        "--device",
        "cpu",
    )
    status, _, err = run(*arguments)
    assert status == 1 and "needs about 5.0 GB" in err and not case.hub.requests
    status, out, err = run(*arguments, "--fallback", "compact", "--json")
    assert status == 0 and "compact is used instead, as you allowed" in err
    assert json.loads(out)["model"]["name"] == "compact"


# --- All the way to a mask -------------------------------------------------------------------------------------------

SHAPE = (24, 40, 44)
CENTRE_KJI = (12, 20, 22)


def ball() -> Volume:
    """A bright ball of 15 mm on an oblique anisotropic grid."""
    kji = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    spacing = np.linalg.norm(OBLIQUE[:3, :3], axis=0)[::-1]
    inside = (((kji - CENTRE_KJI) * spacing) ** 2).sum(axis=-1) < 7.5**2
    noise = np.random.default_rng(3).integers(-20, 20, SHAPE)
    return Volume((np.where(inside, 300, 40) + noise).astype(np.int16), OBLIQUE)


VOLUME = ball()
CENTRE = ",".join(f"{x:.2f}" for x in VOLUME.kji_to_ras(CENTRE_KJI))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.nrrd"
    sitk.WriteImage(VOLUME.to_sitk(), str(path))
    return path


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="the fixtures (../shared/fixtures beside the repository) are absent")
def test_from_the_hub_to_a_mask_with_a_real_network(
    case: Case, run: Run, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SAM-Med3D of reduced size, as a pickle on the Hub, once downloaded, once as the user's own file, then offline."""
    import io

    import torch
    from safetensors.torch import load_file
    from sam_med3d_case import MODEL_A

    state = load_file(FIXTURES / "reduced_state_dict.safetensors")
    buffer = io.BytesIO()
    torch.save({"model_state_dict": state, "optimizer": {}}, buffer)
    weights = {**CARD["weights"], "repo": "someone/med3d", "file": "reduced.pth"}
    small = {**CARD, "name": "small", "family": "sam-med3d", "architecture": MODEL_A, "weights": weights}
    write_cards(case.cards, {**small, "modalities": ["MR"]})
    case.hub.files["someone/med3d/reduced.pth"] = buffer.getvalue()
    out = tmp_path / "o.seg.nrrd"
    arguments = ("segment", image, "--point", CENTRE, "--out", out, "--modality", "CT", "--device", "cpu", "--json")
    status, text, err = run(*arguments, "--model", "small", "--accept-licence")
    assert status == 0, err
    assert "small was made for MR and the volume is CT; look twice at its masks" in err
    model = json.loads(text)["model"]
    assert (model["name"], model["revision"], model["sha256"]) == ("small", COMMIT, pins()["small"].sha256)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a network call"))
    assert run("replay", out, "--volume", image)[0] == 0
    mine = tmp_path / "mine.pth"
    torch.save({name: value * 1.01 for name, value in state.items()}, mine)
    status, text, err = run(*arguments, "--checkpoint", mine)
    assert status == 0 and "mine.pth is a checkpoint of small" in err, err
    assert json.loads(text)["model"]["revision"] == "file"
    mine.unlink()
    status, text, err = run("replay", out, "--volume", image)
    assert status == 0 and text.startswith("identical"), err
    monkeypatch.setenv("FOUNDATIONSEG_HOME", str(tmp_path / "elsewhere"))
    status, _, err = run("replay", out, "--volume", image)
    assert status == 1 and "It was made with a checkpoint of the user's own" in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--model", "compact", "--checkpoint", "x.pth"), "takes no other weights"),
        (("--checkpoint", "gone.pth"), "gone.pth cannot be read"),
        (("--model", "tiny", "--checkpoint", "gone.pth"), "There is no file gone.pth"),
        (("--model", "tiny"), "was not accepted"),
        (("--model", "huge"), "There is no model 'huge'"),
    ],
)
def test_wrong_weights_are_answered_before_the_volume_is_read(
    case: Case, run: Run, arguments: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    real = json.loads((ROOT / "Resources" / "Models" / "compact.json").read_text(encoding="utf-8"))
    write_cards(case.cards, CARD, real)
    (tmp_path / "x.pth").write_bytes(checkpoint())
    status, _, err = run("segment", "gone.nrrd", "--point", "0,0,0", "--out", "o.seg.nrrd", *arguments)
    assert status == 1 and sentence in err


def test_importing_the_package_imports_nothing_of_this() -> None:
    code = (
        "import sys, FoundationSegLib; print([m for m in sys.modules if m.startswith('FoundationSegLib.hub')"
        " or m.partition('.')[0] in ('huggingface_hub', 'torch', 'filelock', 'safetensors')])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, cwd=ROOT / "FoundationSeg", capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_the_catalogue_needs_no_weights_and_no_packages() -> None:
    assert model_card("sam-med3d-turbo").size_bytes == 402_000_000


def test_a_model_that_is_loaded_needs_no_more_memory(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cards(case.cards, {**CARD, "memory_mb": 5000})
    monkeypatch.setattr(memory, "available_bytes", lambda: 10**10)
    first = load_model("tiny", "cpu", ask=Ask(consent=lambda card: True))
    monkeypatch.setattr(memory, "available_bytes", lambda: 10**9)
    assert load_model("tiny", "cpu") is first
