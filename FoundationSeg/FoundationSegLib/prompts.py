# SPDX-License-Identifier: Apache-2.0
"""What a person points at: prompts in RAS millimetres, frozen, and their JSON form.

The file form serves every front end and is stored with the segment, so that a result can be replayed:

    {"segments": [{"name": "Left kidney", "prompts": [{"type": "point", "ras": [12.5, -40, 88], "positive": true}]}]}

Prompts given together share a round; `"round": 0, 1, ...` keeps the rounds apart, because a later round refines the
mask
of the one before. Without it all prompts of a segment are one round.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from .errors import PromptError

Vector: TypeAlias = tuple[float, float, float]
_IDENTITY: tuple[Vector, Vector, Vector] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def _vector(value: object, what: str) -> Vector:
    try:
        r, a, s = (float(x) for x in value)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise PromptError(f"{what} is {value!r}; give three numbers: R, A and S in millimetres.") from None
    if not np.isfinite([r, a, s]).all():
        raise PromptError(f"{what} is {value!r}; each of the three numbers must be finite.")
    return r, a, s


def _vectors(values: object, what: str, least: int) -> tuple[Vector, ...]:
    if not isinstance(values, Iterable) or isinstance(values, str | bytes):
        raise PromptError(f"{what} needs a list of points, each with R, A and S in millimetres.")
    points = tuple(_vector(value, f"A point of {what.lower()}") for value in values)
    if len(set(points)) < least:
        raise PromptError(f"{what} has {len(set(points))} different points and needs at least {least}.")
    return points


@dataclass(frozen=True)
class Point:
    """A click at `ras` mm: on the structure (positive) or beside it (negative)."""

    ras: Vector
    positive: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "ras", _vector(self.ras, "The position of a point"))


@dataclass(frozen=True)
class Box:
    """A box around the structure. A RAS point p lies inside iff `ras_min <= axes @ p <= ras_max`, component by
    component.

    `axes` holds three orthogonal unit vectors as rows; None stands for R, A and S, and then the corners are RAS
    positions in mm. A negative box marks space in which the structure is not.
    """

    ras_min: Vector
    ras_max: Vector
    axes: tuple[Vector, Vector, Vector] | None = None
    positive: bool = True

    def __post_init__(self) -> None:
        low = _vector(self.ras_min, "The lower corner of a box")
        high = _vector(self.ras_max, "The upper corner of a box")
        if not all(a < b for a, b in zip(low, high, strict=True)):
            raise PromptError(
                f"The box from {low} to {high} mm has no volume; its upper corner must exceed the lower one."
            )
        object.__setattr__(self, "ras_min", low)
        object.__setattr__(self, "ras_max", high)
        if self.axes is not None:
            rows = tuple(_vector(row, "An axis of a box") for row in self.axes)
            if len(rows) != 3 or not np.allclose(np.array(rows) @ np.array(rows).T, np.eye(3), atol=1e-4):
                raise PromptError("The axes of an oriented box must be three unit vectors at right angles.")
            object.__setattr__(self, "axes", rows)

    @property
    def directions(self) -> npt.NDArray[np.float64]:
        """(3, 3), rows are the box's axes in RAS."""
        return np.array(self.axes or _IDENTITY)

    @property
    def corners_ras(self) -> npt.NDArray[np.float64]:
        """(8, 3) corners in RAS mm."""
        along = np.stack(np.meshgrid(*zip(self.ras_min, self.ras_max, strict=True), indexing="ij"), axis=-1)
        corners: npt.NDArray[np.float64] = along.reshape(8, 3) @ self.directions
        return corners


@dataclass(frozen=True)
class Scribble:
    """A stroke through `points` (RAS mm, in order) on the structure, or beside it when negative."""

    points: tuple[Vector, ...]
    positive: bool = True
    radius_mm: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", _vectors(self.points, "A scribble", 1))
        if not (np.isfinite(self.radius_mm) and self.radius_mm > 0):
            raise PromptError(f"The radius of a scribble is {self.radius_mm} mm and must be greater than zero.")


@dataclass(frozen=True)
class Lasso:
    """A closed outline (RAS mm, the last point joins the first) drawn around the structure on one plane."""

    points: tuple[Vector, ...]
    positive: bool = True

    def __post_init__(self) -> None:
        points = _vectors(self.points, "A lasso", 3)
        spread = np.linalg.svd(np.array(points) - np.mean(points, axis=0), compute_uv=False)
        if spread[1] < 1e-3:
            raise PromptError("The points of the lasso lie on one line; draw around the structure.")
        object.__setattr__(self, "points", points)


@dataclass(frozen=True)
class TextPrompt:
    """A class name, for models that know names."""

    text: str
    positive: bool = True

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise PromptError("The text prompt is empty; give the name of a structure.")


@dataclass(frozen=True, eq=False)
class MaskPrompt:
    """A mask (bool, (k, j, i) on the volume's grid) to start from: an earlier result or a manual segment."""

    array: npt.NDArray[np.bool_] = field(repr=False)
    positive: bool = True

    def __post_init__(self) -> None:
        array = np.array(self.array, dtype=bool)
        if array.ndim != 3 or not array.any():
            raise PromptError("The mask prompt must be a 3-D mask with at least one voxel set.")
        array.setflags(write=False)
        object.__setattr__(self, "array", array)

    @cached_property
    def runs(self) -> tuple[int, ...]:
        """Run lengths of the mask in C order, beginning with the unset voxels: the form in which it is stored."""
        return tuple(_runs(self.array))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MaskPrompt):
            return NotImplemented
        return self.positive == other.positive and np.array_equal(self.array, other.array)

    def __hash__(self) -> int:
        return hash((self.positive, self.array.shape, self.array.tobytes()))


@dataclass(frozen=True, eq=False)
class LabelledSlice:
    """One slice of the volume as an example: what the structure is there, and by that what it is not.

    For models that learn in context. `axis` is the array axis across the slice, "k", "j" or "i"; `index` counts along
    it; `mask` is bool with the array's two other axes in their order (slice 7 across "j" has the axes k, i). A mask
    without a voxel is an example too: the structure does not reach this slice.
    """

    axis: str
    index: int
    mask: npt.NDArray[np.bool_] = field(repr=False)
    positive: ClassVar[bool] = True  # an example says both, so there is no negative one

    def __post_init__(self) -> None:
        if self.axis not in ("k", "j", "i"):
            raise PromptError(f'The axis of a labelled slice is {self.axis!r}; it must be "k", "j" or "i".')
        if not isinstance(self.index, int | np.integer) or isinstance(self.index, bool) or self.index < 0:
            raise PromptError(f"The index of a labelled slice is {self.index!r}; it must be 0, 1, 2, ...")
        mask = np.array(self.mask, dtype=bool)
        if mask.ndim != 2 or mask.size == 0:
            raise PromptError("The mask of a labelled slice must be 2-D, with the size of the volume's slice.")
        mask.setflags(write=False)
        object.__setattr__(self, "index", int(self.index))
        object.__setattr__(self, "mask", mask)

    @property
    def array_axis(self) -> int:
        """0, 1 or 2 for k, j or i."""
        return "kji".index(self.axis)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LabelledSlice):
            return NotImplemented
        return (self.axis, self.index) == (other.axis, other.index) and np.array_equal(self.mask, other.mask)

    def __hash__(self) -> int:
        return hash((self.axis, self.index, self.mask.shape, self.mask.tobytes()))


Prompt: TypeAlias = Point | Box | Scribble | Lasso | TextPrompt | MaskPrompt | LabelledSlice
Round: TypeAlias = tuple[Prompt, ...]


@dataclass(frozen=True)
class SegmentPrompts:
    """The prompts of one segment, round by round."""

    name: str
    rounds: tuple[Round, ...]


def to_dict(prompt: Prompt) -> dict[str, Any]:
    """The JSON form of one prompt."""
    match prompt:
        case Point():
            body: dict[str, Any] = {"type": "point", "ras": list(prompt.ras)}
        case Box():
            body = {"type": "box", "ras_min": list(prompt.ras_min), "ras_max": list(prompt.ras_max)}
            if prompt.axes is not None:
                body["axes"] = [list(axis) for axis in prompt.axes]
        case Scribble():
            body = {"type": "scribble", "points": [list(p) for p in prompt.points], "radius_mm": prompt.radius_mm}
        case Lasso():
            body = {"type": "lasso", "points": [list(p) for p in prompt.points]}
        case TextPrompt():
            body = {"type": "text", "text": prompt.text}
        case MaskPrompt():
            body = {"type": "mask", "shape": list(prompt.array.shape), "runs": list(prompt.runs)}
        case LabelledSlice():
            body = {"type": "slice", "axis": prompt.axis, "index": prompt.index}
            return {**body, "shape": list(prompt.mask.shape), "runs": _runs(prompt.mask)}
    return {**body, "positive": prompt.positive}


def from_dict(data: object) -> Prompt:
    """The prompt of a JSON object; PromptError says which part is wrong."""
    if not isinstance(data, Mapping):
        raise PromptError(f'A prompt is {data!r}; it must be an object with a "type".')
    positive = data.get("positive", True)
    if not isinstance(positive, bool):
        raise PromptError(f'"positive" of a prompt is {positive!r}; it must be true or false.')
    try:
        match data.get("type"):
            case "point":
                return Point(data["ras"], positive)
            case "box":
                return Box(data["ras_min"], data["ras_max"], data.get("axes"), positive)
            case "scribble":
                return Scribble(data["points"], positive, float(data.get("radius_mm", 1.0)))
            case "lasso":
                return Lasso(data["points"], positive)
            case "text":
                return TextPrompt(str(data["text"]), positive)
            case "mask":
                return MaskPrompt(_from_runs(data["shape"], data["runs"], 3), positive)
            case "slice":
                if not positive:
                    raise PromptError("A labelled slice cannot be negative: its mask says what is not the structure.")
                return LabelledSlice(data["axis"], data["index"], _from_runs(data["shape"], data["runs"], 2))
    except KeyError as error:
        raise PromptError(f"A {data['type']} prompt lacks {error.args[0]!r}; add it.") from None
    except (TypeError, ValueError):
        raise PromptError(
            f"A {data['type']} prompt has a value of the wrong kind; see the README's prompt file."
        ) from None
    raise PromptError(f"{data.get('type')!r} is no prompt; use point, box, scribble, lasso, text, mask or slice.")


def rounds_to_list(rounds: Sequence[Round]) -> list[dict[str, Any]]:
    """The flat JSON list of all prompts, each with its round."""
    return [{**to_dict(prompt), "round": number} for number, round_ in enumerate(rounds) for prompt in round_]


def rounds_from_list(items: object) -> tuple[Round, ...]:
    """The inverse of `rounds_to_list`; prompts without a round share the first."""
    if not isinstance(items, list) or not items:
        raise PromptError("The prompts must be a list with at least one prompt.")
    numbered = []
    for item in items:
        number = item.get("round", 0) if isinstance(item, Mapping) else 0
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise PromptError(f'"round" of a prompt is {number!r}; it must be 0, 1, 2, ...')
        numbered.append((number, from_dict(item)))
    numbered.sort(key=lambda pair: pair[0])
    return tuple(tuple(prompt for _, prompt in group) for _, group in groupby(numbered, key=lambda pair: pair[0]))


def load_prompts(path: str | os.PathLike[str]) -> list[SegmentPrompts]:
    """The segments of a prompt file; PromptError where it cannot be read or is not one."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise PromptError(f"The prompt file {os.fspath(path)} cannot be read: {error.strerror}.") from None
    except (UnicodeDecodeError, json.JSONDecodeError):
        raise PromptError(f"The prompt file {os.fspath(path)} is not JSON.") from None
    segments = data.get("segments") if isinstance(data, dict) else None
    if not isinstance(segments, list) or not segments:
        raise PromptError(f'The prompt file {os.fspath(path)} has no "segments"; see the README for its form.')
    result = []
    for number, segment in enumerate(segments, 1):
        name = segment.get("name") if isinstance(segment, dict) else None
        if not isinstance(name, str) or not name.strip():
            raise PromptError(f"Segment {number} of the prompt file has no name.")
        result.append(SegmentPrompts(name, rounds_from_list(segment.get("prompts"))))
    return result


def _runs(mask: npt.NDArray[np.bool_]) -> list[int]:
    """Run lengths of a mask in C order, beginning with the unset voxels."""
    flat = mask.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *lengths] if flat[0] else lengths


def _from_runs(shape: Sequence[int], runs: Sequence[int], dimensions: int) -> npt.NDArray[np.bool_]:
    size = tuple(int(n) for n in shape)
    lengths = np.array(runs, dtype=np.int64)
    if len(size) != dimensions or min(size) < 1 or (lengths < 0).any() or lengths.sum() != np.prod(size):
        raise PromptError("The runs of a mask do not fill its shape.")
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape(size)
