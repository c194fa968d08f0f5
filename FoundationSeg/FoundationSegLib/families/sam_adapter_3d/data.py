# SPDX-License-Identifier: Apache-2.0
"""What the adapter is trained on: crops with one structure each and clicks on it, from a folder or from synthesis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...compact.synthesis import synthesise
from ...errors import FoundationSegError, VolumeError
from ...region import CanonicalFrame, Region, sample_mask
from ...replay import onto_grid
from ...segmentation_io import read_segmentation
from ...volume import Volume
from .intensity import REGION, normalise, resample

BoolArray = npt.NDArray[np.bool_]
MOST_CLICKS = 10
_IMAGES = (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd")
_SEGMENTATION = ".seg.nrrd"
_LABEL_MARKS = ("_label", "-label", "_seg", "-seg", ".label")
_LEAST_VOXELS = 20  # of a structure in a crop; less is not worth a step


@dataclass(frozen=True)
class Sample:
    """A crop (D, H, W) float32, normalised; the structure in it, bool; and clicks (P, 3) as (d, h, w) voxels."""

    image: npt.NDArray[np.float32]
    target: BoolArray
    clicks: npt.NDArray[np.float32]


Source = Callable[[np.random.Generator], Sample]


@dataclass(frozen=True)
class Pair:
    image: Path
    labels: Path


def find_pairs(folder: Path) -> list[Pair]:
    """Images with their labels: `a.nrrd` beside `a.seg.nrrd`, or `a_label.nii.gz` (also -label, _seg, -seg), or the
    same name in the sub-folders `images` and `labels`.

    Raises VolumeError where there is none.
    """
    if not folder.is_dir():
        raise VolumeError(f"There is no folder {folder}; give a folder with images and labels, or 'synthetic'.")
    places = [(folder, folder), (folder / "images", folder / "labels")]
    pairs = []
    for images, labels in places:
        known = {path.name.lower(): path for path in sorted(labels.iterdir())} if labels.is_dir() else {}
        for image in sorted(images.iterdir()) if images.is_dir() else []:
            stem = _stem(image)
            if stem is None or _is_labels(stem, image.name):
                continue
            names = [stem + _SEGMENTATION, *(stem + mark + ending for mark in _LABEL_MARKS for ending in _IMAGES)]
            if images != labels:
                names += [stem + ending for ending in _IMAGES]
            found = next((known[name.lower()] for name in names if name.lower() in known), None)
            if found is not None:
                pairs.append(Pair(image, found))
    if not pairs:
        raise VolumeError(
            f"There is no image with labels in {folder}; put NAME.nrrd beside NAME.seg.nrrd or NAME_label.nrrd (NIfTI "
            "alike), or the same names into the sub-folders images and labels."
        )
    return pairs


def _stem(path: Path) -> str | None:
    name = path.name
    if not path.is_file() or name.startswith(".") or name.lower().endswith(_SEGMENTATION):
        return None
    ending = next((ending for ending in sorted(_IMAGES, key=len, reverse=True) if name.lower().endswith(ending)), None)
    return None if ending is None else name[: -len(ending)]


def _is_labels(stem: str, name: str) -> bool:
    return stem.lower().endswith(_LABEL_MARKS)


def read_pair(pair: Pair) -> tuple[Volume, list[BoolArray]]:
    """The image and the mask (k, j, i) of each structure in it. Raises FoundationSegError where they do not fit."""
    volume = Volume.read(pair.image)
    if pair.labels.name.lower().endswith(_SEGMENTATION):
        file = read_segmentation(pair.labels)
        placed = [onto_grid(file, record.mask, volume) for record in file.records]
        masks = [mask for mask in placed if mask is not None]
        if len(masks) < len(placed):
            raise _misfit(pair)
    else:
        labels = Volume.read(pair.labels)
        if labels.shape != volume.shape or not np.allclose(labels.ijk_to_ras, volume.ijk_to_ras, atol=1e-2):
            raise _misfit(pair)
        masks = [labels.array == value for value in np.unique(labels.array) if value > 0]
    masks = [mask for mask in masks if mask.sum() >= _LEAST_VOXELS]
    if not masks:
        raise VolumeError(f"{pair.labels} holds no structure of {_LEAST_VOXELS} voxels or more; leave it out.")
    return volume, masks


def _misfit(pair: Pair) -> FoundationSegError:
    return VolumeError(
        f"{pair.labels} does not lie on the voxels of {pair.image}; resample the labels onto it, or leave them out."
    )


def from_folder(folder: Path, size: int, intensity: str, spacing_mm: float = 1.0, kept: int = 4) -> Source:
    """Crops of `size`³ points around structures of a folder's images; the images used last stay in memory.

    The scale varies by 0.85 to 1.25, as in the published training, and the structure is anywhere in the crop.
    """
    pairs = find_pairs(folder)
    read = lru_cache(maxsize=kept)(read_pair)

    def draw(rng: np.random.Generator) -> Sample:
        while True:
            volume, masks = read(pairs[int(rng.integers(len(pairs)))])
            frame = CanonicalFrame.of(volume)
            mask = masks[int(rng.integers(len(masks)))]
            where = np.flatnonzero(mask)
            voxel = np.array(np.unravel_index(int(where[int(rng.integers(len(where)))]), mask.shape))
            spacing = spacing_mm * rng.uniform(0.85, 1.25)
            shift = rng.uniform(-0.25, 0.25, 3) * size * spacing
            z, y, x = (frame.from_kji(voxel) + shift).tolist()
            region = Region((z, y, x), spacing, size)
            target = sample_mask(mask, frame, region)
            if target.sum() >= _LEAST_VOXELS:
                values, known = resample(volume, frame, region)
                return _finished(rng, normalise(values, known, intensity), target)

    return draw


def from_synthesis(size: int) -> Source:
    """Crops of the project's own randomised scenes, which have no unit: for the intensity "region" only."""

    def draw(rng: np.random.Generator) -> Sample:
        while True:
            scene = synthesise(rng, size, 1)
            if scene.targets[0].sum() >= _LEAST_VOXELS:
                known = np.ones(scene.image.shape, dtype=bool)
                return _finished(rng, normalise(scene.image, known, REGION), scene.targets[0])

    return draw


def _finished(rng: np.random.Generator, image: npt.NDArray[np.float32], target: BoolArray) -> Sample:
    """Turned and mirrored at random, with 1 to 10 clicks anywhere on the structure."""
    order = tuple(int(axis) for axis in rng.permutation(3))
    flips = tuple(axis for axis in range(3) if rng.random() < 0.5)
    image = np.ascontiguousarray(np.flip(image.transpose(order), flips))
    target = np.ascontiguousarray(np.flip(target.transpose(order), flips))
    where = np.argwhere(target)
    clicks = where[rng.integers(len(where), size=int(rng.integers(1, MOST_CLICKS + 1)))]
    return Sample(image, target, clicks.astype(np.float32))
