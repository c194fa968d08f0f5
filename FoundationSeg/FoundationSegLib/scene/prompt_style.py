# SPDX-License-Identifier: Apache-2.0
"""How prompts look in the views: the sign shows as colour and as shape, so that no one needs to tell red from green."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from ..mrml import setPromptSign

Color = tuple[float, float, float]

# Bluish green and vermilion, which people with a colour-vision deficiency can tell apart (Okabe and Ito, Color
# Universal Design, 2008), a little lighter for dark images.
POSITIVE_COLOR: Color = (0.10, 0.75, 0.55)
NEGATIVE_COLOR: Color = (0.95, 0.42, 0.15)

_POINT_PERCENT = 4.5  # of the view's height
_STROKE_POINT_PERCENT = 0.8
_STROKE_LINE_RATIO = 0.6  # of the glyphs that the line connects
_STROKE_SHOWN_MM = 3.0  # on either side of a slice


def signColor(positive: bool) -> Color:
    """RGB in [0, 1]."""
    return POSITIVE_COLOR if positive else NEGATIVE_COLOR


def promptName(kind: str, positive: bool) -> str:
    """What a person reads in the list of markups for a prompt of that kind ("point", "box", ...) and sign."""
    on, beside = {
        "point": (_("On"), _("Beside")),
        "box": (_("Box"), _("Box beside")),
        "scribble": (_("Scribble"), _("Scribble beside")),
        "lasso": (_("Lasso"), _("Lasso beside")),
        "text": (_("Name"), _("Other name")),
    }[kind]
    return on if positive else beside


def stylePrompt(markupsNode: Any, positive: bool) -> None:
    """Give a markups node its sign, and the display that goes with it."""
    setPromptSign(markupsNode, positive)
    if markupsNode.IsA("vtkMRMLMarkupsCurveNode"):  # a lasso is one, too
        markupsNode.SetCurveTypeToLinear()
    markupsNode.CreateDefaultDisplayNodes()
    display = markupsNode.GetDisplayNode()
    modifying = display.StartModify()
    color = signColor(positive)
    display.SetColor(color)
    display.SetSelectedColor(color)
    display.SetActiveColor(tuple(0.5 + 0.5 * value for value in color))
    display.SetPointLabelsVisibility(False)
    display.SetPropertiesLabelVisibility(False)
    display.SetUseGlyphScale(True)
    if markupsNode.IsA("vtkMRMLMarkupsFiducialNode"):
        # VTK's cross is a plus, and its dash a minus.
        display.SetGlyphType(display.ThickCross2D if positive else display.Dash2D)
        display.SetGlyphScale(_POINT_PERCENT)
    elif markupsNode.IsA("vtkMRMLMarkupsCurveNode"):
        display.SetGlyphScale(_STROKE_POINT_PERCENT)
        display.SetLineThickness(_STROKE_LINE_RATIO)
        # Slicer turns lines blue behind the slice and red in front of it, where the colour is to say the sign; so they
        # are shown as far as they keep their colour.
        display.SetLineColorFadingStart(_STROKE_SHOWN_MM)
        display.SetLineColorFadingEnd(_STROKE_SHOWN_MM + 0.01)
        display.SetFillVisibility(False)
    elif markupsNode.IsA("vtkMRMLMarkupsROINode"):
        display.SetFillVisibility(False)
        display.SetHandlesInteractive(True)
    display.EndModify(modifying)
