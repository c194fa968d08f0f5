# SPDX-License-Identifier: Apache-2.0
"""Planes, the 3-D view, the picture and the table: the same tissue looks and measures the same however it is stored."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from FoundationSegLib import Box, Lasso, OutputError, Point, Scribble, Volume
from FoundationSegLib.measure_table import Measures, extents_mm, format_table, measure_segment, write_table
from FoundationSegLib.picture import _FOOT, _GAP, _HEIGHT, _PANEL, _WIDTH, PictureSegment, write_picture
from FoundationSegLib.slices import (
    AXIAL,
    CORONAL,
    ORIENTATIONS,
    SAGITTAL,
    View,
    choose_view,
    display_range,
    sample_plane,
)
from FoundationSegLib.surface import Camera, interpolate, render
from image_files import GEOMETRIES, OBLIQUE, SHEARED, affine, rotation
from PIL import Image

SHAPE = (24, 30, 36)
CENTRE = (20.0, -30.0, 40.0)
ORANGE, BLUE = (1.0, 0.7, 0.0), (0.3, 0.6, 1.0)


def centred(directions: npt.ArrayLike, shape: tuple[int, int, int] = SHAPE) -> npt.NDArray[np.float64]:
    """A matrix that puts the middle of the grid at CENTRE."""
    matrix = affine(directions)
    matrix[:3, 3] = np.array(CENTRE) - matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return matrix


def positions(matrix: npt.NDArray[np.float64], shape: tuple[int, int, int] = SHAPE) -> npt.NDArray[np.float64]:
    """RAS mm (k, j, i, 3) of all voxel centres."""
    kji = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return kji[..., ::-1] @ matrix[:3, :3].T + matrix[:3, 3]


def scene(
    directions: npt.ArrayLike, radius: float = 14.0, modality: str | None = None
) -> tuple[Volume, npt.NDArray[np.bool_]]:
    """A bright ball at CENTRE, and its mask."""
    matrix = centred(directions)
    ball = np.linalg.norm(positions(matrix) - CENTRE, axis=-1) < radius
    return Volume(np.where(ball, 200, 0).astype(np.int16), matrix, modality), ball


GRIDS: dict[str, Any] = {
    "axial": np.diag([1.5, 1.5, 2.5]),
    "flipped": np.diag([-1.5, -1.5, 2.5]),
    "permuted": np.array([[0, 0, 1.5], [1.5, 0, 0], [0, 2.5, 0]]),
    "oblique": rotation((1, 2, 3), 35) @ np.diag([1.5, 1.5, 2.5]),
    "sheared": np.diag([1.5, 1.5, 2.5]) + np.array([[0, 0, 0.6], [0, 0, -0.4], [0, 0, 0]]),
}
grids = pytest.mark.parametrize("directions", GRIDS.values(), ids=GRIDS)


# --- Planes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("matrix", GEOMETRIES.values(), ids=GEOMETRIES)
@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=lambda o: o.name)
def test_a_plane_shows_the_tissue_at_its_place(matrix: npt.NDArray[np.float64], orientation: Any) -> None:
    """A volume that is linear in space has to come out of linear sampling unchanged, wherever the plane cuts it."""
    shape = (9, 10, 11)
    field = positions(matrix, shape) @ (0.3, -0.2, 0.1)
    volume = Volume(field.astype(np.float32), matrix)
    centre = volume.kji_to_ras((np.array(shape) - 1) / 2)
    points = View(centre, centre, 12.0).points(orientation, 60)
    assert np.ptp(points[:, orientation.normal]) == 0
    shown = sample_plane(volume, volume.array, points, np.nan)
    seen = np.isfinite(shown)
    kji = volume.ras_to_kji(points)
    core = ((kji >= 0) & (kji <= np.array(shape) - 1)).all(axis=1)
    assert core.sum() > 200
    np.testing.assert_allclose(shown[core], points[core] @ (0.3, -0.2, 0.1), atol=1e-3)
    np.testing.assert_array_equal(seen, volume.contains(points))


@grids
def test_a_ball_is_round_in_every_plane(directions: npt.ArrayLike) -> None:
    volume, ball = scene(directions)
    view = View(np.array(CENTRE), np.array(CENTRE), 25.0)
    for orientation in ORIENTATIONS:
        disc = sample_plane(volume, ball, view.points(orientation, 200), 0.0).reshape(200, 200) > 0.5
        pixel = 2 * view.half / 200
        for axis in (0, 1):
            filled = np.flatnonzero(disc.any(axis=axis))
            assert np.ptp(filled) * pixel == pytest.approx(28, abs=3)
            assert filled.mean() == pytest.approx(99.5, abs=6)
        assert disc.sum() * pixel**2 == pytest.approx(np.pi * 14**2, rel=0.1)


def test_planes_go_through_what_there_is_to_see() -> None:
    volume, ball = scene(GRIDS["axial"])
    view = choose_view(volume, [ball], np.zeros((0, 3)))
    assert np.abs(view.centre - CENTRE).max() < 2.6
    assert view.half <= 0.5 * np.ptp(volume.bounds_ras, axis=0).max() + 1e-9
    nothing = choose_view(volume, [np.zeros(SHAPE, bool)], np.zeros((0, 3)))
    np.testing.assert_allclose(nothing.centre, CENTRE)
    clicked = choose_view(volume, [np.zeros(SHAPE, bool)], np.array([[10.0, -40.0, 50.0]]))
    np.testing.assert_allclose(clicked.centre, (10, -40, 50))


def test_two_segments_of_unequal_size_both_count() -> None:
    """The large one must not push the plane to where the small one is not."""
    matrix = centred(np.diag([1.0, 1.0, 1.0]))
    place = positions(matrix) - CENTRE
    large = np.linalg.norm(place, axis=-1) < 11
    small = np.linalg.norm(place - (0, 0, 8), axis=-1) < 2.5
    volume = Volume(large.astype(np.uint8), matrix)
    assert choose_view(volume, [large, small], np.zeros((0, 3))).centre[2] == pytest.approx(CENTRE[2] + 8, abs=1.5)


@pytest.mark.parametrize(
    ("value", "modality", "expected"),
    [(-800, "CT", (-1350, 150)), (40, "CT", (-160, 240)), (700, "CT", (-500, 1300)), (-800, None, (-1350, 150))],
)
def test_a_ct_gets_the_window_of_its_tissue(value: int, modality: str | None, expected: tuple[float, float]) -> None:
    voxels = np.full(SHAPE, -1000, np.int16)
    mask = np.zeros(SHAPE, bool)
    mask[5:9, 5:9, 5:9] = True
    voxels[mask] = value
    volume = Volume(voxels, affine(np.eye(3)), modality)
    assert display_range(volume, [mask], volume.array.ravel().astype(np.float32)) == expected


def test_other_images_are_shown_between_their_own_percentiles() -> None:
    volume, ball = scene(GRIDS["axial"], modality="MR")
    low, high = display_range(volume, [ball], np.arange(1001, dtype=np.float32))
    assert (low, high) == (pytest.approx(5), pytest.approx(995))
    assert display_range(volume, [ball], np.zeros(0, np.float32)) == (0.0, 1.0)


def test_interpolation_is_exact_between_points_and_knows_its_borders() -> None:
    array = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    index = np.array([[0, 0, 0], [1, 2, 3], [0.5, 1.25, 2.75], [-0.01, 0, 0], [0, 2.01, 0]])
    np.testing.assert_allclose(interpolate(array, index, -7), [0, 23, 0.5 * 12 + 1.25 * 4 + 2.75, -7, -7], rtol=1e-6)
    flat = np.full((1, 2, 2), 5, np.int16)
    np.testing.assert_allclose(interpolate(flat, np.array([[0, 0.5, 0.5], [0.1, 0, 0]])), [5, 0])


# --- 3-D -------------------------------------------------------------------------------------------------------------


@grids
def test_a_ball_looks_the_same_however_it_is_stored(directions: npt.ArrayLike) -> None:
    volume, ball = scene(directions)
    picture = render(volume, [ball], [ORANGE], 120)
    assert picture.shape == (120, 120, 4) and picture.min() >= 0 and picture.max() <= 1
    solid = picture[..., 3] > 0.5
    rows, columns = np.nonzero(solid)
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=6)  # a voxel is up to 6 pixels long
    assert solid.sum() == pytest.approx(np.pi / 4 * np.ptp(rows) * np.ptp(columns), rel=0.05)
    assert (rows.mean(), columns.mean()) == (pytest.approx(59.5, abs=2.5), pytest.approx(59.5, abs=2.5))
    lit = picture[..., 0] * solid
    top_left, bottom_right = lit[:60, :60].sum(), lit[60:, 60:].sum()
    assert top_left > 1.3 * bottom_right  # the light comes from the upper left


def test_what_is_in_front_hides_what_is_behind() -> None:
    matrix = centred(np.diag([1.5, 1.5, 1.5]))
    place = positions(matrix) - CENTRE
    front = np.linalg.norm(place - (0, 12, 0), axis=-1) < 7
    back = np.linalg.norm(place - (0, -12, 0), axis=-1) < 7
    volume = Volume(front.astype(np.uint8), matrix)
    straight = Camera(azimuth=0, elevation=0)
    for masks, colors in (([front, back], [ORANGE, BLUE]), ([back, front], [BLUE, ORANGE])):
        middle = render(volume, masks, colors, 80, straight)[40, 40]
        assert middle[3] == 1 and middle[0] > 2 * middle[2]


def test_the_camera_shows_the_patient_s_right_on_the_left_and_the_head_up() -> None:
    matrix = centred(np.diag([1.5, 1.5, 1.5]))
    place = positions(matrix) - CENTRE
    masks = [np.linalg.norm(place - offset, axis=-1) < 5 for offset in ((15, 0, 0), (-15, 0, 0), (0, 0, 12))]
    volume = Volume(masks[0].astype(np.uint8), matrix)
    picture = render(volume, masks, [(1, 0, 0), (0, 1, 0), (0, 0, 1)], 100, Camera(0, 0))

    def place_of(channel: int) -> tuple[float, float]:
        dominant = picture[..., channel] > 2 * np.delete(picture[..., :3], channel, axis=-1).max(axis=-1)
        rows, columns = np.nonzero(dominant & (picture[..., 3] > 0.9))
        return rows.mean(), columns.mean()

    assert place_of(0)[1] < 40 and place_of(1)[1] > 60 and place_of(2)[0] < 40
    rows = Camera(33, 21).rows
    np.testing.assert_allclose(rows @ rows.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.cross(rows[0], rows[1]), rows[2], atol=1e-12)


def test_a_structure_one_voxel_thick_does_not_vanish() -> None:
    matrix = centred(np.diag([1.0, 1.0, 3.0]))
    line = np.zeros(SHAPE, bool)
    line[12, 15, 4:32] = True
    picture = render(Volume(line.astype(np.uint8), matrix), [line], [ORANGE], 100)
    assert (picture[..., 3] > 0.5).sum() > 100


def test_nothing_is_drawn_of_nothing() -> None:
    volume, ball = scene(GRIDS["axial"])
    assert not render(volume, [np.zeros(SHAPE, bool)], [ORANGE], 30).any()
    assert not render(volume, [], [], 30).any()
    both = render(volume, [np.zeros(SHAPE, bool), ball], [BLUE, ORANGE], 30)
    np.testing.assert_array_equal(both, render(volume, [ball], [ORANGE], 30))


# --- The picture -----------------------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer pixels in the planes and in the 3-D view; the page stays the same."""
    monkeypatch.setattr("FoundationSegLib.picture._PIXELS", 200)
    monkeypatch.setattr("FoundationSegLib.picture._SOLID_PIXELS", 100)


def pixels(path: Path) -> npt.NDArray[np.float64]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(np.float64)


def panel(picture: npt.NDArray[np.float64], column: int, row: int) -> npt.NDArray[np.float64]:
    height, width = picture.shape[:2]
    left = (_GAP + column * (_PANEL + _GAP)) / _WIDTH * width
    top = (_HEIGHT - _FOOT - (2 - row) * _PANEL - (1 - row) * _GAP) / _HEIGHT * height
    size = _PANEL / _WIDTH * width
    return picture[round(top) + 2 : round(top + size) - 2, round(left) + 2 : round(left + size) - 2]


@grids
def test_the_planes_follow_radiological_convention(
    tmp_path: Path, directions: npt.ArrayLike, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is right, anterior and superior of the middle lies where a radiologist expects it, and so do clicks."""
    matrix = centred(directions)
    spot = np.array(CENTRE) + 9
    bright = np.linalg.norm(positions(matrix) - spot, axis=-1) < 5
    volume = Volume(np.where(bright, 1000, 0).astype(np.int16), matrix)
    monkeypatch.setattr("FoundationSegLib.picture.choose_view", lambda *_: View(spot, np.array(CENTRE), 25.0))
    click = Point(tuple(spot.tolist()))
    write_picture(tmp_path / "p.png", volume, [PictureSegment("x", np.zeros(SHAPE, bool), (click,))])
    picture = pixels(tmp_path / "p.png")
    for orientation, column, row in ((AXIAL, 0, 0), (CORONAL, 0, 1), (SAGITTAL, 1, 1)):
        shown = panel(picture, column, row)
        grey = (np.ptp(shown, axis=-1) < 3) & (shown[..., 0] > 120)
        grey[:, : shown.shape[1] // 20] = grey[:, -shown.shape[1] // 20 :] = False  # the letters at the edges,
        grey[: shown.shape[0] // 10] = grey[-shown.shape[0] // 10 :] = False  # and the scale
        green = np.abs(shown - (0x35, 0xE0, 0x5A)).max(axis=-1) < 12
        assert green.sum() > 50, orientation.name
        for where in (*np.nonzero(grey), *np.nonzero(green)):
            assert where.mean() / len(shown) == pytest.approx(0.5 - 9 / 50, abs=0.04), orientation.name


def test_the_outline_has_the_size_of_the_mask(tmp_path: Path, small: None) -> None:
    volume, ball = scene(GRIDS["oblique"])
    write_picture(tmp_path / "p.png", volume, [PictureSegment("ball", ball)])
    shown = panel(pixels(tmp_path / "p.png"), 0, 0)
    outline = (shown[..., 0] > 200) & (shown[..., 1] > 130) & (shown[..., 2] < 90)
    rows, columns = np.nonzero(outline)
    half = choose_view(volume, [ball], np.zeros((0, 3))).half
    for where in (rows, columns):
        assert np.ptp(where) / shown.shape[0] * 2 * half == pytest.approx(28, abs=3.5)


def test_every_kind_of_prompt_and_any_name_can_be_drawn(tmp_path: Path, small: None) -> None:
    volume, ball = scene(GRIDS["oblique"], modality="CT")
    prompts = (
        Point(CENTRE),
        Point((0, -30, 40), positive=False),
        Box((10, -40, 30), (30, -20, 50)),
        Scribble(((15, -30, 40), (25, -28, 40))),
        Lasso(((15, -30, 40), (25, -28, 40), (20, -20, 40))),
    )
    names = ["$x^", "肝臓", "a" * 60, "b" * 60, *"cdefg"]
    segments = [PictureSegment(name, ball, prompts if n == 0 else (), "7 mL") for n, name in enumerate(names)]
    write_picture(tmp_path / "p.png", volume, segments, "$ title", "100 % $\\frac")
    assert pixels(tmp_path / "p.png").std() > 10


def test_an_empty_result_still_gives_a_picture(tmp_path: Path, small: None) -> None:
    volume, _ = scene(GRIDS["axial"])
    write_picture(tmp_path / "p.png", volume, [PictureSegment("nothing", np.zeros(SHAPE, bool), (Point(CENTRE),))])
    write_picture(tmp_path / "q.png", volume, [])
    assert pixels(tmp_path / "p.png").shape == pixels(tmp_path / "q.png").shape


def test_the_picture_is_the_same_twice_and_replaces_only_when_whole(
    tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume, ball = scene(GRIDS["axial"])
    path = tmp_path / "p.png"
    write_picture(path, volume, [PictureSegment("ball", ball)])
    first = path.read_bytes()
    write_picture(path, volume, [PictureSegment("ball", ball)])
    assert path.read_bytes() == first

    def fail(self: Any, file: Any, **_: Any) -> None:
        file.write(b"half of a")
        raise KeyboardInterrupt

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    with pytest.raises(KeyboardInterrupt):
        write_picture(path, volume, [PictureSegment("ball", ball)])
    assert path.read_bytes() == first and list(tmp_path.iterdir()) == [path]


def test_only_png_and_only_where_there_is_a_folder(tmp_path: Path, small: None) -> None:
    volume, ball = scene(GRIDS["axial"])
    with pytest.raises(OutputError, match=r"\.png"):
        write_picture(tmp_path / "p.jpg", volume, [PictureSegment("ball", ball)])
    with pytest.raises(OutputError, match="folder does not exist"):
        write_picture(tmp_path / "no" / "p.png", volume, [PictureSegment("ball", ball)])


def test_the_picture_leaves_other_programs_drawings_alone() -> None:
    """Neither pyplot nor a backend for windows is loaded: a program that draws itself keeps its own settings."""
    code = (
        "import sys, numpy as np, tempfile, os\n"
        "from FoundationSegLib import Volume\n"
        "from FoundationSegLib.picture import PictureSegment, write_picture\n"
        "mask = np.zeros((4, 4, 4), bool); mask[1:3, 1:3, 1:3] = True\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    volume = Volume(mask.astype('uint8'), np.diag([9.0, 9, 9, 1]))\n"
        "    write_picture(os.path.join(folder, 'p.png'), volume, [PictureSegment('x', mask)])\n"
        "print('matplotlib.pyplot' in sys.modules, any('backend_tk' in m or 'backend_qt' in m for m in sys.modules))"
    )
    module = Path(__file__).resolve().parents[2]
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=module, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.stdout.split() == ["False", "False"], result.stderr


# --- The table -------------------------------------------------------------------------------------------------------


def test_a_box_of_voxels_measures_its_edges_and_volume() -> None:
    volume = Volume(np.arange(np.prod(SHAPE)).reshape(SHAPE) % 100, affine(np.diag([-0.5, 2.0, 3.0])), "CT")
    mask = np.zeros(SHAPE, bool)
    mask[2:4, 5:10, 7:17] = True
    row = measure_segment(volume, "box", mask)
    assert (row.extent_r_mm, row.extent_a_mm, row.extent_s_mm) == pytest.approx((5.0, 10.0, 6.0))
    assert (row.voxels, row.volume_ml, row.unit) == (100, pytest.approx(0.3), "HU")
    assert (row.mean, row.std) == (pytest.approx(volume.array[mask].mean()), pytest.approx(volume.array[mask].std()))


@pytest.mark.parametrize("matrix", [OBLIQUE, SHEARED], ids=["oblique", "sheared"])
def test_extents_hold_every_corner_of_every_voxel(matrix: npt.NDArray[np.float64]) -> None:
    volume = Volume(np.arange(np.prod(SHAPE)).reshape(SHAPE), matrix)
    mask = np.random.default_rng(3).random(SHAPE) > 0.995
    corners = (np.argwhere(mask)[:, None] + np.stack(np.meshgrid(*[[-0.5, 0.5]] * 3), axis=-1).reshape(-1, 3)).reshape(
        -1, 3
    )
    np.testing.assert_allclose(extents_mm(volume, mask), np.ptp(volume.kji_to_ras(corners), axis=0))
    assert measure_segment(volume, "x", mask).volume_ml == pytest.approx(mask.sum() * volume.voxel_volume_ml)


def test_only_a_ct_has_hounsfield_units_and_nothing_has_no_mean() -> None:
    volume, ball = scene(GRIDS["axial"], modality="MR")
    assert measure_segment(volume, "x", ball).unit == ""
    assert "HU" not in format_table([measure_segment(volume, "x", ball)])
    empty = measure_segment(volume, "x", np.zeros(SHAPE, bool))
    assert empty == Measures("x", 0, 0.0, None, None, None, None, None, "")
    assert format_table([empty]).splitlines()[-1].split() == ["x", "0"]


def test_the_table_can_be_read_again(tmp_path: Path) -> None:
    volume, ball = scene(GRIDS["oblique"], modality="CT")
    row = measure_segment(volume, 'Tumour, "left" lung ä\n2', ball)
    write_table(tmp_path / "t.csv", [row, measure_segment(volume, "empty", ~volume.array.astype(bool) & ball)])
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert (
        first["segment"] == row.segment
        and float(first["mean"]) == row.mean
        and float(first["volume_ml"]) == row.volume_ml
    )
    assert second["mean"] == "" and second["voxels"] == "0"
