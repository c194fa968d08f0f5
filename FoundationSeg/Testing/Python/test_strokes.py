# SPDX-License-Identifier: Apache-2.0
"""Strokes on slice views: synthetic mouse events on real interactors and slice nodes of any orientation."""

from __future__ import annotations

import unittest
from typing import Any

import numpy as np
from scene_case import SceneTestCase, matrix, slicer, vtk  # first: it completes what the scene layer needs

# isort: split
from FoundationSegLib import mrml
from FoundationSegLib.prompts import Box, Lasso, Scribble
from FoundationSegLib.scene import prompt_style
from FoundationSegLib.scene.stroke_geometry import simplified
from FoundationSegLib.scene.stroke_markups import CLASS_NAMES, fillMarkups
from FoundationSegLib.scene.strokes import SliceView, Stroke, StrokeKind, StrokeTool

SIZE = (400, 300)
CIRCLE = [(round(200 + 60 * np.cos(a)), round(150 + 60 * np.sin(a))) for a in np.linspace(0, 2 * np.pi, 40)]


class StrokeCase(SceneTestCase):
    """A slice view of an oblique plane, and a stroke tool on it."""

    def setUp(self) -> None:
        super().setUp()
        self.view = self.addView("StrokesTest")
        self.strokes: list[Stroke] = []
        self.refusals: list[str] = []
        self.tool = StrokeTool(self.strokes.append, self.refusals.append)
        self.tool.setViews([self.view])
        self.addCleanup(self.tool.stop)
        self.seen: list[str] = []  # what Slicer's own handling would get, as that has priority 0
        for name in ("LeftButtonPress", "MouseMove", "LeftButtonRelease", "MouseWheelForward", "RightButtonPress"):
            self.view.interactor.AddObserver(f"{name}Event", lambda caller, event: self.seen.append(event))

    def addView(self, name: str) -> SliceView:
        node = slicer.vtkMRMLSliceNode()
        node.SetLayoutName(name)
        node.SetName(name)
        node = self.scene.AddNode(node)
        node.SetDimensions(*SIZE, 1)
        node.SetFieldOfView(SIZE[0] * 0.5, SIZE[1] * 0.5, 1)
        pose = np.eye(4)
        pose[:3, :3] = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
        pose[:3, 3] = (20, -30, 40)
        node.GetSliceToRAS().DeepCopy(matrix(pose))
        node.UpdateMatrices()
        interactor = vtk.vtkGenericRenderWindowInteractor()
        interactor.SetSize(*SIZE)
        return SliceView(interactor, node)

    def event(self, name: str, x: int = 0, y: int = 0, *, shift: bool = False, key: str = "", view: Any = None) -> None:
        interactor = (view or self.view).interactor
        interactor.SetEventInformation(x, y, 0, int(shift), chr(0), 0, key or None)
        interactor.InvokeEvent(f"{name}Event")

    def drag(self, *positions: tuple[int, int], release: bool = True) -> None:
        self.event("LeftButtonPress", *positions[0])
        for position in positions[1:]:
            self.event("MouseMove", *position)
        if release:
            self.event("LeftButtonRelease", *positions[-1])

    def expected(self, x: float, y: float) -> np.ndarray:
        """World position of a pixel, from the slice node's own pose and field of view, not from its XYToRAS."""
        toRas = slicer.util.arrayFromVTKMatrix(self.view.sliceNode.GetSliceToRAS())
        inPlane = ((x - SIZE[0] / 2) * 0.5, (y - SIZE[1] / 2) * 0.5, 0.0)
        return toRas[:3, :3] @ inPlane + toRas[:3, 3]

    def normal(self) -> np.ndarray:
        return slicer.util.arrayFromVTKMatrix(self.view.sliceNode.GetSliceToRAS())[:3, 2]


class StrokeToolTest(StrokeCase):
    def test_a_scribble_runs_where_it_was_drawn_on_an_oblique_slice(self) -> None:
        self.tool.start(StrokeKind.SCRIBBLE, positive=False)
        self.drag((50, 60), (100, 60), (100, 200))
        (stroke,) = self.strokes
        self.assertEqual((stroke.kind, stroke.positive), (StrokeKind.SCRIBBLE, False))
        self.assertEqual(stroke.sliceNodeId, self.view.sliceNode.GetID())
        np.testing.assert_allclose(stroke.points, [self.expected(*p) for p in ((50, 60), (100, 60), (100, 200))])

    def test_slicer_gets_nothing_of_a_stroke_and_everything_else(self) -> None:
        self.tool.start(StrokeKind.SCRIBBLE)
        self.event("MouseMove", 5, 5)
        self.assertEqual(self.seen, ["MouseMoveEvent"])
        self.drag((50, 60), (100, 60), release=False)
        self.event("MouseWheelForward", 100, 60)
        self.event("LeftButtonRelease", 100, 60)
        self.assertEqual(self.seen, ["MouseMoveEvent"])
        self.event("MouseWheelForward")
        self.event("LeftButtonPress", shift=True)  # pans
        self.event("LeftButtonRelease")
        self.assertEqual(self.seen[1:], ["MouseWheelForwardEvent", "LeftButtonPressEvent", "LeftButtonReleaseEvent"])
        self.assertEqual(len(self.strokes), 1)

    def test_a_tool_that_is_put_away_takes_nothing(self) -> None:
        self.tool.start(StrokeKind.LASSO)
        self.tool.stop()
        self.assertIsNone(self.tool.kind)
        self.drag(*CIRCLE)
        self.assertEqual((self.strokes, self.refusals), ([], []))
        self.assertEqual(len(self.seen), len(CIRCLE) + 1)

    def test_escape_and_the_right_button_drop_the_stroke(self) -> None:
        self.tool.start(StrokeKind.LASSO)
        for name, key in (("KeyPress", "Escape"), ("RightButtonPress", "")):
            self.drag(*CIRCLE, release=False)
            self.assertTrue(self.tool.drawing)
            self.event(name, key=key)
            self.assertFalse(self.tool.drawing)
            self.event("LeftButtonRelease", *CIRCLE[-1])
        self.assertEqual((self.strokes, self.refusals), ([], []))
        self.assertNotIn("RightButtonPressEvent", self.seen)
        self.drag(*CIRCLE)
        self.assertEqual(len(self.strokes), 1)

    def test_what_encloses_or_follows_nothing_is_refused_with_a_sentence(self) -> None:
        for kind, positions, words in (
            (StrokeKind.SCRIBBLE, [(50, 60), (51, 61)], "along"),
            (StrokeKind.LASSO, [(50, 60), (80, 60), (120, 60)], "around"),
            (StrokeKind.LASSO, [(50, 60)], "around"),
            (StrokeKind.BOX, [(50, 60), (150, 61)], "corner"),
        ):
            self.tool.start(kind)
            self.drag(*positions)
            self.assertIn(words, self.refusals.pop())
        self.assertEqual((self.strokes, self.refusals), ([], []))

    def test_a_slice_that_changes_under_the_stroke_drops_it(self) -> None:
        self.tool.start(StrokeKind.SCRIBBLE)
        self.drag((50, 60), (100, 60), release=False)
        self.view.sliceNode.SetSliceOffset(self.view.sliceNode.GetSliceOffset() + 5)
        self.event("MouseMove", 150, 60)
        self.event("LeftButtonRelease", 150, 60)
        self.assertEqual(self.strokes, [])
        self.assertIn("slice changed", self.refusals[0])

    def test_zooming_under_the_stroke_leaves_it_on_its_plane(self) -> None:
        self.tool.start(StrokeKind.SCRIBBLE)
        self.drag((50, 60), (100, 60), release=False)
        self.view.sliceNode.SetFieldOfView(100, 75, 1)
        self.event("MouseMove", 150, 100)
        self.event("LeftButtonRelease", 150, 100)
        offsets = (self.strokes[0].points - self.strokes[0].points[0]) @ self.normal()
        np.testing.assert_allclose(offsets, 0, atol=1e-9)

    def test_the_sign_can_change_while_drawing(self) -> None:
        self.tool.start(StrokeKind.SCRIBBLE)
        self.drag((50, 60), (100, 60), release=False)
        self.tool.positive = False
        self.event("LeftButtonRelease", 100, 60)
        self.assertFalse(self.strokes[0].positive)

    def test_every_view_draws_and_a_view_that_goes_drops_its_stroke(self) -> None:
        other = self.addView("StrokesTest2")
        self.tool.setViews([self.view, other])
        self.tool.start(StrokeKind.SCRIBBLE)
        self.event("LeftButtonPress", 50, 60, view=other)
        self.event("MouseMove", 90, 60)  # over the first view; not this stroke's
        self.event("MouseMove", 100, 60, view=other)
        self.event("LeftButtonRelease", 100, 60, view=other)
        self.assertEqual(self.strokes[0].sliceNodeId, other.sliceNode.GetID())
        self.assertEqual(len(self.strokes[0].points), 2)
        self.event("LeftButtonPress", 50, 60, view=other)
        self.tool.setViews([self.view])
        self.assertFalse(self.tool.drawing)
        for name, x in (("LeftButtonPress", 50), ("MouseMove", 90), ("LeftButtonRelease", 90)):
            self.event(name, x, 60, view=other)
        self.assertEqual(len(self.strokes), 1)

    def test_a_tool_may_be_put_away_by_the_stroke_that_it_made(self) -> None:
        tool = StrokeTool(lambda stroke: (self.strokes.append(stroke), tool.stop()))
        tool.setViews([self.view])
        tool.start(StrokeKind.SCRIBBLE)
        self.drag((50, 60), (100, 60))
        self.drag((50, 60), (100, 60))
        self.assertEqual(len(self.strokes), 1)


class MarkupsFromStrokesTest(StrokeCase):
    def draw(self, kind: StrokeKind, *positions: tuple[int, int], positive: bool = True) -> Any:
        self.tool.start(kind, positive)
        self.drag(*positions)
        stroke = self.strokes.pop()
        node = self.scene.AddNewNodeByClass(CLASS_NAMES[kind])
        prompt_style.stylePrompt(node, stroke.positive)
        fillMarkups(node, stroke)
        return node

    def test_a_scribble_is_a_signed_open_curve(self) -> None:
        node = self.draw(StrokeKind.SCRIBBLE, (50, 60), (100, 60), (100, 200), positive=False)
        (prompt,) = mrml.promptsFromMarkups(node)
        self.assertIsInstance(prompt, Scribble)
        self.assertFalse(prompt.positive)
        np.testing.assert_allclose(prompt.points[0], self.expected(50, 60))
        np.testing.assert_allclose(prompt.points[-1], self.expected(100, 200))
        self.assertEqual(prompt_style.promptName("scribble", False), "Scribble beside")

    def test_a_lasso_is_a_closed_curve_on_the_slice(self) -> None:
        node = self.draw(StrokeKind.LASSO, *CIRCLE)
        (prompt,) = mrml.promptsFromMarkups(node)
        self.assertIsInstance(prompt, Lasso)
        points = np.array(prompt.points)
        np.testing.assert_allclose((points - self.expected(200, 150)) @ self.normal(), 0, atol=1e-9)
        radii = np.linalg.norm(points - self.expected(200, 150), axis=1)
        np.testing.assert_allclose(radii, 30, atol=1.0)  # a pixel is 0.5 mm

    def test_a_box_lies_along_the_slice_and_is_as_deep_as_its_shorter_side(self) -> None:
        node = self.draw(StrokeKind.BOX, (100, 200), (150, 150), (200, 140), positive=False)
        (prompt,) = mrml.promptsFromMarkups(node)
        self.assertIsInstance(prompt, Box)
        self.assertFalse(prompt.positive)
        np.testing.assert_allclose(np.subtract(prompt.ras_max, prompt.ras_min), (50, 30, 30), atol=1e-4)
        axes = np.asarray(prompt.axes)
        np.testing.assert_allclose(np.abs(axes[2] @ self.normal()), 1, atol=1e-6)
        for corner in ((100, 200), (200, 140), (100, 140), (200, 200)):
            inBox = axes @ self.expected(*corner)
            toFaces = np.minimum(inBox[:2] - prompt.ras_min[:2], prompt.ras_max[:2] - inBox[:2])
            np.testing.assert_allclose(toFaces, 0, atol=1e-4)
        self.assertEqual(node.GetNumberOfControlPoints(), 1)
        np.testing.assert_allclose(node.GetNthControlPointPositionWorld(0), self.expected(150, 170), atol=1e-4)

    def test_a_box_is_changed_by_its_handles_while_the_tool_is_in_the_hand(self) -> None:
        """Through Slicer's own handles."""
        if slicer.app.applicationName != "headless stand-in":
            self.skipTest("brings a view of its own")
        from headless_slicer import views

        view = views.SliceView("StrokeHandles", (600, 400))
        self.addCleanup(view.close)
        self.view = SliceView(view.interactor, view.sliceNode)
        self.tool.setViews([self.view])
        node = self.draw(StrokeKind.BOX, (200, 150), (300, 250))
        view.render()
        size = node.GetSize()
        view.event("EnterEvent", 100, 100)
        for x in (290, 300, 300):
            view.event("MouseMoveEvent", x, 200)
        view.drag((300, 200), (320, 200), (350, 200))
        self.assertEqual(self.strokes, [])
        np.testing.assert_allclose(node.GetSize()[0], 1.5 * size[0], rtol=0.02)
        view.event("MouseMoveEvent", 500, 100)
        view.drag((500, 100), (550, 150))
        self.assertEqual(len(self.strokes), 1)

    def test_a_stroke_has_the_colour_of_its_sign_wherever_it_is_shown(self) -> None:
        """Slicer's own drawing, on slices that cross the stroke: it is green, neither blue behind nor red before."""
        if slicer.app.applicationName != "headless stand-in":
            self.skipTest("brings a view of its own")
        from headless_slicer import views

        view = views.SliceView("StrokeColours")
        self.addCleanup(view.close)
        node = self.draw(StrokeKind.SCRIBBLE, (50, 60), (100, 60), (100, 200))
        pose = slicer.util.arrayFromVTKMatrix(self.view.sliceNode.GetSliceToRAS())
        pose[:3, 3] = node.GetNthControlPointPositionWorld(1)
        for angle in np.radians((0, 12, -12)):
            tilt = np.eye(4)
            tilt[[0, 0, 2, 2], [0, 2, 0, 2]] = np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)
            view.sliceNode.GetSliceToRAS().DeepCopy(matrix(pose @ tilt))
            view.sliceNode.SetFieldOfView(200, 150, 1)
            view.sliceNode.UpdateMatrices()
            view.sliceNode.Modified()
            pixels = view.picture().reshape(-1, 3).astype(int)
            drawn = pixels[pixels.max(axis=1) > 60]
            self.assertGreater(len(drawn), 200)
            hue = np.asarray(prompt_style.POSITIVE_COLOR) / max(prompt_style.POSITIVE_COLOR)
            np.testing.assert_allclose(drawn / drawn.max(axis=1, keepdims=True) - hue, 0, atol=0.1)

    def test_colours_and_shapes_tell_the_sign(self) -> None:
        nodes = [self.addPoints((1, 2, 3)), self.addPoints((1, 2, 3))]
        for node, sign in zip(nodes, (True, False), strict=True):
            prompt_style.stylePrompt(node, sign)
        displays = [node.GetDisplayNode() for node in nodes]
        self.assertNotEqual(displays[0].GetGlyphType(), displays[1].GetGlyphType())
        self.assertNotEqual(displays[0].GetSelectedColor(), displays[1].GetSelectedColor())
        self.assertEqual([mrml.promptSign(node) for node in nodes], [True, False])


class SimplifiedTest(unittest.TestCase):
    def test_a_straight_line_keeps_its_ends(self) -> None:
        line = np.linspace((0, 0, 0), (10, 20, 30), 200)
        np.testing.assert_array_equal(simplified(line, 0.1), line[[0, -1]])

    def test_no_point_is_farther_than_the_tolerance_from_what_is_left(self) -> None:
        angles = np.linspace(0, 6, 500)
        curve = np.column_stack([np.cos(angles) * 30, np.sin(2 * angles) * 20, angles])
        left = simplified(curve, 0.5)
        self.assertLess(len(left), 60)
        starts, along = left[:-1], np.diff(left, axis=0)
        fraction = np.clip(((curve[:, None] - starts) * along).sum(-1) / (along**2).sum(-1), 0, 1)
        distances = np.linalg.norm(curve[:, None] - starts - fraction[..., None] * along, axis=-1).min(axis=1)
        self.assertLessEqual(distances.max(), 0.5)

    def test_points_that_coincide_do_no_harm(self) -> None:
        points = np.zeros((5, 3))
        self.assertEqual(len(simplified(points, 0.5)), 2)
        self.assertEqual(len(simplified(points[:1], 0.5)), 1)


if __name__ == "__main__":
    unittest.main()
