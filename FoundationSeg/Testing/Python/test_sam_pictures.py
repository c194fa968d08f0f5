# SPDX-License-Identifier: Apache-2.0
"""What SAM and MedSAM are shown, and how their masks come back, against the originals' pipelines."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transform = pytest.importorskip("skimage.transform")
if find_spec("segment_anything") is None:
    pytest.skip("segment-anything is not installed", allow_module_level=True)

from FoundationSegLib import Volume  # noqa: E402
from FoundationSegLib.families.sam import pictures  # noqa: E402
from FoundationSegLib.families.sam.predictor import MedSamSlices, SamSlices  # noqa: E402
from FoundationSegLib.predictor import ModelIdentity  # noqa: E402
from FoundationSegLib.slicewise.contrast import Contrast, contrast_of  # noqa: E402
from FoundationSegLib.slicewise.protocol import SliceGeometry, SlicePrompts  # noqa: E402
from sam_case import MEDSAM, SAM, assert_close, golden, needs_fixtures, reduced_network  # noqa: E402

IDENTITY = ModelIdentity("sam-reduced", "test", "0" * 64, "cpu", "float32")
CPU = torch.device("cpu")


@needs_fixtures
def test_sam_from_picture_to_mask_as_the_originals_predictor() -> None:
    g = golden(SAM / "golden_predictor.npz")
    sam = SamSlices(reduced_network(), IDENTITY, CPU)
    geometry = SliceGeometry((75, 100), (0.7, 0.7))
    size = pictures.fitted_size(geometry, 128)
    assert size == tuple(g["model_input_resized_hw"])
    picture = sam.prepare_slice(g["image_uint8"], geometry)
    assert_close(picture[None, :, ::2, ::2], g["model_input_sub"], 1e-6)
    embedding = sam.encode_slice(picture, lambda: None)
    assert_close(embedding.tensors["image"][:, :8], g["features_sub"])

    points = SlicePrompts(g["point_coords"][:, ::-1].copy(), g["point_labels"])
    low, iou = sam.network.decode(sam._embedding(embedding), sam._prompts(geometry, points), True)
    assert_close(low[0], g["points_low_res"])
    assert_close(iou[0], g["points_iou"])
    assert_close(pictures.sam_scores(low, size, geometry.shape, 128)[0, :, ::2, ::2], g["points_logits"])

    x0, y0, x1, y1 = g["box"].tolist()
    boxed = sam.decode_slice(embedding, geometry, SlicePrompts(box=(y0, x0, y1, x1)))
    assert_close(boxed.logits[None], g["box_low_res"])
    assert_close([boxed.predicted_iou], g["box_iou"])
    assert_close(sam.on_pixels(boxed.logits, geometry)[None, ::2, ::2], g["box_logits"])

    refined = sam.decode_slice(embedding, geometry, SlicePrompts(points.points, points.labels, mask=boxed.logits))
    assert_close(refined.logits[None], g["refine_low_res"])
    assert_close([refined.predicted_iou], g["refine_iou"])
    assert_close(sam.on_pixels(refined.logits, geometry)[None, ::2, ::2], g["refine_logits"])


@needs_fixtures
def test_a_lone_click_takes_the_best_of_three_masks() -> None:
    g = golden(SAM / "golden_predictor.npz")
    sam = SamSlices(reduced_network(), IDENTITY, CPU)
    geometry = SliceGeometry((75, 100), (1.0, 1.0))
    embedding = sam.encode_slice(sam.prepare_slice(g["image_uint8"], geometry), lambda: None)
    click = SlicePrompts(np.array([[40.0, 30.0]]), np.array([1]))
    _, iou = sam.network.decode(sam._embedding(embedding), sam._prompts(geometry, click), True)
    assert sam.decode_slice(embedding, geometry, click).predicted_iou == float(iou.max())


@needs_fixtures
def test_medsam_from_hounsfield_units_to_mask_as_the_original() -> None:
    g = golden(MEDSAM / "golden_pipeline.npz")
    medsam = MedSamSlices(reduced_network(), IDENTITY, CPU)
    hu = g["slice_hu"]
    grey = Contrast(max(-160.0, float(hu.min())), min(240.0, float(hu.max()))).grey(hu)
    np.testing.assert_array_equal(grey, g["windowed_uint8"])
    np.testing.assert_array_equal(pictures.cubic(grey, 128), g["resized_uint8"])
    geometry = SliceGeometry((90, 110), (0.8, 0.8))
    picture = medsam.prepare_slice(grey, geometry)
    for channel in picture:
        assert_close(channel, g["resized_norm_f32"], 1e-6)

    x0, y0, x1, y1 = g["box_xyxy_pixels"][0].tolist()
    prompts = SlicePrompts(box=(y0, x0, y1, x1))
    assert_close(medsam._prompts(geometry, prompts).box, g["box_model"], 1e-6)
    decoded = medsam.decode_slice(medsam.encode_slice(picture, lambda: None), geometry, prompts)
    assert_close(decoded.logits[None, None], g["low_res_logits"])
    low = torch.from_numpy(decoded.logits)[None, None]
    assert_close(pictures.medsam_probabilities(low, (90, 110))[0, 0, ::2, ::2], g["prob_sub"])
    mask = medsam.on_pixels(decoded.logits, geometry) > 0
    wanted = np.unpackbits(g["mask_bits"], count=mask.size).reshape(g["mask_shape"]).astype(bool)
    assert (mask == wanted).mean() >= 0.999


@pytest.mark.parametrize("side", [40, 64, 200])
def test_cubic_is_scikit_images_resize(side: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 70), dtype=np.uint8)
    three = np.repeat(image[..., None], 3, axis=2)
    wanted = transform.resize(three, (side, side), order=3, preserve_range=True, anti_aliasing=True)[..., 0]
    assert (pictures.cubic(image, side) == wanted.astype(np.uint8)).mean() > 0.999


def test_slices_with_oblong_pixels_are_shown_true_to_scale() -> None:
    # 20 slices 5 mm apart, 100 columns of 0.5 mm: 100 mm by 50 mm.
    geometry = SliceGeometry((20, 100), (5.0, 0.5))
    assert pictures.fitted_size(geometry, 128) == (128, 64)
    assert pictures.fitted_size(SliceGeometry((75, 100), (0.8, 0.8)), 1024) == (768, 1024)


@needs_fixtures
@pytest.mark.parametrize("kind", [SamSlices, MedSamSlices])
def test_masks_from_elsewhere_survive_the_models_raster(kind: type[SamSlices]) -> None:
    model = kind(reduced_network(), IDENTITY, CPU)
    geometry = SliceGeometry((60, 50), (1.0, 2.0))
    row, column = np.mgrid[:60, :50]
    mask = np.hypot((row - 30) / 20, (column - 22) / 15) < 1
    back = model.on_pixels(model.as_logits(mask, geometry, 1.5), geometry)
    assert 2 * ((back > 0) & mask).sum() / ((back > 0).sum() + mask.sum()) > 0.95
    assert np.abs(back).max() < 1.6


def test_scores_are_positive_exactly_where_the_probability_exceeds_one_half() -> None:
    p = torch.tensor([0.0, 0.25, 0.5, np.nextafter(np.float32(0.5), np.float32(1)), 0.75, 1.0])
    scores = pictures.as_scores(p)
    assert ((scores > 0) == (p > 0.5)).all() and torch.isfinite(scores).all()


def volume(values: np.ndarray, modality: str | None) -> Volume:
    return Volume(np.ascontiguousarray(values), np.eye(4), modality, "test")


def test_contrast_of_ct_follows_what_was_clicked() -> None:
    values = np.linspace(-1000, 2000, 4 * 8 * 8).astype(np.float32).reshape(4, 8, 8)
    ct = volume(values, "CT")
    assert contrast_of(ct, np.zeros(0)) == contrast_of(ct, np.array([40.0])) == Contrast(-160, 240)
    assert contrast_of(ct, np.array([-800.0])) == Contrast(-1000, 150), "lung; no lower than the volume goes"
    assert contrast_of(ct, np.array([900.0])) == Contrast(-500, 1300)
    assert contrast_of(volume(values, None), np.zeros(0)) == Contrast(-160, 240), "air at -1000: a CT"


def test_contrast_of_mr_is_by_percentiles_of_what_is_not_background() -> None:
    values = np.random.default_rng(0).gamma(2, 50, (6, 20, 20)).astype(np.float32)
    values[:, :8] = 0
    found = contrast_of(volume(values, "MR"), np.array([3.0]))
    low, high = np.percentile(values[values > 0], (0.5, 99.5))
    assert (found.low, found.high, found.zero_stays) == (low, high, True)
    grey = found.grey(values)
    assert (grey[values == 0] == 0).all() and grey.max() == 255
    signed = contrast_of(volume(values - 100, "MR"), np.zeros(0))
    assert not signed.zero_stays and signed.low < -95
