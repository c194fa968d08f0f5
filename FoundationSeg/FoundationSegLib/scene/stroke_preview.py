# SPDX-License-Identifier: Apache-2.0
"""The line that is seen while a stroke is drawn: in the view alone, never in the scene."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import vtk

from .prompt_style import signColor

_WIDTH_PX = 3.0
_CLOSING_WIDTH_PX = 1.0


class StrokePreview:
    """A line over a slice view through device pixels (origin at the lower left), with a thin closing line on demand."""

    def __init__(self, interactor: Any, positive: bool, closed: bool) -> None:
        self._points = vtk.vtkPoints()
        self._closed = closed
        self._stroke, self._closing = _Line(self._points, _WIDTH_PX), _Line(self._points, _CLOSING_WIDTH_PX)
        window = interactor.GetRenderWindow()
        # A view without a window (a test, or one that is being torn down) is drawn in without a line to see.
        self._renderer = window.GetRenderers().GetFirstRenderer() if window is not None else None
        if self._renderer is not None:
            self._renderer.AddViewProp(self._stroke.actor)
            self._renderer.AddViewProp(self._closing.actor)
        self.setPositive(positive)

    def setPositive(self, positive: bool) -> None:
        for line in (self._stroke, self._closing):
            line.actor.GetProperty().SetColor(signColor(positive))

    def show(self, positions: Sequence[tuple[float, float]]) -> None:
        self._points.SetNumberOfPoints(len(positions))
        for index, (x, y) in enumerate(positions):
            self._points.SetPoint(index, x, y, 0.0)
        self._points.Modified()
        self._stroke.connect(range(len(positions)))
        if self._closed and len(positions) > 2:
            self._closing.connect((len(positions) - 1, 0))

    def remove(self) -> None:
        if self._renderer is not None:
            self._renderer.RemoveViewProp(self._stroke.actor)
            self._renderer.RemoveViewProp(self._closing.actor)
            self._renderer = None


class _Line:
    """A polyline through some of shared points, in display coordinates."""

    def __init__(self, points: Any, width: float) -> None:
        self._data = vtk.vtkPolyData()
        self._data.SetPoints(points)
        coordinate = vtk.vtkCoordinate()
        coordinate.SetCoordinateSystemToDisplay()
        mapper = vtk.vtkPolyDataMapper2D()
        mapper.SetInputData(self._data)
        mapper.SetTransformCoordinate(coordinate)
        self.actor = vtk.vtkActor2D()
        self.actor.SetMapper(mapper)
        self.actor.GetProperty().SetLineWidth(width)
        self.actor.PickableOff()

    def connect(self, indices: Sequence[int]) -> None:
        line = vtk.vtkCellArray()
        line.InsertNextCell(len(indices))
        for index in indices:
            line.InsertCellPoint(index)
        self._data.SetLines(line)
        self._data.Modified()
