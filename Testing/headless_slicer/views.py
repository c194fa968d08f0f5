# SPDX-License-Identifier: Apache-2.0
"""Slice and 3-D views without a window system: real slice logic, displayable managers and interactor, drawn off screen.

For tests that send mouse events, and for pictures. They are VTK's and MRML's own classes, but not 3D Slicer's views:
pictures of them are never to be called "3D Slicer".
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import slicer
import vtk

from .application import Signals

_FACTORIES = {
    "Slice": (
        "vtkMRMLCrosshairDisplayableManager",
        "vtkMRMLSegmentationsDisplayableManager2D",
        "vtkMRMLMarkupsDisplayableManager",
    ),
    "ThreeD": (
        "vtkMRMLCameraDisplayableManager",
        "vtkMRMLViewDisplayableManager",
        "vtkMRMLSegmentationsDisplayableManager3D",
        "vtkMRMLMarkupsDisplayableManager",
    ),
}


class _View:
    """A render window with an interactor and the displayable managers of one kind of view."""

    def __init__(self, kind: str, size: tuple[int, int]) -> None:
        self.renderer = vtk.vtkRenderer()
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetMultiSamples(0)
        self.window.SetSize(*size)
        self.window.AddRenderer(self.renderer)
        self.interactor = vtk.vtkGenericRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)
        self.interactor.SetSize(*size)
        # Without this style and Initialize no markup can be placed, and nothing says why.
        self.interactor.SetInteractorStyle(vtk.vtkInteractorStyleUser())
        self.interactor.Initialize()
        factory = getattr(slicer, f"vtkMRML{kind}ViewDisplayableManagerFactory").GetInstance()
        factory.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        for name in _FACTORIES[kind]:
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
        self.group = slicer.vtkMRMLDisplayableManagerGroup()
        self.group.Initialize(factory, self.renderer)
        self.size = size
        self.cursor: Any = None  # what the panel asked for
        self.renders = 0  # how often it asked for a new picture

    def picture(self) -> npt.NDArray[np.uint8]:
        """What is drawn: (rows, columns, 3), the top row first."""
        self.render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self.window)
        grab.ReadFrontBufferOff()
        grab.Update()
        image = grab.GetOutput()
        pixels = vtk.util.numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
        columns, rows, _ = image.GetDimensions()
        return pixels.reshape(rows, columns, -1)[::-1, :, :3].copy()

    def render(self) -> None:
        self.window.Render()

    # --- the mouse, in device pixels from the lower left

    def event(self, name: str, x: int, y: int, *, key: str = "", shift: bool = False, control: bool = False) -> None:
        self.interactor.SetEventInformation(x, y, int(control), int(shift), chr(0), 0, key or None)
        self.interactor.InvokeEvent(name)

    def click(self, x: int, y: int) -> None:
        self.event("EnterEvent", x, y)
        for name in ("MouseMoveEvent", "MouseMoveEvent", "LeftButtonPressEvent", "LeftButtonReleaseEvent"):
            self.event(name, x, y)

    def drag(self, *positions: tuple[int, int], release: bool = True) -> None:
        """Press at the first position, move through the others, and let go at the last one."""
        self.event("LeftButtonPressEvent", *positions[0])
        for position in positions[1:]:
            self.event("MouseMoveEvent", *position)
        if release:
            self.event("LeftButtonReleaseEvent", *positions[-1])


class SliceView(_View):
    """One slice view; `name` is "Red", "Green", "Yellow" or any other."""

    def __init__(self, name: str = "Red", size: tuple[int, int] = (400, 300), orientation: str = "Axial") -> None:
        super().__init__("Slice", size)
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(slicer.mrmlScene, True)
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._actor = vtk.vtkActor2D()
        self._actor.SetMapper(self._mapper)
        self._actor.GetProperty().SetDisplayLocationToBackground()
        self.renderer.GetActiveCamera().ParallelProjectionOn()
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        slicer.app.applicationLogic().GetSliceLogics().AddItem(self.logic)
        self._style = slicer.vtkMRMLSliceViewInteractorStyle()
        self._style.SetSliceLogic(self.logic)
        self._style.SetDisplayableManagers(self.group)
        self.logic.SetMRMLScene(slicer.mrmlScene)
        self.sliceNode = self.logic.AddSliceNode(name)
        self.group.SetMRMLDisplayableNode(self.sliceNode)
        self._style.SetInteractor(self.interactor)
        self.sliceNode.SetOrientation(orientation)
        self.logic.ResizeSliceNode(*size)

    def show(self, volumeNode: Any) -> None:
        self.logic.GetSliceCompositeNode().SetBackgroundVolumeID(volumeNode.GetID())
        self.logic.FitSliceToAll()
        self.sliceNode.UpdateMatrices()

    def render(self) -> None:
        if self.logic.GetImageDataConnection() is not None:
            self._mapper.SetInputConnection(self.logic.GetImageDataConnection())
            if not self.renderer.HasViewProp(self._actor):
                self.renderer.AddViewProp(self._actor)
        super().render()

    def device(self, ras: Any) -> tuple[int, int]:
        """The pixel nearest to a world position."""
        toXY = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self.sliceNode.GetXYToRAS(), toXY)
        x, y = toXY.MultiplyPoint((*ras, 1.0))[:2]
        return round(x), round(y)

    def close(self) -> None:
        """Take the view and its nodes out of the application."""
        nodes = (self.logic.GetSliceCompositeNode(), self.sliceNode)
        self._style.SetInteractor(None)
        self.group.SetMRMLDisplayableNode(None)
        slicer.app.applicationLogic().GetSliceLogics().RemoveItem(self.logic)
        self.logic.SetMRMLScene(None)
        for node in nodes:  # singletons: another view of this name would not get nodes of its own
            if node is not None and node.GetScene() is not None:
                node.GetScene().RemoveNode(node)
        self.window.Finalize()


class Layout(Signals):
    """The part of ``slicer.app.layoutManager()`` that finds slice views; a test puts it into ``slicer.app.layout``."""

    def __init__(self, *views: SliceView) -> None:
        super().__init__()
        self.views = {view.sliceNode.GetLayoutName(): view for view in views}

    def sliceViewNames(self) -> list[str]:
        return list(self.views)

    def sliceWidget(self, name: str) -> _SliceWidget | None:
        return _SliceWidget(self.views[name]) if name in self.views else None


class _SliceWidget:
    """The application's three objects for one slice view (widget, view and controller), in one."""

    def __init__(self, view: SliceView) -> None:
        self._view = view

    def sliceView(self) -> _SliceWidget:
        return self

    def interactor(self) -> Any:
        return self._view.interactor

    def mrmlSliceNode(self) -> Any:
        return self._view.sliceNode

    def sliceLogic(self) -> Any:
        return self._view.logic

    def scheduleRender(self) -> None:
        self._view.renders += 1

    def setViewCursor(self, cursor: Any) -> None:
        self._view.cursor = cursor

    setDefaultViewCursor = setViewCursor
