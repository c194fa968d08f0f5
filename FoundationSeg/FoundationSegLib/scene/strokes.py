# SPDX-License-Identifier: Apache-2.0
"""Scribbles, lassos and boxes drawn with the mouse on a slice view of any orientation: press, drag, release.

:class:`StrokeTool` listens to the interactors of slice views ahead of Slicer's own handling and takes only what belongs
to a stroke, so that scrolling, zooming (right button) and panning (Shift or middle button) work between strokes, and
the handles of a box can be dragged. While a stroke is being drawn it is shown by a line in the view alone; the scene
changes once, when the button is released. A box lies along the slice's own axes, where Slicer's placing with two clicks
gives one along R, A and S. No Qt: any ``vtkRenderWindowInteractor`` with a ``vtkMRMLSliceNode`` will do, and tests send
it synthetic events.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from .stroke_geometry import Points, rectangle, simplified
from .stroke_preview import StrokePreview

_PRIORITY = 100.0  # Slicer's views observe with priority 0; higher comes first
_STEP_PX = 2.0  # between the points that are kept of a drag
_SCRIBBLE_LENGTH_PX = 4.0  # less is a click with an unsteady hand
_LASSO_SPREAD_PX = 1.5  # standard deviation across the narrowest direction; less encloses nothing
_BOX_SIDE_PX = 4.0
_OFF_PLANE_MM = 1e-3
# What would change the view under a stroke while it is drawn; taken from Slicer until the button is released.
_HELD_BACK = (
    "LeftButtonDoubleClickEvent",
    "MouseWheelForwardEvent",
    "MouseWheelBackwardEvent",
    "MiddleButtonPressEvent",
    "KeyReleaseEvent",
)


class StrokeKind(enum.Enum):
    """What a stroke becomes: an open curve along the structure, a closed one or a box around it."""

    SCRIBBLE = "scribble"
    LASSO = "lasso"
    BOX = "box"


@dataclass(frozen=True)
class SliceView:
    """A slice view to draw in. `render` asks it for a new picture; without it its window renders at once."""

    interactor: Any  # vtkRenderWindowInteractor
    sliceNode: Any  # vtkMRMLSliceNode
    render: Callable[[], Any] | None = None

    def refresh(self) -> None:
        if self.render is not None:
            self.render()
        elif self.interactor.GetRenderWindow() is not None:
            self.interactor.GetRenderWindow().Render()


@dataclass(frozen=True)
class Stroke:
    """A finished stroke: `points` are (n, 3) world RAS mm in the order drawn, all on one plane.

    Those of a box are its four corners on the slice, one after the other around it.
    """

    kind: StrokeKind
    points: Points
    positive: bool
    sliceNodeId: str


class StrokeTool:
    """Turns drags on slice views into strokes.

    Args:
        onStroke: gets every finished stroke.
        onRefused: gets one sentence where what was drawn cannot be a stroke.
    """

    def __init__(self, onStroke: Callable[[Stroke], Any], onRefused: Callable[[str], Any] | None = None) -> None:
        self._onStroke = onStroke
        self._onRefused = onRefused
        self._views: tuple[SliceView, ...] = ()
        self._tags: dict[tuple[int, str], tuple[Any, int]] = {}
        self._kind: StrokeKind | None = None
        self._positive = True
        self._drag: _Drag | None = None

    @property
    def kind(self) -> StrokeKind | None:
        """What the next drag draws; None while the tool is put away."""
        return self._kind

    @property
    def positive(self) -> bool:
        return self._positive

    @positive.setter
    def positive(self, positive: bool) -> None:
        """The sign of the next stroke, and of the one being drawn."""
        self._positive = positive
        if self._drag is not None:
            self._drag.preview.setPositive(positive)
            self._drag.view.refresh()

    @property
    def drawing(self) -> bool:
        return self._drag is not None

    def setViews(self, views: Iterable[SliceView]) -> None:
        """The views to draw in. A stroke being drawn in a view that is gone is dropped."""
        views = tuple(views)
        if self._drag is not None and all(view.interactor is not self._drag.view.interactor for view in views):
            self.abort()
        self._views = views
        if self._kind is not None:
            self._listen()

    def start(self, kind: StrokeKind, positive: bool = True) -> None:
        """From now on a drag with the left button draws a stroke of this kind and sign."""
        self.abort()
        self._kind, self._positive = kind, positive
        self._listen()

    def stop(self) -> None:
        """Put the tool away; a stroke being drawn is dropped."""
        self.abort()
        self._kind = None
        self._unlisten()

    def abort(self) -> bool:
        """Drop the stroke being drawn; says whether there was one."""
        drag, self._drag = self._drag, None
        if drag is None:
            return False
        drag.preview.remove()
        drag.view.refresh()
        return True

    # --- events

    def _listen(self) -> None:
        self._unlisten()
        handlers = {
            "LeftButtonPressEvent": self._onPress,
            "MouseMoveEvent": self._onMove,
            "LeftButtonReleaseEvent": self._onRelease,
            "RightButtonPressEvent": self._onAbort,
            "KeyPressEvent": self._onKey,
            **dict.fromkeys(_HELD_BACK, lambda view: self.drawing),
        }
        for view in self._views:
            for event, handler in handlers.items():
                tag = view.interactor.AddObserver(event, self._observer(view, event, handler), _PRIORITY)
                self._tags[id(view.interactor), event] = (view.interactor, tag)

    def _unlisten(self) -> None:
        for interactor, tag in self._tags.values():
            interactor.RemoveObserver(tag)
        self._tags.clear()

    def _observer(self, view: SliceView, event: str, handler: Callable[[SliceView], bool]) -> Callable[..., None]:
        def observe(caller: Any, name: str) -> None:
            taken = handler(view)
            # The handler may have put the tool away, and the observer with it.
            interactor, tag = self._tags.get((id(view.interactor), event), (None, 0))
            if taken and interactor is not None:
                interactor.GetCommand(tag).SetAbortFlag(1)

        return observe

    def _onPress(self, view: SliceView) -> bool:
        interactor = view.interactor
        if interactor.GetShiftKey() or interactor.GetControlKey() or interactor.GetAltKey() or _overBoxHandle():
            return False
        self.abort()
        self._drag = _Drag(view, self._kind or StrokeKind.SCRIBBLE, self._positive)
        self._drag.extend()
        return True

    def _onMove(self, view: SliceView) -> bool:
        drag = self._drag
        if drag is None or drag.view.interactor is not view.interactor:
            return False
        if not drag.extend():
            self.abort()
            self._refuse(_("The slice changed under the stroke, which was dropped; draw it again."))
            return True
        view.refresh()
        return True

    def _onRelease(self, view: SliceView) -> bool:
        drag = self._drag
        if drag is None or drag.view.interactor is not view.interactor:
            return False
        drag.extend(last=True)
        self.abort()
        problem = drag.problem()
        if problem:
            self._refuse(problem)
        else:
            self._onStroke(Stroke(drag.kind, drag.outline(), self._positive, view.sliceNode.GetID() or ""))
        return True

    def _onAbort(self, view: SliceView) -> bool:
        return self.abort()

    def _onKey(self, view: SliceView) -> bool:
        return self.drawing and (view.interactor.GetKeySym() != "Escape" or self.abort())

    def _refuse(self, sentence: str) -> None:
        if self._onRefused is not None:
            self._onRefused(sentence)


class _Drag:
    """The points of one drag, in device pixels and in world RAS mm."""

    def __init__(self, view: SliceView, kind: StrokeKind, positive: bool) -> None:
        self.view = view
        self.kind = kind
        self.preview = StrokePreview(view.interactor, positive, kind is StrokeKind.LASSO)
        self._device: list[tuple[float, float]] = []
        self._ras: list[Points] = []
        toRas = slicer.util.arrayFromVTKMatrix(view.sliceNode.GetXYToRAS())
        self._pixelSize = float(np.linalg.norm(toRas[:3, :2], axis=0).min())
        normal = np.cross(toRas[:3, 0], toRas[:3, 1])
        self._normal = normal / np.linalg.norm(normal)

    def extend(self, last: bool = False) -> bool:
        """Take the pointer's position; False where the slice is not the one on which the stroke began."""
        x, y = (float(value) for value in self.view.interactor.GetEventPosition())
        if self._device and np.hypot(x - self._device[-1][0], y - self._device[-1][1]) < (1e-6 if last else _STEP_PX):
            return True
        ras = deviceToRas(self.view, x, y)
        if self._ras and abs(float(self._normal @ (ras - self._ras[0]))) > _OFF_PLANE_MM:
            return last  # on release the stroke ends with the point before
        self._device.append((x, y))
        self._ras.append(ras)
        self.preview.show(rectangle(self._device) if self.kind is StrokeKind.BOX else self._device)
        return True

    def outline(self) -> Points:
        """(n, 3) world RAS mm: what was drawn, without points that a pixel of the view cannot tell apart."""
        if self.kind is StrokeKind.BOX:
            return np.array([deviceToRas(self.view, x, y) for x, y in rectangle(self._device)[:4]])
        return simplified(np.array(self._ras), self._pixelSize)

    def problem(self) -> str:
        """Why this cannot be a stroke of its kind, as a sentence; empty where it can."""
        device = np.array(self._device)
        if self.kind is StrokeKind.SCRIBBLE:
            length = np.linalg.norm(np.diff(device, axis=0), axis=1).sum()
            return "" if length >= _SCRIBBLE_LENGTH_PX else _("Hold the button and draw along the structure.")
        if self.kind is StrokeKind.BOX:
            large = np.abs(device[-1] - device[0]).min() >= _BOX_SIDE_PX
            return "" if large else _("Hold the button and draw from one corner of the box to the opposite one.")
        spread = np.linalg.svd(device - device.mean(axis=0), compute_uv=False) / np.sqrt(len(device))
        encloses = len(device) > 2 and spread[1] >= _LASSO_SPREAD_PX
        return "" if encloses else _("Hold the button and draw around the structure; the line closes by itself.")


def _overBoxHandle() -> bool:
    """Whether the pointer is over a handle of a box, which a person takes to change it and not to draw another."""
    for display in slicer.util.getNodesByClass("vtkMRMLMarkupsROIDisplayNode"):
        handles = (
            display.ComponentControlPoint,
            display.ComponentScaleHandle,
            display.ComponentTranslationHandle,
            display.ComponentRotationHandle,
        )
        if display.GetActiveComponentType() in handles:
            return True
    return False


def deviceToRas(view: SliceView, x: float, y: float) -> Points:
    """World RAS mm, (3,), of a position of a slice view in device pixels, origin at the lower left."""
    xyz = [0.0, 0.0, 0.0]
    slicer.vtkMRMLAbstractSliceViewDisplayableManager.ConvertDeviceToXYZ(view.interactor, view.sliceNode, x, y, xyz)
    ras = view.sliceNode.GetXYToRAS().MultiplyPoint((*xyz, 1.0))
    return np.array(ras[:3])
