# SPDX-License-Identifier: Apache-2.0
"""Training an adapter on SAM's weights, reduced to seconds: it learns, can be cut off, and its result runs."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `torch`")

from FoundationSegLib import ModelError, Point, SegmentationSession, Volume, VolumeError, families  # noqa: E402
from FoundationSegLib.families.sam_adapter_3d import start, train  # noqa: E402
from FoundationSegLib.families.sam_adapter_3d.data import (  # noqa: E402
    Pair,
    Sample,
    find_pairs,
    from_folder,
    from_synthesis,
    read_pair,
)
from FoundationSegLib.hub.checkpoint import compare_file  # noqa: E402
from FoundationSegLib.segmentation_io import SegmentRecord, write_segmentation  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from sam_adapter_3d_case import CONFIG, SIZES, card, oblique_volume, sam_state  # noqa: E402

VOLUME, TRUTH = oblique_volume()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs: NRRD with .seg.nrrd, which has two overlapping segments, and NIfTI with a labelmap."""
    import SimpleITK as sitk

    root = tmp_path_factory.mktemp("pairs")
    sitk.WriteImage(VOLUME.to_sitk(), root / "a.nrrd")
    half = TRUTH.copy()
    half[:, :28] = False
    write_segmentation(root / "a.seg.nrrd", VOLUME, [SegmentRecord("whole", TRUTH), SegmentRecord("half", half)])
    sitk.WriteImage(VOLUME.to_sitk(), root / "b.nii.gz")
    labels = Volume(TRUTH.astype(np.uint8) * 3, VOLUME.ijk_to_ras)
    sitk.WriteImage(labels.to_sitk(), root / "b_label.nii.gz")
    return root


def fixed_source() -> Sample:
    rng = np.random.default_rng(3)
    return from_synthesis(CONFIG.crop)(rng)


def test_start_takes_sams_encoder_and_trains_what_the_paper_trains() -> None:
    state = sam_state()
    network = start.from_sam(state, CONFIG)
    for name, value in network.encoder.state_dict().items():
        if f"image_encoder.{name}" in state:
            assert torch.equal(value, state[f"image_encoder.{name}"]), name
    attention = network.encoder.blocks[3].attn
    assert torch.equal(attention.rel_pos_d, 0.5 * (attention.rel_pos_h + attention.rel_pos_w))
    names = set(start.trained(network))
    encoder = {name.split(".", 1)[1] for name in names if name.startswith("encoder.")}
    of_a_block = {name.removeprefix("blocks.4.") for name in encoder if name.startswith("blocks.4.")}
    assert of_a_block == {
        *(f"norm{n}.{kind}" for n in (1, 2) for kind in ("weight", "bias")),
        *(f"adapter.{part}.{kind}" for part in ("linear1", "conv", "linear2") for kind in ("weight", "bias")),
        "attn.rel_pos_d",
    }
    assert {name for name in encoder if not name.startswith(("blocks.", "neck_3d."))} == {
        "depth_embed",
        "slice_embed.weight",
        "slice_embed.bias",
    }
    others = {name for name, _ in network.named_parameters() if not name.startswith("encoder.")}
    assert others <= names, "prompt encoder and decoder are trained in full"


def test_other_weights_are_no_start(tmp_path: Path) -> None:
    state = sam_state()
    state["image_encoder.blocks.2.mlp.lin1.weight"] = torch.zeros(3, 3)
    with pytest.raises(ModelError, match=r"blocks\.2\.mlp\.lin1\.weight does not fit"):
        start.from_sam(state, CONFIG)
    (tmp_path / "sam.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be read"):
        start.read_sam(tmp_path / "sam.safetensors")
    torch.save(sam_state(), tmp_path / "sam.pth")
    assert start.read_sam(tmp_path / "sam.pth").keys() == sam_state().keys()


def test_training_lowers_the_loss_on_a_fixed_sample() -> None:
    network = start.from_sam(sam_state(), CONFIG)
    frozen = network.encoder.blocks[0].attn.qkv.weight.clone()
    optimiser = torch.optim.AdamW(start.trained(network).values(), lr=4e-3, weight_decay=0)
    sample, losses = fixed_source(), []
    for _ in range(25):
        loss, dice = train.sample_loss(network, sample, torch.device("cpu"))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
        assert 0 <= dice <= 1
    assert losses[-1] < 0.85 * losses[0]
    assert torch.equal(network.encoder.blocks[0].attn.qkv.weight, frozen)


def test_a_run_that_was_cut_off_goes_on_to_the_same_weights_and_they_run(tmp_path: Path, folder: Path) -> None:
    config = train.TrainConfig(steps=4, checkpoint_minutes=0.0)
    draws = from_folder(folder, CONFIG.crop, config.intensity)

    def run(out: Path, source: train.Source, resume: bool = False) -> dict[str, torch.Tensor]:
        result = train.train(config, start.from_sam(sam_state(), CONFIG), source, out, "cpu", resume)
        return start.read_sam(result)

    whole = run(tmp_path / "whole", draws)
    count = 0

    def pulled_plug(rng: np.random.Generator) -> Sample:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return draws(rng)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", pulled_plug)
    assert torch.load(tmp_path / "cut" / train.STATE, weights_only=True)["step"] == 2
    resumed = run(tmp_path / "cut", draws, resume=True)
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    with open(tmp_path / "cut" / train.LOG, newline="") as log:
        assert [row["step"] for row in csv.DictReader(log)] == ["1", "2", "3", "4"]

    path = tmp_path / "cut" / train.RESULT
    assert not list(path.parent.glob("*.part"))
    compare_file(path, card())
    session = SegmentationSession(VOLUME, families.load(card(), path, "cpu"))
    session.add("s", Point(tuple(VOLUME.kji_to_ras(np.array([8.0, 28, 24])))))
    assert session.segments() == ["s"] and session.mask("s").shape == VOLUME.shape

    with pytest.raises(ModelError, match="other settings"):
        other = train.TrainConfig(steps=4, seed=2)
        train.train(other, start.from_sam(sam_state(), CONFIG), draws, tmp_path / "cut", "cpu", True)


def test_command_line_trains_and_answers(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    save_file(sam_state(), tmp_path / "sam.safetensors")
    common = ["--sam", str(tmp_path / "sam.safetensors"), "--sizes", json.dumps(SIZES), "--device", "cpu"]
    assert train.main([*common, "--data", "synthetic", "--out", str(tmp_path / "run"), "--steps", "1"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "run" / train.RESULT)
    assert train.main([*common, "--data", str(tmp_path / "none"), "--out", str(tmp_path / "x")]) == 1
    assert "There is no folder" in capsys.readouterr().err
    synthetic_in_units = ["--data", "synthetic", "--intensity", "kits", "--out", str(tmp_path / "x")]
    assert train.main([*common, *synthetic_in_units]) == 1
    assert "no unit" in capsys.readouterr().err


def test_pairs_are_found_and_read(folder: Path, tmp_path: Path) -> None:
    a, b = find_pairs(folder)
    assert (a.image.name, a.labels.name) == ("a.nrrd", "a.seg.nrrd")
    assert (b.image.name, b.labels.name) == ("b.nii.gz", "b_label.nii.gz")
    volume, masks = read_pair(a)
    assert volume.shape == VOLUME.shape and len(masks) == 2 and np.array_equal(masks[0], TRUTH)
    _, masks = read_pair(b)
    assert len(masks) == 1 and np.array_equal(masks[0], TRUTH)
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    (tmp_path / "images" / "c.nii.gz").symlink_to(b.image)
    (tmp_path / "labels" / "c.nii.gz").symlink_to(b.labels)
    (c,) = find_pairs(tmp_path)
    assert c == Pair(tmp_path / "images" / "c.nii.gz", tmp_path / "labels" / "c.nii.gz")
    (tmp_path / "labels" / "c.nii.gz").unlink()
    with pytest.raises(VolumeError, match="no image with labels"):
        find_pairs(tmp_path)


def test_labels_of_another_image_are_refused(folder: Path, tmp_path: Path) -> None:
    import SimpleITK as sitk

    moved = VOLUME.ijk_to_ras.copy()
    moved[0, 3] += 5
    sitk.WriteImage(Volume(TRUTH.astype(np.uint8), moved).to_sitk(), tmp_path / "moved.nrrd")
    with pytest.raises(VolumeError, match="does not lie on the voxels"):
        read_pair(Pair(folder / "a.nrrd", tmp_path / "moved.nrrd"))


def test_samples_hold_a_structure_and_clicks_on_it(folder: Path) -> None:
    for source in (from_folder(folder, CONFIG.crop, "region"), from_synthesis(CONFIG.crop)):
        counts = set()
        for seed in range(8):
            sample = source(np.random.default_rng(seed))
            assert sample.image.shape == sample.target.shape == (CONFIG.crop,) * 3
            assert sample.image.dtype == np.float32 and np.isfinite(sample.image).all()
            assert sample.target[tuple(sample.clicks.astype(int).T)].all()
            counts.add(len(sample.clicks))
        assert len(counts) > 2 and counts <= set(range(1, 11))
        again = source(np.random.default_rng(7))
        assert np.array_equal(again.image, sample.image) and np.array_equal(again.clicks, sample.clicks)
