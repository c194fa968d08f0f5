# SPDX-License-Identifier: Apache-2.0
"""MRML scene and module logics of the ``slicer-core`` wheel, wired as the desktop application wires them."""

from __future__ import annotations

import tempfile
from typing import Any

# Those that the modules under test touch: each registers its node classes with the scene, as in the application.
# Terminologies is left out on purpose: its dictionaries are not in the wheel, and it complains about that on stderr.
LOGICS = {
    "Colors": "vtkMRMLColorLogic",
    "Units": "vtkSlicerUnitsLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
}


class MRMLCore:
    """One scene with the application logic and the module logics of :data:`LOGICS`."""

    def __init__(self, slicer: Any, vtk: Any) -> None:
        output = vtk.vtkOutputWindow()
        output.SetDisplayModeToAlwaysStdErr()
        vtk.vtkOutputWindow.SetInstance(output)

        self.scene = slicer.vtkMRMLScene()
        crosshair = slicer.vtkMRMLCrosshairNode()
        crosshair.SetCrosshairName("default")
        self.scene.AddNode(crosshair)

        self.applicationLogic = slicer.vtkSlicerApplicationLogic()
        self.applicationLogic.SetMRMLScene(self.scene)
        self.applicationLogic.SetSliceLogics(vtk.vtkCollection())
        self.applicationLogic.SetViewLogics(vtk.vtkCollection())
        for view in ("ThreeD", "Slice"):
            factory = getattr(slicer, f"vtkMRML{view}ViewDisplayableManagerFactory")
            factory.GetInstance().SetMRMLApplicationLogic(self.applicationLogic)

        self.logics: dict[str, Any] = {}
        for name, className in LOGICS.items():
            logic = getattr(slicer, className)()
            logic.SetMRMLApplicationLogic(self.applicationLogic)
            logic.SetMRMLScene(self.scene)
            self.applicationLogic.SetModuleLogic(name, logic)
            self.logics[name] = logic
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.scene, True)
        self._wireRemoteIO(slicer)

    def _wireRemoteIO(self, slicer: Any) -> None:
        """Give the scene a data manager: without one it cannot read the ``.mrb`` files that it writes."""
        self._remoteLogic = slicer.vtkMRMLRemoteIOLogic()
        self._dataManagerLogic = slicer.vtkDataIOManagerLogic()
        for logic in (self._remoteLogic, self._dataManagerLogic):
            logic.SetMRMLApplicationLogic(self.applicationLogic)
        self._remoteLogic.SetMRMLScene(self.scene)
        self._cache = tempfile.TemporaryDirectory(prefix="headless_slicer_cache_")
        self._remoteLogic.GetCacheManager().SetRemoteCacheDirectory(self._cache.name)
        self._dataManagerLogic.SetMRMLScene(self.scene)
        self._dataManagerLogic.SetAndObserveDataIOManager(self._remoteLogic.GetDataIOManager())
        self._remoteLogic.AddDataIOToScene()
