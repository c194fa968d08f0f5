# SPDX-License-Identifier: Apache-2.0
"""VISTA3D's network and grid against the published manifest and MONAI.

No published weights and no goldens of them are at hand; the network is MONAI's own. What is shown: names and shapes of
the published checkpoint, the resampling against MONAI's `Spacing`, and that windows and clicks reach the network as
MONAI's documentation has them, by calling it directly.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")

from FoundationSegLib.errors import Cancelled, ModelError  # noqa: E402
from FoundationSegLib.families import vista3d  # noqa: E402
from FoundationSegLib.families.vista3d.grid import Grid  # noqa: E402
from FoundationSegLib.families.vista3d.inference import UNKNOWN_LOGIT, Inference  # noqa: E402
from FoundationSegLib.families.vista3d.network import load_network  # noqa: E402
from FoundationSegLib.predictor import CancelToken  # noqa: E402
from FoundationSegLib.region import CanonicalFrame  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from vista3d_case import SETTINGS, card, network, oblique  # noqa: E402

MANIFEST = Path(__file__).parents[4] / "shared" / "fixtures" / "vista3d" / "manifest_vista3d132_monai16.json"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def small() -> Any:
    return network()


@pytest.fixture(scope="module")
def inference(small: Any) -> Inference:
    return Inference(small, SETTINGS, CPU)


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(2).random(shape, dtype=np.float32)


def ignore(_share: float) -> None:
    pass


def test_expected_tensors_are_those_of_the_published_checkpoint() -> None:
    if not MANIFEST.exists():
        pytest.skip(f"the manifest is not at hand ({MANIFEST.name} in ../shared/fixtures)")
    listed = json.loads(MANIFEST.read_text(encoding="utf-8"))["tensors"]
    expected = vista3d.expected_tensors(card(architecture={}))
    assert expected == {tensor["name"]: tuple(tensor["shape"]) for tensor in listed}
    assert len(expected) == 259


def test_loading_is_strict(tmp_path: Path, small: Any) -> None:
    state = small.state_dict()
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    loaded = load_network(SETTINGS, path, CPU).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())
    save_file({name: tensor for name, tensor in state.items() if "zeroshot" not in name}, path)
    with pytest.raises(ModelError, match="zeroshot"):
        load_network(SETTINGS, path, CPU)
    with pytest.raises(ModelError, match="sizes"):
        vista3d.expected_tensors(card(architecture={"sizes": 3}))


def test_monai_comes_without_transformers() -> None:
    code = (
        "import sys\n"
        "from FoundationSegLib.families import vista3d\n"
        "assert 'torch' not in sys.modules and 'monai' not in sys.modules\n"
        "from vista3d_case import card\n"
        "import FoundationSegLib.families.vista3d.model\n"
        "assert 'monai' not in sys.modules\n"
        "assert len(vista3d.expected_tensors(card())) == 259\n"
        "assert not {'transformers', 'torchvision', 'nibabel'} & set(sys.modules)\n"
        "import importlib.util; assert importlib.util.find_spec('monai')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)


def test_grid_is_monais_spacing() -> None:
    from monai.data import MetaTensor
    from monai.transforms import ScaleIntensityRange, Spacing

    volume = oblique()
    frame = CanonicalFrame.of(volume)
    grid = Grid.of(frame)
    canonical = np.ascontiguousarray(frame.canonical_view(volume.array).transpose(2, 1, 0)).astype(np.float32)
    affine = torch.diag(torch.tensor([*frame.spacing[::-1], 1.0], dtype=torch.float64))
    scaled = ScaleIntensityRange(-963.8247715525971, 1053.678477684517, 0, 1, clip=True)(canonical[None])
    theirs = Spacing(pixdim=1.5, mode="bilinear")(MetaTensor(scaled, affine=affine))[0].numpy()
    ours = grid.image(volume)
    assert ours.shape == theirs.shape == grid.shape
    assert np.abs(ours - theirs).max() <= 1e-5
    assert ours.min() >= 0 and ours.max() <= 1 and ours.flags.c_contiguous


def test_grid_and_voxels_are_the_same_place() -> None:
    volume = oblique()
    frame = CanonicalFrame.of(volume)
    grid = Grid.of(frame)
    x, y, z = np.meshgrid(*map(np.arange, grid.shape), indexing="ij")
    ramp = (x * 1.0 + y * 100.0 + z * 10000.0).astype(np.float32)
    box = (slice(2, 9), slice(5, 30), slice(10, 40))
    at = np.stack(np.meshgrid(*(np.arange(s.start, s.stop) * mm for s, mm in zip(box, frame.spacing, strict=True)),
                              indexing="ij"), axis=-1)  # fmt: skip
    places = grid.place(at.reshape(-1, 3))
    np.testing.assert_allclose(grid.voxels(ramp, box).ravel(), places @ np.array([1.0, 100.0, 10000.0]), rtol=1e-5)
    mask = volume.array > 0
    assert abs(grid.mask(mask).sum() * 1.5**3 / (mask.sum() * np.prod(frame.spacing)) - 1) < 0.05


def test_one_window_is_the_networks_own_answer(small: Any, inference: Inference) -> None:
    picture = image(32, 32, 32)
    with torch.inference_mode():
        both = small(torch.from_numpy(picture)[None, None], class_vector=torch.tensor([[5], [14]]))[:, 0].numpy()
    alone = inference.named(picture, (5,), CancelToken(), ignore)
    np.testing.assert_allclose(alone, both[0], atol=1e-4)
    union = inference.named(picture, (5, 14), CancelToken(), ignore)
    np.testing.assert_allclose(union, both.max(0), atol=1e-4)
    assert (both[0] != both[1]).any()


def test_clicks_are_the_networks_own_answer(small: Any, inference: Inference) -> None:
    picture = image(32, 32, 32)
    coords, labels = np.array([[12.0, 20.0, 9.0], [25.0, 4.0, 16.0]]), np.array([3, 2])
    for prompt_class in (None, 57, 133):
        with torch.inference_mode():
            theirs = small(
                torch.from_numpy(picture)[None, None],
                point_coords=torch.from_numpy(coords.astype(np.float32))[None],
                point_labels=torch.from_numpy(labels)[None],
                prompt_class=None if prompt_class is None else torch.tensor([[prompt_class]]),
            )[0, 0].numpy()
        ours, seen = inference.clicked(picture, coords, labels, prompt_class, None, 0, CancelToken(), ignore)
        # Two windows, one around each click, both the whole picture: their mean.
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
        assert seen == (slice(0, 32),) * 3


def test_beyond_the_windows_nothing_is_known(inference: Inference) -> None:
    picture = image(48, 34, 30)  # thinner than a window along z: MONAI pads there
    click = np.array([[10.0, 17.0, 15.0]])
    logits, seen = inference.clicked(picture, click, np.array([1]), None, None, 0, CancelToken(), ignore)
    assert seen == (slice(0, 32), slice(1, 33), slice(0, 30))
    inside = np.zeros(picture.shape, bool)
    inside[seen] = True
    assert np.isfinite(logits).all() and (logits[~inside] == UNKNOWN_LOGIT).all()
    assert len(np.unique(logits[inside])) > 1000


def test_refining_changes_what_hangs_together_with_the_click(inference: Inference) -> None:
    picture = image(48, 34, 30)
    previous = np.full(picture.shape, -3, np.float32)
    previous[4:12, 10:20, 8:20] = 3
    coords, labels = np.array([[8.0, 15.0, 14.0], [40.0, 15.0, 14.0]]), np.array([1, 1])
    logits, seen = inference.clicked(picture, coords, labels, 1, previous, 1, CancelToken(), ignore)
    assert seen[0] == slice(16, 48), "only the window of the new click"
    assert (logits[:16] == previous[:16]).all()
    changed = logits != previous
    assert not changed[:16].any() and ((logits > 0) | ~changed | (previous > 0)).all()


def test_windows_are_counted_for_progress_and_can_be_cancelled(inference: Inference) -> None:
    picture, shares = image(48, 34, 30), []
    inference.named(picture, (1,), CancelToken(), shares.append)
    assert shares == [0, 0.25, 0.5, 0.75], "two by two by one windows"
    token = CancelToken()

    def cancel(share: float) -> None:
        if share >= 0.5:
            token.cancel()

    with pytest.raises(Cancelled):
        inference.named(picture, (1,), token, cancel)
