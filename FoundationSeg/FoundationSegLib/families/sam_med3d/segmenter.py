# SPDX-License-Identifier: Apache-2.0
"""From prompts to a mask with SAM-Med3D: as many regions of 192 mm as the structure needs.

**Small structures** (most) lie in one region, and every step is the original's: clicks together with a zero mask at
first, all clicks so far together with the logits of the step before from then on.

**Large structures.** The model was trained on 128^3 points at 1.5 mm, so a coarser grid is a picture of a kind that it
never saw. Where the mask meets a face of the region and the volume goes on, the next region is laid half a region
further on, as the authors propose, and the answers are blended where regions overlap. The new region is given the
clicks that it can see, or else one where the mask so far is surest, and what is known of the mask as mask prompt. A
structure is never cut at a face in silence: when the number of regions is used up, or the contact is too small to
follow, the result says so, and a click further on goes on from there.

**Same prompts, same mask**, whatever was segmented before: regions lie on a lattice that the volume alone determines,
and a second object near the first finds the region's embedding in the cache.

Boxes are not known to the published weights, and the original's tools turn them into clicks on their centres; so do we,
and say so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ...cues import Cues, cues_of, inside_box
from ...errors import PromptError
from ...predictor import Array, CancelToken, Embedding, EmbeddingCache, Progress
from ...prompts import MaskPrompt, Round
from ...region import Box3, CanonicalFrame, sample_mask, to_voxels
from ...segmenter import Prediction
from ...volume import Volume
from ..canonical import array_axes
from .predictor import SamMed3dPredictor, clicks
from .tiling import UNSEEN_LOGIT, BoolArray, Canvas, FloatArray, Lattice, Place, Tile, TilePolicy

# A mask to start from enters as if the model had said it this surely.
_GIVEN_LOGIT = 8.0
# A click of our own keeps this share of a tile's edge away from its faces where it can.
_INSET = 1 / 16
_NOTHING: Box3 = (slice(0, 0), slice(0, 0), slice(0, 0))


@dataclass(frozen=True, kw_only=True)
class TilePrediction(Prediction):
    """A prediction with what the next round goes on from."""

    tiles: tuple[Tile, ...]


class SamMed3dSegmenter:
    """SAM-Med3D applied to one volume (see `Segmenter`)."""

    def __init__(
        self, volume: Volume, predictor: SamMed3dPredictor, cache: EmbeddingCache, policy: TilePolicy | None = None
    ) -> None:
        self.volume = volume
        self.predictor = predictor
        self.cache = cache
        self.policy = policy or TilePolicy()
        self.frame = CanonicalFrame.of(volume)
        self.lattice = Lattice(self.frame, predictor.grid_size, self.policy)

    def predict(
        self,
        rounds: tuple[Round, ...],
        previous: Prediction | None,
        cancel: CancelToken | None = None,
        progress: Progress | None = None,
    ) -> TilePrediction:
        """See `Segmenter`."""
        assert previous is None or isinstance(previous, TilePrediction)
        cues = cues_of([prompt for round_ in rounds for prompt in round_], self.volume, self.frame)
        given = _given_mask(rounds[-1])
        if not cues.has_positive and previous is None and given is None:
            raise PromptError("All prompts are negative; mark the structure itself with at least one positive prompt.")
        seeds = next((mask for round_ in reversed(rounds) if (mask := _given_mask(round_)) is not None), None)
        run = _Run(self, cues, seeds, cancel or CancelToken(), progress)
        if given is not None:
            run.from_mask(given)
        elif previous is None:
            run.first()
        else:
            run.further(previous, cues_of(rounds[-1], self.volume, self.frame))
        return run.finish(*run.grow())

    def uncertainty(self, prediction: Prediction) -> Array:
        """1 - |2p - 1| per voxel of the prediction's `region_box`, (k, j, i), for the model's probability p."""
        assert isinstance(prediction, TilePrediction)
        fine = {tile.place: self.predictor.upsample(tile.logits) for tile in prediction.tiles}
        canvas = Canvas.of(self.lattice, fine)
        logits = to_voxels(canvas.logits, self.frame, canvas.region, canvas.voxel_box())
        return array_axes((1 - np.abs(np.tanh(logits / 2))).astype(np.float32), self.frame)


class _Run:
    """One prediction: its tiles, the timings of its stages, and the places where it can be cancelled."""

    def __init__(
        self,
        owner: SamMed3dSegmenter,
        cues: Cues,
        seeds: BoolArray | None,
        cancel: CancelToken,
        progress: Progress | None,
    ) -> None:
        self.owner, self.cues, self.seeds, self.cancel, self.progress = owner, cues, seeds, cancel, progress
        self.lattice, self.predictor = owner.lattice, owner.predictor
        self.tiles: dict[Place, Tile] = {}
        self.fine: dict[Place, Array] = {}  # the same logits on the tiles' grids
        self.timings: dict[str, float] = {}
        self.warnings = list(cues.warnings)
        self.steps = 0
        if cues.boxes:
            self.warnings.append(
                "This model takes no boxes: each was turned into a click on its centre, as its authors do."
            )

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        self.cancel.check()
        if self.progress is not None:
            self.progress(name, min(0.95, self.steps / (self.steps + 2)))
        start = time.perf_counter()
        yield
        self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - start

    def first(self) -> None:
        """A region around the positive prompts, or where they are too far apart for one, around each."""
        positive = _positive(self.cues)
        bounds = np.stack([positive.min(0), positive.max(0)])
        if float((bounds[1] - bounds[0]).max()) <= 0.75 * self.lattice.side:
            self.decode(self.lattice.around(bounds.mean(0)), None)
        else:
            for place in self._places_for(positive):
                self.decode(place, None)

    def further(self, previous: TilePrediction, new: Cues) -> None:
        """Refines the regions that the new prompts lie in, and adds regions for those that lie in none."""
        self.tiles = {tile.place: tile for tile in previous.tiles}
        self.fine = {place: self.predictor.upsample(tile.logits) for place, tile in self.tiles.items()}
        positive = _positive(new)
        beside = new.positions[new.labels == 0]
        if len(beside) and not self._holders(beside):
            self.warnings.append(
                "A click beside the structure lies outside of the regions that were looked at and changes nothing."
            )
        known = Canvas.of(self.lattice, self.fine)
        for place in self._holders(np.concatenate([positive, beside])):
            self.decode(place, self.tiles[place].logits)
        for place in self._places_for(positive):
            self.decode(place, self._carried(known, place))

    def from_mask(self, mask: BoolArray) -> None:
        """Starts anew from a mask (k, j, i): each region that holds a part of it is one step on that mask."""
        view = self.owner.frame.canonical_view(mask)
        filled = [np.flatnonzero(view.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
        ends = np.array([[index[0] - 0.5 for index in filled], [index[-1] + 0.5 for index in filled]])
        for place in self.lattice.covering(ends * np.array(self.owner.frame.spacing)):
            share = sample_mask(mask, self.owner.frame, self.lattice.region(place))
            if share.any():
                self.decode(place, _pooled(np.where(share, np.float32(_GIVEN_LOGIT), np.float32(-_GIVEN_LOGIT)), self))
        if not self.tiles:  # thinner than the grid: its middle is all that the model can be told
            self.decode(self.lattice.around(ends.mean(0) * np.array(self.owner.frame.spacing)), None)

    def _holders(self, positions: FloatArray) -> list[Place]:
        """The tiles in which at least one of the positions lies."""
        regions = {place: self.lattice.region(place) for place in self.tiles}
        return [
            place
            for place, region in regions.items()
            if any(region.contains(p, margin=-region.spacing / 2) for p in positions)
        ]

    def _places_for(self, positions: FloatArray) -> list[Place]:
        """New places, one after the other around the positions that lie in no tile yet."""
        regions = [self.lattice.region(place) for place in self.tiles]
        places: list[Place] = []
        for position in positions:
            if not any(region.contains(position, margin=-region.spacing / 2) for region in regions):
                places.append(self.lattice.around(position))
                regions.append(self.lattice.region(places[-1]))
        return places

    def decode(self, place: Place, previous: Array | None, own_click: FloatArray | None = None) -> None:
        """One step in the tile at `place`; `own_click` is in its grid coordinates."""
        region = self.lattice.region(place)

        def embed() -> Embedding:
            with self._stage("crop"):
                prepared = self.predictor.prepare(self.owner.volume, self.owner.frame, region)
            with self._stage("encode"):
                return self.predictor.encode(prepared)

        embedding = self.owner.cache.get(region, embed)
        coords, labels = clicks(self.cues.on_grid(region))
        inside = ((coords > -0.5) & (coords < region.size - 0.5)).all(axis=1)
        coords, labels = coords[inside], labels[inside]
        if own_click is not None:
            coords = np.concatenate([coords, own_click[None].astype(np.float32)])
            labels = np.concatenate([labels, np.ones(1, np.int64)])
        with self._stage("decode"):
            logits, quality = self.predictor.refine(embedding, coords, labels, previous)
            logits.setflags(write=False)
            self.tiles[place] = Tile(place, logits, min(max(quality, 0.0), 1.0))
            self.fine[place] = self.predictor.upsample(logits)
        self.steps += 1

    def grow(self) -> tuple[Canvas, BoolArray]:
        """Follows the mask beyond the faces of its tiles. Returns the canvas of all tiles, and the mask on it."""
        policy = self.owner.policy
        while True:
            canvas = Canvas.of(self.lattice, self.fine)
            with self._stage("components"):
                mask = self._attached(canvas)
            faces = canvas.open_faces(mask, self.tiles)
            if not faces:
                return canvas, mask
            count, place = faces[0]
            if count < policy.touch or len(self.tiles) >= policy.most_tiles:
                self.warnings.append(
                    f"The structure reaches the edge of what was looked at ({len(self.tiles)} regions of "
                    f"{self.lattice.side:.0f} mm); where a part is missing, click on it to go on from there."
                )
                return canvas, mask
            own = None if self._visible(place) else self._surest(canvas, mask, place)
            self.decode(place, self._carried(canvas, place), own)

    def _visible(self, place: Place) -> bool:
        """Does a positive prompt lie in the tile?"""
        region = self.lattice.region(place)
        return any(region.contains(p, margin=-region.spacing / 2) for p in _positive(self.cues))

    def _surest(self, canvas: Canvas, mask: BoolArray, place: Place) -> FloatArray:
        """The grid point of a new tile where the mask so far is surest, away from the tile's faces if that can be."""
        logits = np.asarray(canvas.on_tile(np.where(mask, canvas.logits, np.float32(-np.inf)), place, -np.inf))
        inset = max(1, int(self.lattice.size * _INSET))
        inner = np.full_like(logits, -np.inf)
        core = (slice(inset, -inset),) * 3
        inner[core] = logits[core]
        best = inner if np.isfinite(inner).any() else logits
        return np.array(np.unravel_index(int(np.argmax(best)), best.shape), dtype=np.float64)

    def _carried(self, canvas: Canvas, place: Place) -> Array:
        """What is known of the mask as the mask prompt of a new tile; zero, which says nothing, where none was seen."""
        known = np.where(canvas.seen, canvas.logits, np.float32(0))
        return _pooled(np.asarray(canvas.on_tile(known, place, 0.0), np.float32), self)

    def _attached(self, canvas: Canvas) -> BoolArray:
        """The mask without the islands that no positive prompt reaches: a click means one thing."""
        import cc3d

        mask = canvas.logits > 0
        filled = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
        if len(filled[0]) == 0:
            return mask
        box = tuple(slice(int(index[0]), int(index[-1]) + 1) for index in filled)
        labels = cc3d.connected_components(mask[box].astype(np.uint8), connectivity=18)
        if labels.max() == 1:
            return mask
        met: set[int] = set()
        first = np.array([part.start for part in box])
        for coordinate in np.rint(canvas.region.to_grid(_positive(self.cues))).astype(int) - first:
            around = tuple(slice(max(c - 1, 0), max(c + 2, 0)) for c in coordinate)
            met.update(np.unique(labels[around]).tolist())
        if self.seeds is not None:
            z, y, x = mask.shape
            seeds = sample_mask(self.seeds, self.owner.frame, canvas.region)[:z, :y, :x]
            met.update(np.unique(labels[seeds[box]]).tolist())
        counts = np.bincount(labels.ravel())
        counts[0] = 0
        wanted = sorted(met - {0}) or [int(np.argmax(counts))]
        kept = np.zeros_like(mask)
        kept[box] = np.isin(labels, wanted)
        return kept

    def finish(self, canvas: Canvas, mask: BoolArray) -> TilePrediction:
        """The mask on the volume's voxels, computed only around it."""
        frame, spacing = self.owner.frame, self.lattice.policy.spacing_mm
        with self._stage("voxels"):
            filled = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
            box, voxels = _NOTHING, np.zeros((0, 0, 0), bool)
            if len(filled[0]):
                ends = np.array([[index[0] - 1.0 for index in filled], [index[-1] + 1.0 for index in filled]])
                box = canvas.region.voxel_box(frame, canvas.region.origin + ends * spacing)
                voxels = self._on_voxels(canvas, mask, box)
            for exclusion in self.cues.exclusions:
                axes = [np.arange(part.start, part.stop) * mm for part, mm in zip(box, frame.spacing, strict=True)]
                voxels &= ~inside_box(exclusion, np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1))
        shares = [np.count_nonzero(canvas.on_tile(mask, place, False)) + 1 for place in self.tiles]
        return TilePrediction(
            tiles=tuple(self.tiles.values()),
            predicted_iou=float(np.average([tile.predicted_iou for tile in self.tiles.values()], weights=shares)),
            box=frame.array_box(box),
            mask=array_axes(voxels, frame),
            region_box=frame.array_box(canvas.voxel_box()),
            warnings=tuple(self.warnings),
            timings=self.timings,
        )

    def _on_voxels(self, canvas: Canvas, mask: BoolArray, box: Box3) -> BoolArray:
        """The mask at the centres of a canonical voxel box."""
        if self.owner.policy.voxels == "linear":
            islands = (canvas.logits > 0) & ~mask
            logits = np.where(islands, np.float32(UNSEEN_LOGIT), canvas.logits) if islands.any() else canvas.logits
            return to_voxels(logits, self.owner.frame, canvas.region, box) > 0
        return nearest(mask, canvas, self.owner.frame, box)


def nearest(mask: BoolArray, canvas: Canvas, frame: CanonicalFrame, box: Box3) -> BoolArray:
    """A mask of the canvas's shape at the grid points nearest to the centres of a canonical voxel box, as ITK rounds
    (halves up); False beyond the canvas."""
    index, inside = [], []
    for axis, part in enumerate(box):
        position = np.arange(part.start, part.stop) * frame.spacing[axis]
        place = np.floor((position - canvas.region.origin[axis]) / canvas.region.spacing + 0.5).astype(np.intp)
        inside.append((place >= 0) & (place < mask.shape[axis]))
        index.append(np.clip(place, 0, mask.shape[axis] - 1))
    return mask[np.ix_(*index)] & inside[0][:, None, None] & inside[1][None, :, None] & inside[2][None, None, :]


def _given_mask(round_: Round) -> BoolArray | None:
    masks = [prompt.array for prompt in round_ if isinstance(prompt, MaskPrompt) and prompt.positive]
    return np.logical_or.reduce(masks) if masks else None


def _positive(cues: Cues) -> FloatArray:
    """Canonical positions (P, 3) in mm of all that marks the structure: clicks, and the centres of boxes."""
    centres = np.array([box.centre for box in cues.boxes]).reshape(-1, 3)
    return np.concatenate([cues.positions[cues.labels == 1], centres])


def _pooled(logits: Array, run: _Run) -> Array:
    """Logits (size, size, size) averaged down to the size of a mask prompt."""
    low = run.predictor.mask_size
    step = run.predictor.grid_size // low
    return logits.reshape(low, step, low, step, low, step).mean(axis=(1, 3, 5), dtype=np.float32)
