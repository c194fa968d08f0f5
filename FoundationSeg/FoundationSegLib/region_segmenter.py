# SPDX-License-Identifier: Apache-2.0
"""From prompts to a mask by models that see a cube: where to look, at what scale, and what of the answer to keep.

A model sees a cube of fixed grid size. This module lays that cube around what is known of the structure, lets it grow
where the mask touches a face, and lays it anew, finer, where the mask turns out small. All lengths are millimetres.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .cues import Cues, cues_of, inside_box
from .errors import PromptError
from .predictor import Array, CancelToken, Decoded, EmbeddingCache, ModelIdentity, Predictor, Progress
from .prompts import MaskPrompt, Point, Round, Scribble
from .region import Box3, CanonicalFrame, Region, regrid, sample_mask, squared_distances, to_voxels
from .segmenter import Prediction
from .volume import Volume
from .walker import second_opinion

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
# Beyond the region of the round before nothing is known but that the structure was not thought to reach there.
_OUTSIDE_LOGIT = -4.0
_CERTAIN_LOGIT = 8.0


@dataclass(frozen=True)
class RegionPolicy:
    """How the region follows the structure."""

    spacing_mm: float | None = None  # between grid points, for models of one scale; the region may grow, never shrink
    context: float = 1.6  # edge of the region over the largest extent of the structure
    smallest_mm: float = 16.0
    first_mm: float = 16.0  # finest scale that a lone click is tried at
    search_size: int | None = None  # points per edge of the grids on which a lone click's scale is sought
    scale_step: float = 2.5  # between the scales that a lone click is tried at
    size_prior: float = 0.5  # a lone click's answers count for less the larger their region, by this power of its edge
    scale_blend: float = 0.0  # power of the merit by which all scales' answers are averaged; 0 is the best one alone
    walker_share: float = 0.0  # of the random walker's answer in the mean with the model's, after many clicks
    walker_reach: float = 50.0  # what lies farther from the clicks in the model's mask speaks against asking the walker
    touch: float = 0.01  # share of a face's grid points in the mask from which the region grows
    grow: float = 1.6
    zoom: float = 0.7  # the region is laid anew when this share of its edge would do
    most_passes: int = 3  # grow or zoom passes per prompt
    surplus: float = 2.0  # a negative click clears this many times its depth in the mask at most; 0 is up to the model


@dataclass(frozen=True, kw_only=True)
class RegionPrediction(Prediction):
    """A prediction with what the next round goes on from.

    `logits` (size, size, size) on the region's grid; `doubt` in [0, 1]: how far clicks have shown that the model does
    not know this structure.
    """

    region: Region
    logits: Array
    doubt: float = 0.0


@dataclass(frozen=True)
class RegionModel:
    """A model of a family that sees cubes."""

    predictor: Predictor
    policy: RegionPolicy = field(default_factory=RegionPolicy)
    quality: Callable[[float], float] | None = None  # from the network's predicted IoU to the one to be expected

    @property
    def identity(self) -> ModelIdentity:
        return self.predictor.identity

    def segmenter(self, volume: Volume, cache: EmbeddingCache) -> RegionSegmenter:
        return RegionSegmenter(volume, self.predictor, cache, self.policy, self.quality)


class RegionSegmenter:
    """Applies one predictor to one volume (see `Segmenter`)."""

    def __init__(
        self,
        volume: Volume,
        predictor: Predictor,
        cache: EmbeddingCache,
        policy: RegionPolicy | None = None,
        quality: Callable[[float], float] | None = None,
    ) -> None:
        self.volume = volume
        self.predictor = predictor
        self.cache = cache
        self.policy = policy or RegionPolicy()
        self.quality = quality
        self.frame = CanonicalFrame.of(volume)
        n = predictor.grid_size
        # Points that are closer than half a voxel show nothing new.
        self._least = max(self.policy.smallest_mm, n * 0.5 * min(self.frame.spacing))
        if self.policy.spacing_mm is not None:
            self._least = n * self.policy.spacing_mm

    def predict(
        self,
        rounds: tuple[Round, ...],
        previous: Prediction | None,
        cancel: CancelToken | None = None,
        progress: Progress | None = None,
    ) -> RegionPrediction:
        """See `Segmenter`."""
        assert previous is None or isinstance(previous, RegionPrediction)
        cues = cues_of([prompt for round_ in rounds for prompt in round_], self.volume, self.frame)
        start = self._given_mask(rounds[-1])
        if not cues.has_positive and previous is None and start is None:
            raise PromptError("All prompts are negative; mark the structure itself with at least one positive prompt.")
        run = _Run(self, cues, cancel or CancelToken(), progress)
        if start is not None:
            region = self._around(self._mask_bounds(start))
            logits = np.where(sample_mask(start, self.frame, region), np.float32(4), np.float32(-4))
            decoded = run.decode(region, logits)
        elif previous is not None:
            run.doubt = max(previous.doubt, self._doubt(rounds[-1], previous))
            previous = replace(previous, logits=self._without_surplus(previous, cues))
            region = self._following(previous, cues)
            decoded = run.decode(region, self._carried(previous, region))
            region, decoded = run.settle(region, decoded)
            decoded = run.counselled(region, decoded)
            return run.finish(region, run.attached(self._one_way(rounds[-1], previous, region, decoded), region))
        elif (bounds := cues.bounds()) is not None and self._has_extent(cues, bounds):
            region = self._around(bounds)
            decoded = run.decode(region, None)
        else:
            region, decoded = run.search()
        region, decoded = run.refine(*run.settle(region, decoded))
        return run.finish(region, run.attached(run.counselled(region, run.blend(region, decoded)), region))

    def uncertainty(self, prediction: Prediction) -> Array:
        """1 - |2p - 1| per voxel of the prediction's `region_box`, (k, j, i), for the model's probability p."""
        assert isinstance(prediction, RegionPrediction)
        logits = to_voxels(prediction.logits, self.frame, prediction.region, prediction.region.voxel_box(self.frame))
        return _to_array_axes(1 - np.abs(np.tanh(logits / 2)), self.frame)

    def _given_mask(self, round_: Round) -> BoolArray | None:
        masks = [prompt.array for prompt in round_ if isinstance(prompt, MaskPrompt) and prompt.positive]
        return np.logical_or.reduce(masks) if masks else None

    def _has_extent(self, cues: Cues, bounds: FloatArray) -> bool:
        """Do the prompts show how large the structure is? A box does, and so do clicks far apart."""
        return bool(cues.boxes) or float((bounds[1] - bounds[0]).max()) > 2 * self.policy.first_mm

    def _around(self, bounds: FloatArray) -> Region:
        """The region around canonical bounds (2, 3) in mm."""
        return self._region(bounds.mean(0), float((bounds[1] - bounds[0]).max()) * self.policy.context)

    def _mask_bounds(self, mask: BoolArray) -> FloatArray:
        ends = _ends(self.frame.canonical_view(mask).astype(bool, copy=False))
        assert ends is not None  # a mask prompt is never empty
        return ends * np.array(self.frame.spacing)

    def _region(self, centre: FloatArray, side: float) -> Region:
        """A region of at least `side` mm, on a ladder of sizes and a lattice of places, to be met again."""
        n = self.predictor.grid_size
        most = max(float(self.frame.extent_mm.max()), self._least)
        rungs = np.ceil(round(np.log(max(side, self._least) / self._least) / np.log(1.25), 6))
        side = min(self._least * 1.25**rungs, most)
        spacing = side / n
        lattice = 4 * spacing
        middle = (np.array(self.frame.shape) - 1) / 2 * np.array(self.frame.spacing)
        # Offsets are counted from the middle of the volume, which is the same place however the volume is stored.
        offset = np.round((np.asarray(centre) - middle) / lattice, 6)
        snapped = np.sign(offset) * np.floor(np.abs(offset) + 0.5) * lattice
        room = np.maximum((self.frame.extent_mm - side) / 2, 0)
        z, y, x = (middle + np.clip(snapped, -room, room)).tolist()
        return Region((z, y, x), spacing, n)

    def _following(self, previous: RegionPrediction, cues: Cues) -> Region:
        """The region of the round before while it still fits, since its embedding is at hand."""
        bounds = cues.bounds()
        points = cues.positions if bounds is None else np.concatenate([cues.positions, bounds])
        if previous.region.contains(points, margin=2 * previous.region.spacing):
            return previous.region
        known = _grid_bounds(previous.logits > 0, previous.region)
        everything = np.concatenate([points, known] if known is not None else [points])
        return self._around(np.stack([everything.min(0), everything.max(0)]))

    def _without_surplus(self, previous: RegionPrediction, cues: Cues) -> Array:
        """The logits of the round before without what negative clicks in its mask say is too much.

        People click in the middle of what is wrong, so a click deep in the mask means much and one under its surface
        little: cleared is what lies nearer to the negative click than to any positive one, as far as a multiple of the
        depth of the click in the mask. The model alone would often keep what looks like the structure itself.
        """
        mask, grid = previous.logits > 0, cues.on_grid(previous.region)
        positive = grid.point_coords[grid.point_labels == 1]
        surplus = np.zeros_like(mask)
        if len(positive) == 0 or mask.all() or self.policy.surplus == 0:
            return previous.logits
        to_positive = np.min([squared_distances(mask.shape[0], c) for c in positive], axis=0)
        for coordinate in grid.point_coords[grid.point_labels == 0]:
            place = tuple(np.rint(coordinate).astype(int))
            if all(0 <= p < n for p, n in zip(place, mask.shape, strict=True)) and mask[place]:
                distance = squared_distances(mask.shape[0], coordinate)
                reach = self.policy.surplus**2 * distance[~mask].min()
                surplus |= distance < np.minimum(to_positive, reach)
        return np.where(surplus & mask, np.float32(_OUTSIDE_LOGIT), previous.logits)

    def _doubt(self, round_: Round, previous: RegionPrediction) -> float:
        """How much of the mask the newest negative clicks take away: their depth in it over half of its radius.

        A click on a leak lies just under the surface; one in the middle of what is no part of the structure lies deep.
        """
        mask = previous.logits > 0
        if self.policy.walker_share == 0 or not mask.any() or mask.all():
            return 0.0
        radius = (3 * float(mask.sum()) / (4 * np.pi)) ** (1 / 3)
        grid = cues_of(round_, self.volume, self.frame).on_grid(previous.region)
        deepest = 0.0
        for coordinate in grid.point_coords[grid.point_labels == 0]:
            if mask[tuple(np.clip(np.rint(coordinate).astype(int), 0, mask.shape[0] - 1))]:
                deepest = max(deepest, float(squared_distances(mask.shape[0], coordinate)[~mask].min()) ** 0.5)
        return min(1.0, 2 * deepest / radius)

    def _one_way(self, round_: Round, previous: RegionPrediction, region: Region, decoded: Decoded) -> Decoded:
        """Lets clicks on the structure only add, and clicks beside it only take away; what they do not mean stays.

        Rounds of both signs, and those with a box, a lasso or a mask, may change everything.
        """
        signs = {prompt.positive if isinstance(prompt, Point | Scribble) else None for prompt in round_}
        if len(signs) != 1 or None in signs:
            return decoded
        bound = np.maximum if signs.pop() else np.minimum
        return replace(decoded, logits=bound(decoded.logits, self._carried(previous, region)))

    def _carried(self, previous: RegionPrediction, region: Region) -> Array:
        if region == previous.region:
            return previous.logits
        return regrid(previous.logits, previous.region, region, _OUTSIDE_LOGIT)


class _Run:
    """One prediction: its stages, their timings, and the places where it can be cancelled."""

    def __init__(self, owner: RegionSegmenter, cues: Cues, cancel: CancelToken, progress: Progress | None) -> None:
        self.owner, self.cues, self.cancel, self.progress = owner, cues, cancel, progress
        self.policy = owner.policy
        self.size = owner.predictor.grid_size
        self.timings: dict[str, float] = {}
        self.passes = 0
        self.tried: list[tuple[Region, Decoded]] = []  # by `search`, the one it chose first
        self.doubt = 0.0

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        self.cancel.check()
        if self.progress is not None:
            self.progress(name, min(0.95, self.passes / (self.passes + 2)))
        start = time.perf_counter()
        yield
        self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - start

    def decode(self, region: Region, previous_logits: Array | None) -> Decoded:
        owner, predictor = self.owner, self.owner.predictor

        def embed() -> object:
            with self._stage("crop"):
                prepared = predictor.prepare(owner.volume, owner.frame, region)
            with self._stage("encode"):
                return predictor.encode(prepared)

        embedding = owner.cache.get(region, embed)  # type: ignore[arg-type]
        with self._stage("decode"):
            decoded = predictor.decode(embedding, self.cues.on_grid(region), previous_logits)
        self.passes += 1
        return self.attached(decoded, region)

    def search(self) -> tuple[Region, Decoded]:
        """A lone click does not say how large the structure is: try several scales, and the model judges.

        On coarse grids, where the policy names them; `refine` ends that.
        """
        self.size = self.policy.search_size or self.size
        clicks = self.cues.positions[self.cues.labels == 1]
        centre = (clicks.min(0) + clicks.max(0)) / 2
        side = self.policy.first_mm
        while True:
            region = self.owner._region(centre, side).with_size(self.size)
            decoded = self.decode(region, None)
            self.tried.append((region, decoded))
            if self.policy.spacing_mm is not None or region.side >= float(self.owner.frame.extent_mm.max()) - 1e-6:
                break
            side *= self.policy.scale_step
        self.tried.sort(key=lambda pair: self._merit(*pair), reverse=True)
        return self.tried[0]

    def _merit(self, region: Region, decoded: Decoded) -> float:
        quality = decoded.predicted_iou if decoded.predicted_iou is not None else 0.5
        cut = self._touched(decoded.logits, region)
        return quality * (0.5 if cut else 1.0) * region.side**-self.policy.size_prior

    def settle(self, region: Region, decoded: Decoded) -> tuple[Region, Decoded]:
        """Grows the region while the mask touches its faces, or lays it closer around a mask that is small in it."""
        grown = False
        for _ in range(self.policy.most_passes):
            bounds = _grid_bounds(decoded.logits > 0, region)
            if bounds is None:
                break
            if self._touched(decoded.logits, region):
                wanted = self.owner._region(bounds.mean(0), region.side * self.policy.grow)
                grown = True
            elif not grown:
                cue_bounds = self.cues.bounds()
                if cue_bounds is not None:
                    bounds = np.stack([np.minimum(bounds[0], cue_bounds[0]), np.maximum(bounds[1], cue_bounds[1])])
                wanted = self.owner._around(bounds)
                if wanted.side > self.policy.zoom * region.side:
                    break
            else:
                break
            wanted = wanted.with_size(self.size)
            if wanted == region:
                break
            decoded = self.decode(wanted, regrid(decoded.logits, region, wanted, _OUTSIDE_LOGIT))
            region = wanted
        return region, decoded

    def refine(self, region: Region, decoded: Decoded) -> tuple[Region, Decoded]:
        """The answer of a search on the grid that masks are made on."""
        fine = region.with_size(self.owner.predictor.grid_size)
        if fine == region:
            return region, decoded
        return fine, self.decode(fine, None)

    def blend(self, region: Region, decoded: Decoded) -> Decoded:
        """The mean over the scales that were tried, the chosen one by its final answer.

        Which scale is meant, a lone click leaves open; the mean of the probabilities keeps what most of them share.
        """
        if not self.policy.scale_blend or not self.tried:
            return decoded
        total, weights = np.zeros_like(decoded.logits), 0.0
        for number, (tried, answer) in enumerate(self.tried):
            weight = self._merit(tried, answer) ** self.policy.scale_blend
            logits = decoded.logits if number == 0 else regrid(answer.logits, tried, region, -_CERTAIN_LOGIT)
            total += np.float32(weight) / (1 + np.exp(-logits))
            weights += weight
        return replace(decoded, logits=to_logits(total / np.float32(weights)))

    def counselled(self, region: Region, decoded: Decoded) -> Decoded:
        """The mean of the model's probabilities and the random walker's (see `walker`).

        The walker's world ends near the clicks. It is asked about what is small, and where clicks have shown that the
        model is wrong; a lone click leaves more to the model, which knows sizes.
        """
        most = self.policy.walker_share * (1 - 0.5 ** len(self.cues.labels))
        if most == 0 or self.cues.boxes:  # with a box the two together were measured to be no better
            return decoded
        share = most * max(self._near(region, decoded), self.doubt)
        if share < 0.01:
            return decoded
        with self._stage("walker"):
            opinion = second_opinion(self.owner.volume, self.owner.frame, self.cues, region)
        if opinion is None:
            return decoded
        mean = (1 - np.float32(share)) / (1 + np.exp(-decoded.logits)) + np.float32(share) * opinion
        return replace(decoded, logits=to_logits(mean))

    def _near(self, region: Region, decoded: Decoded) -> float:
        """The share of the mask that lies within the walker's reach of a positive click."""
        mask, grid = decoded.logits > 0, self.cues.on_grid(region)
        clicks = grid.point_coords[grid.point_labels == 1]
        if not mask.any() or len(clicks) == 0:
            return 0.0
        nearest = np.min([squared_distances(region.size, click) for click in clicks], axis=0)
        return float((nearest[mask] <= (self.policy.walker_reach / region.spacing) ** 2).mean())

    def _touched(self, logits: Array, region: Region) -> bool:
        """Does the mask reach a face of the region beyond which the volume goes on?"""
        mask = logits > 0
        end = (np.array(self.owner.frame.shape) - 1) * np.array(self.owner.frame.spacing)
        for axis in range(3):
            last = region.origin[axis] + region.side - region.spacing
            if region.origin[axis] > region.spacing and mask.take(0, axis).mean() > self.policy.touch:
                return True
            if last < end[axis] - region.spacing and mask.take(-1, axis).mean() > self.policy.touch:
                return True
        return False

    def attached(self, decoded: Decoded, region: Region) -> Decoded:
        """Without the islands that no positive prompt reaches: a click means one thing."""
        mask = decoded.logits > 0
        grid = self.cues.on_grid(region)
        kept = connected_to(mask, grid.point_coords[grid.point_labels == 1])
        if not kept.any():
            kept = largest_component(mask)
        return replace(decoded, logits=np.where(mask & ~kept, np.float32(_OUTSIDE_LOGIT), decoded.logits))

    def _expected(self, predicted_iou: float | None) -> float | None:
        quality = self.owner.quality
        return predicted_iou if predicted_iou is None or quality is None else quality(predicted_iou)

    def finish(self, region: Region, decoded: Decoded) -> RegionPrediction:
        """The mask on the volume's voxels, computed only around the region's mask."""
        frame = self.owner.frame
        with self._stage("voxels"):
            reach = _grid_bounds(decoded.logits > 0, region)
            if reach is None:
                box: Box3 = (slice(0, 0), slice(0, 0), slice(0, 0))
            else:
                # Between a grid point inside and one outside the border may lie anywhere.
                box = region.voxel_box(frame, reach + np.array([[-0.5], [0.5]]) * region.spacing)
            mask = to_voxels(decoded.logits, frame, region, box) > 0
            for exclusion in self.cues.exclusions:
                axes = [np.arange(part.start, part.stop) * mm for part, mm in zip(box, frame.spacing, strict=True)]
                mask &= ~inside_box(exclusion, np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1))
        return RegionPrediction(
            region=region,
            logits=decoded.logits,
            doubt=self.doubt,
            predicted_iou=self._expected(decoded.predicted_iou),
            box=frame.array_box(box),
            mask=_to_array_axes(mask, frame),
            region_box=frame.array_box(region.voxel_box(frame)),
            warnings=self.cues.warnings,
            timings=self.timings,
        )


def _to_array_axes(values: npt.NDArray[Any], frame: CanonicalFrame) -> npt.NDArray[Any]:
    """A canonical block (z, y, x) with the axes of the array (k, j, i)."""
    flipped = values[tuple(slice(None, None, -1 if flip else 1) for flip in frame.flipped)]
    return np.ascontiguousarray(flipped.transpose(np.argsort(frame.order)))


def to_logits(probability: Array) -> Array:
    """Of probabilities, which are kept away from 0 and 1."""
    least = 1 / (1 + np.exp(_CERTAIN_LOGIT))
    inside = np.clip(probability, least, 1 - least)
    result: Array = np.log(inside / (1 - inside)).astype(np.float32)
    return result


def connected_to(mask: BoolArray, coords: Array) -> BoolArray:
    """The components of a mask that reach one of the grid coordinates (P, 3) or a direct neighbour of it."""
    import cc3d

    labels = cc3d.connected_components(mask.astype(np.uint8), connectivity=18)
    met = set()
    for coordinate in coords:
        low = np.maximum(np.rint(coordinate).astype(int) - 1, 0)
        high = np.rint(coordinate).astype(int) + 2
        met.update(np.unique(labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]).tolist())
    return np.isin(labels, sorted(met - {0}))


def largest_component(mask: BoolArray) -> BoolArray:
    """The largest component of a mask; the mask itself where it is empty."""
    import cc3d

    if not mask.any():
        return mask
    result: BoolArray = cc3d.largest_k(mask.astype(np.uint8), k=1, connectivity=18) > 0
    return result


def _grid_bounds(mask: BoolArray, region: Region) -> FloatArray | None:
    """Canonical bounds (2, 3) in mm of a mask on a region's grid; None when it is empty."""
    ends = _ends(mask)
    return None if ends is None else region.origin + ends * region.spacing


def _ends(mask: BoolArray) -> FloatArray | None:
    """Outer faces (2, 3) of a mask in units of its elements; None when it is empty."""
    ends = []
    for axis in range(3):
        filled = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        if len(filled) == 0:
            return None
        ends.append((filled[0] - 0.5, filled[-1] + 0.5))
    return np.array(ends, dtype=np.float64).T
