# SPDX-License-Identifier: Apache-2.0
"""A finished stroke as an ordinary markups node: open or closed curve, or ROI."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer

from .strokes import Stroke, StrokeKind

CLASS_NAMES = {
    StrokeKind.SCRIBBLE: "vtkMRMLMarkupsCurveNode",
    StrokeKind.LASSO: "vtkMRMLMarkupsClosedCurveNode",
    StrokeKind.BOX: "vtkMRMLMarkupsROINode",
}


def fillMarkups(markupsNode: Any, stroke: Stroke) -> None:
    """Put a stroke into an empty markups node of the class that :data:`CLASS_NAMES` names, under no transform.

    A box, which is drawn on one slice, becomes as deep as its shorter side is long, with the slice in its middle; that
    is how deep Slicer makes a ROI that is placed with two clicks.
    """
    if stroke.kind is not StrokeKind.BOX:
        slicer.util.updateMarkupsControlPointsFromArray(markupsNode, stroke.points, world=True)
        return
    corner, along, opposite, across = stroke.points
    sides = np.array([along - corner, across - corner])
    lengths = np.linalg.norm(sides, axis=1)
    x, y = sides / lengths[:, None]
    pose = np.eye(4)
    pose[:3, :3] = np.column_stack([x, y, np.cross(x, y)])
    pose[:3, 3] = (corner + opposite) / 2
    modifying = markupsNode.StartModify()
    markupsNode.SetSize(*lengths, lengths.min())
    markupsNode.SetAndObserveObjectToNodeMatrix(slicer.util.vtkMatrixFromArray(pose))
    markupsNode.SetCenter(pose[:3, 3])  # gives it the control point that a person can drag
    markupsNode.EndModify(modifying)
