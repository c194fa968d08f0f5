# SPDX-License-Identifier: Apache-2.0
"""What a user of 3D Slicer has today without a download, and two references that any method has to beat.

Every function takes the voxels (k, j, i), their grid and the prompts so far, and gives a mask of the whole volume.
None keeps a state: undoing a click is giving one fewer. See `regions` for the region and the seeds they share.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from . import regions
from .metrics import BoolArray
from .regions import FOREGROUND, FloatArray, Grid, Prompts, Workspace

if TYPE_CHECKING:
    from FoundationSegLib.volume import Volume

# The random walker's and the shared settings (seed radius, margin, grid) were chosen in the peers' favour on fourteen
# of the very structures they are measured on; the random walker's default (beta 130, no smoothing, smaller seeds)
# scored 0.11 to 0.25 Dice less there. A finer grid than these moved no mean up by more than 0.02.
GROW_BUDGET = 80**3
REGION_GROWING_BUDGET = 64**3
WALKER_BUDGET = 56**3
SEED_RADIUS_MM = 5.0
BALL_RADIUS_MM = 15.0
WALKER_BETA = 5000.0
WALKER_SMOOTHING_VOXELS = 0.6
WALKER_TOLERANCE = 1e-2
# The defaults of Slicer's own module "Simple Region Growing Segmentation".
GROWING_SMOOTHING_ITERATIONS = 5
GROWING_TIME_STEP = 0.0625
GROWING_ITERATIONS = 5
GROWING_MULTIPLIER = 2.5
GROWING_NEIGHBOURHOOD = 1

Baseline = Callable[[NDArray[Any], Grid, Prompts], BoolArray]


def box_only(array: NDArray[Any], grid: Grid, prompts: Prompts) -> BoolArray:
    """Everything inside the given box; clicks change nothing. Raises ValueError without a box."""
    if prompts.box is None:
        raise ValueError("the bare box needs a box")
    return grid.inside_box(prompts.box)


def balls(array: NDArray[Any], grid: Grid, prompts: Prompts) -> BoolArray:
    """Every voxel within 15 mm of a click takes the sign of its nearest click; the rest is the box, or empty."""
    result: BoolArray = np.zeros(grid.shape, bool) if prompts.box is None else grid.inside_box(prompts.box)
    if not prompts.clicks:
        return result
    at = grid.to_kji(np.array([ras for ras, _ in prompts.clicks]))
    reach = BALL_RADIUS_MM / grid.spacing_kji
    low = np.clip(np.floor(at.min(axis=0) - reach), 0, np.array(grid.shape) - 1).astype(int)
    high = np.clip(np.ceil(at.max(axis=0) + reach) + 1, low + 1, grid.shape).astype(int)
    part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    squared = {sign: np.full(tuple(high - low), np.inf) for sign in (True, False)}
    for centre, (_, positive) in zip(at, prompts.clicks, strict=True):
        axes = [
            ((np.arange(a, b) - c) * s) ** 2 for a, b, c, s in zip(low, high, centre, grid.spacing_kji, strict=True)
        ]
        distance = axes[0][:, None, None] + axes[1][None, :, None] + axes[2][None, None, :]
        np.minimum(squared[positive], distance, out=squared[positive])
    near = np.minimum(squared[True], squared[False]) <= BALL_RADIUS_MM**2
    result[part] = np.where(near, squared[True] <= squared[False], result[part])
    return result


def grow_from_seeds(array: NDArray[Any], grid: Grid, prompts: Prompts) -> BoolArray:
    """Segment Editor's "Grow from seeds": Slicer's own filter, `vtkImageGrowCutSegment`, at its default settings."""
    from vtkmodules.util import numpy_support
    from vtkmodules.vtkCommonDataModel import vtkImageData

    growing_class = _growcut_class()
    convert: Any = numpy_support  # its functions carry no types
    work = Workspace(array, grid, prompts, GROW_BUDGET)

    def image(values: NDArray[Any]) -> Any:
        data = vtkImageData()
        data.SetDimensions(*values.shape[::-1])
        data.SetSpacing(*work.spacing[::-1].tolist())
        data.GetPointData().SetScalars(convert.numpy_to_vtk(np.ascontiguousarray(values).ravel(), deep=True))
        return data

    growing = growing_class()
    growing.SetIntensityVolume(image(work.image))
    growing.SetSeedLabelVolume(image(work.seeds(SEED_RADIUS_MM).astype(np.int16)))
    growing.Update()
    labels = convert.vtk_to_numpy(growing.GetOutput().GetPointData().GetScalars()).reshape(work.shape)
    return work.back(labels == FOREGROUND)


def _growcut_class() -> Any:
    """Slicer's filter from slicer-core. The scene is not needed, so no Slicer is started."""
    return importlib.import_module("slicer_core.vtkSlicerSegmentationsModuleLogic").vtkImageGrowCutSegment


def random_walker(array: NDArray[Any], grid: Grid, prompts: Prompts) -> BoolArray:
    """Random walker (Grady 2006; scikit-image) between the seeds.

    The intensities are lightly smoothed and clipped to their 1st to 99th percentile.
    """
    from skimage.segmentation import random_walker as walk

    work = Workspace(array, grid, prompts, WALKER_BUDGET)
    image = ndimage.gaussian_filter(work.image, WALKER_SMOOTHING_VOXELS)
    low, high = np.percentile(image, (1, 99))
    image = np.clip((image - low) / max(float(high - low), 1e-6), 0, 1)
    seeds = work.seeds(SEED_RADIUS_MM)
    if not (seeds == FOREGROUND).any() or not (seeds != FOREGROUND).any() or (seeds != 0).all():
        return work.back(seeds == FOREGROUND)
    with warnings.catch_warnings():
        # It warns about a missing pyamg and about its own rounding; neither changes what is measured here.
        warnings.simplefilter("ignore", UserWarning)
        probability = walk(
            image,
            seeds.astype(np.int32),
            beta=WALKER_BETA,
            mode="cg_j",
            tol=WALKER_TOLERANCE,
            return_full_prob=True,
            spacing=tuple(work.spacing / work.spacing.min()),
            prob_tol=1.0,
        )
    return work.back(probability[0])


def confidence_connected(array: NDArray[Any], grid: Grid, prompts: Prompts) -> BoolArray:
    """Slicer's "Simple Region Growing": curvature flow, then ITK's ConfidenceConnected from all positive clicks.

    The filter knows no negative clicks: of what it grew, the voxels that a path through the grown region reaches
    sooner (in mm) from a negative click than from a positive one are taken away again. A box cuts the result; a box
    without a click starts at its centre.
    """
    import SimpleITK

    itk: Any = SimpleITK  # its functions carry no types
    work = Workspace(array, grid, prompts, REGION_GROWING_BUDGET)
    positives = [work.nearest(ras) for ras, positive in prompts.clicks if positive]
    negatives = [work.nearest(ras) for ras, positive in prompts.clicks if not positive]
    if not positives and prompts.box is not None:
        positives = [work.nearest((prompts.box[0] + prompts.box[1]) / 2)]
    if not positives:
        return np.zeros(grid.shape, bool)
    image = itk.GetImageFromArray(work.image)
    image.SetSpacing(work.spacing[::-1].tolist())
    image = itk.CurvatureFlow(image, GROWING_TIME_STEP, GROWING_SMOOTHING_ITERATIONS)
    grown = itk.ConfidenceConnected(
        image, [place[::-1] for place in positives], GROWING_ITERATIONS, GROWING_MULTIPLIER, GROWING_NEIGHBOURHOOD
    )
    mask = itk.GetArrayFromImage(grown) != 0
    for place in positives:
        mask[place] = True
    if negatives:
        mask = _nearer_to_positives(mask, positives, negatives, work.spacing)
    outside = work.outside_box()
    return work.back(mask if outside is None else mask & ~outside)


def _nearer_to_positives(
    mask: BoolArray, positives: list[tuple[int, int, int]], negatives: list[tuple[int, int, int]], spacing: Any
) -> BoolArray:
    """The voxels of a mask whose shortest way (mm) inside the mask comes from a positive seed."""
    from skimage.graph import MCP_Geometric

    # A negative click beside the grown region acts from the region's nearest edge: let paths start there.
    costs = np.where(mask, 1.0, np.inf)
    for place in negatives:
        costs[place] = 1.0
    to_positive, _ = MCP_Geometric(costs, sampling=tuple(spacing)).find_costs(positives)
    to_negative, _ = MCP_Geometric(costs, sampling=tuple(spacing)).find_costs(negatives)
    result = mask & (to_positive < to_negative)
    for place in negatives:
        result[place] = False
    return np.asarray(result)


BASELINES: dict[str, Baseline] = {
    "grow-from-seeds": grow_from_seeds,
    "random-walker": random_walker,
    "region-growing": confidence_connected,
    "balls-15mm": balls,
    "box": box_only,
}


def settings(name: str) -> dict[str, Any]:
    """The constants that decide a peer's result, for the report and for the cache's key."""
    shared = {
        "click_margin_mm": regions.CLICK_MARGIN_MM,
        "box_margin_share": regions.BOX_MARGIN_SHARE,
        "seed_radius_mm": SEED_RADIUS_MM,
    }
    own: dict[str, dict[str, Any]] = {
        "grow-from-seeds": {**shared, "voxels": GROW_BUDGET},
        "random-walker": {
            **shared,
            "voxels": WALKER_BUDGET,
            "beta": WALKER_BETA,
            "smoothing_voxels": WALKER_SMOOTHING_VOXELS,
            "tolerance": WALKER_TOLERANCE,
        },
        "region-growing": {
            "click_margin_mm": regions.CLICK_MARGIN_MM,
            "box_margin_share": regions.BOX_MARGIN_SHARE,
            "voxels": REGION_GROWING_BUDGET,
            "smoothing_iterations": GROWING_SMOOTHING_ITERATIONS,
            "time_step": GROWING_TIME_STEP,
            "iterations": GROWING_ITERATIONS,
            "multiplier": GROWING_MULTIPLIER,
            "neighbourhood": GROWING_NEIGHBOURHOOD,
        },
        "balls-15mm": {"radius_mm": BALL_RADIUS_MM},
    }
    return own.get(name, {})


class Peer:
    """One of these functions as a method (see `methods.Method`): it sees all prompts so far each time."""

    cacheable = True

    def __init__(self, name: str, function: Baseline) -> None:
        self.name = name
        self.needs_box = name == "box"
        self._function = function
        self._array: NDArray[Any] = np.empty((0, 0, 0))
        self._grid = Grid((0, 0, 0), np.eye(4))
        self._prompts = Prompts()

    def settings(self) -> dict[str, Any]:
        return settings(self.name)

    def open(self, volume: Volume) -> None:
        self._array = volume.array
        self._grid = Grid(volume.shape, np.asarray(volume.ijk_to_ras))

    def begin(self) -> None:
        self._prompts = Prompts()

    def box(self, low: FloatArray, high: FloatArray) -> BoolArray:
        self._prompts.box = (low, high)
        return self._function(self._array, self._grid, self._prompts)

    def click(self, ras: FloatArray, positive: bool) -> BoolArray:
        self._prompts.clicks.append((ras, positive))
        return self._function(self._array, self._grid, self._prompts)

    def stroke(self, points: FloatArray, positive: bool) -> BoolArray:
        """A stroke is many clicks at once, each with its ball of seeds, as a brush of that size would leave."""
        self._prompts.clicks += [(point, positive) for point in points]
        return self._function(self._array, self._grid, self._prompts)

    def predicted_iou(self) -> float | None:
        return None

    def end(self) -> None:
        self._prompts = Prompts()
