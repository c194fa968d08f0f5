# SPDX-License-Identifier: Apache-2.0
"""FoundationSeg: 3-D segments from a few prompts, with volumetric foundation models on this computer."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
import vtk
from FoundationSegLib import mrml
from FoundationSegLib.catalogue import model_card
from FoundationSegLib.errors import FoundationSegError, PromptError
from FoundationSegLib.panel.sample_data import registerSampleData
from FoundationSegLib.panel.segment_editor import findOpenEditor
from FoundationSegLib.scene.parameters import FoundationSegParameters
from FoundationSegLib.scene.writer import SegmentWriter
from FoundationSegLib.setup import EMBEDDED
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

if TYPE_CHECKING:
    from FoundationSegLib.predictor import CancelToken
    from FoundationSegLib.prompts import Prompt
    from FoundationSegLib.region import Box3
    from FoundationSegLib.scene.live import LiveSegmentation
    from FoundationSegLib.session import Result, SegmentationSession
    from FoundationSegLib.worker import WorkerSettings

MODEL = "compact"

PromptSource = Any  # a markups node, or (markups node, positive)


class FoundationSeg(ScriptedLoadableModule):
    """Describes the module to the application."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("FoundationSeg")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = []
        self.parent.contributors = ["FoundationSeg contributors"]
        self.parent.helpText = _(
            "Segment any structure of a 3-D image by pointing at it. Choose a volume, press New segment, take a tool "
            "and click on the structure: the segment appears at once. Click on what is missing, or with the other sign "
            "beside the structure where the segment is too large; a box, a scribble or a lasso says more at a time. "
            "<br><br>Keys: P point, O box, S scribble, L lasso, X other sign, N new segment, Esc puts the tool away. "
            "<br><br>Everything runs on this computer, and no image leaves it. Sample volumes are in Sample Data under "
            "FoundationSeg; the README of the extension has a tutorial. Research software: not for clinical use."
        )
        self.parent.acknowledgementText = _(
            "FoundationSeg builds on 3D Slicer and ONNX Runtime; each model's card names its origin and its licence."
        )
        # The Sample Data module is there only when the application has started up.
        slicer.app.connect("startupCompleted()", registerSampleData)


class FoundationSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: it puts its parts together and follows the application; the work is done by LiveSegmentation."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: Any = None  # FoundationSegLogic, from setup on
        self.live: Any = None  # LiveSegmentation
        self._entered = False

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        # Qt is only there when a panel is made: the logic serves scripts without it.
        from FoundationSegLib.panel.first_run import FirstRun
        from FoundationSegLib.panel.live_panel import LivePanel
        from FoundationSegLib.panel.model_list import ModelList
        from FoundationSegLib.panel.prefetch import ViewPrefetch
        from FoundationSegLib.panel.prompt_tools import PromptTools
        from FoundationSegLib.panel.worker_settings import workerSettings

        uiWidget = slicer.util.loadUI(self.resourcePath("UI/FoundationSeg.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = FoundationSegLogic()
        self.live = self.logic.live(workerSettings())
        self.panel = LivePanel(self.ui, self.live)
        self.tools = PromptTools(self.ui.toolsContainer, self.live)
        self.prefetch = ViewPrefetch(self.live, uiWidget)
        self.firstRun = FirstRun(self.ui.firstRunContainer, self.onPackagesReady)
        self.models = ModelList(
            self.ui.modelContainer,
            self.onModelChosen,
            ensure=self.firstRun.ensure,
            showPackages=self.firstRun.showInstalled,
        )
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndClose)
        self.showModel()

    def cleanup(self) -> None:
        """Called when the application closes and the module widget is destroyed, and by Reload."""
        self.removeObservers()
        if self.live is not None:
            self.prefetch.exit()
            self.tools.close()
            self.models.cleanup()
            self.firstRun.cleanup()
            self.panel.close()
            self.live = None
        if self.logic is not None:
            self.logic.cleanup()

    def enter(self) -> None:
        """Called each time the user opens this module."""
        self._entered = True
        self.checkPackages()
        self.models.refresh()
        self.chooseVolume()
        self.panel.enter()
        self.tools.enter()
        self.prefetch.enter()

    def exit(self) -> None:
        """Called each time the user opens a different module; a prediction that is under way goes on."""
        self._entered = False
        self.prefetch.exit()
        self.tools.exit()
        self.panel.exit()

    def chooseVolume(self) -> None:
        """The first volume is chosen where none is, to save a click."""
        if self.live.volumeNode is None:
            volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
            images = [node for node in volumes if not node.IsA("vtkMRMLLabelMapVolumeNode")]
            if images:
                self.live.setVolume(images[0])

    def onSceneEndClose(self, caller: Any, event: Any) -> None:
        """The scene is another one."""
        if self._entered:
            self.chooseVolume()
        self.showModel()
        if self._entered:
            self.checkPackages()
        self.panel.showChoices()

    def checkPackages(self) -> None:
        """Offer to install what the chosen model needs; a scene from elsewhere can name one never used here."""
        try:
            card = model_card(self.live.choice.name)
        except FoundationSegError:
            self.panel.setReady(self.firstRun.check())
        else:
            need = EMBEDDED if card.source == "embedded" else card.family
            self.panel.setReady(self.firstRun.check(need))

    def onPackagesReady(self, need: str) -> None:
        """What was missing is installed, or was removed again."""
        self.checkPackages()
        self.panel.showChoices()

    def onModelChosen(self, name: str, checkpoint: Path | None) -> None:
        """The user has chosen a model that can be used at once."""
        try:
            self.live.setModel(name, checkpoint, self.live.parameters.device)
        except FoundationSegError as error:
            self.panel.showMessage(str(error), isError=True)
        self.showModel()
        self.checkPackages()
        self.panel.showChoices()

    def showModel(self) -> None:
        """Show which model the scene has chosen, and offer the prompts that it takes."""
        choice = self.live.choice
        try:
            card = model_card(choice.name)
        except FoundationSegError:
            self.tools.setPromptKinds(None)
            self.panel.names.setModel(None)
        else:
            self.panel.names.setModel(card)
            self.tools.setPromptKinds(card.prompts, card.title)
            self.models.setChosen(choice.name, choice.checkpoint)


class FoundationSegLogic(ScriptedLoadableModuleLogic, VTKObservationMixin):
    """Segments volumes of the scene from prompts of the scene, without a window too::

        logic = FoundationSegLogic()
        result = logic.segment(volumeNode, [pointsNode, (avoidNode, False), roiNode], segmentationNode, segmentId)

    One session is kept per volume, so that further prompts, and further segments in the same region, cost no second run
    of the image encoder.
    """

    SESSIONS_KEPT = 2

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        VTKObservationMixin.__init__(self)
        self._sessions: dict[tuple[Any, ...], SegmentationSession] = {}
        self._live: LiveSegmentation | None = None
        self._writers: dict[str, SegmentWriter] = {}
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeRemovedEvent, self._onNodeRemoved)

    def cleanup(self) -> None:
        """Free the sessions' memory and leave nothing in the scene."""
        self.removeObservers()
        if self._live is not None:
            self._live.close()
            self._live = None
        self._sessions.clear()
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def getParameters(self) -> FoundationSegParameters:
        """What the scene says is chosen."""
        return FoundationSegParameters(self.getParameterNode())

    def live(self, settings: WorkerSettings | None = None) -> LiveSegmentation:
        """What a panel works with: results follow the markups of the scene, made in a worker process."""
        from FoundationSegLib.expectation import default_path
        from FoundationSegLib.scene.live import LiveSegmentation

        if self._live is None:
            parameters = self.getParameters()
            self._live = LiveSegmentation(parameters, settings, findEditor=findOpenEditor, timings=default_path())
        return self._live

    def segment(
        self,
        volumeNode: Any,
        promptNodes: Iterable[PromptSource],
        segmentationNode: Any,
        segmentId: str,
        *,
        cancel: CancelToken | None = None,
        progress: Callable[[str, float], None] | None = None,
    ) -> Result:
        """Make or refine a segment from the prompts that markups nodes stand for.

        The prompts that made the segment are stored with it. When all of them are still there, the new ones refine the
        result as a further round; when one was moved or removed, or nothing is new, the segment's result is made afresh
        from all prompts. Voxels that the model did not change are left alone: manual edits stay.

        Args:
            promptNodes: markups nodes, or (markups node, positive) pairs; see mrml.promptsFromMarkups.

        Returns:
            the engine's result, whose box (k, j, i) is the part of the volume that changed.

        Raises:
            FoundationSegError: what was wrong and what to do, as one sentence; nothing was changed.
        """
        prompts = _promptsFromSources(promptNodes)
        session = self._session(volumeNode)
        key = f"{segmentationNode.GetID()}/{segmentId}"
        stored = self._storedRounds(segmentationNode, segmentId, session)
        if (session.rounds(key) if key in session.segments() else ()) != stored:
            # The scene was loaded, or the user went back in the undo history: the segment is right, the session is not.
            session.remove(key)
            if stored:
                session.replay(key, stored, cancel)

        given = [prompt for round_ in stored for prompt in round_]
        new = [prompt for prompt in prompts if prompt not in given]
        cleared = None
        if not new or any(prompt not in prompts for prompt in given):
            cleared, new = session.reset(key), prompts
        result = session.add(key, *new, cancel=cancel, progress=progress)
        name = segmentationNode.GetSegmentation().GetSegment(segmentId).GetName()
        box = _union(cleared.box, result.box) if cleared is not None else result.box
        result = dataclasses.replace(result, segment=name, box=box)

        editor = findOpenEditor(segmentationNode)
        self._writer(segmentationNode).commit(
            segmentId,
            volumeNode,
            session.mask(key),
            result.box,
            tags=session.tags(key),
            saveStateForUndo=None if editor is None else editor.saveStateForUndo,
        )
        return result

    def undo(self, segmentationNode: Any) -> None:
        """Take the last result back, voxels and stored prompts, as the Segment Editor's undo does where it is open."""
        self._writer(segmentationNode).undo()

    def redo(self, segmentationNode: Any) -> None:
        self._writer(segmentationNode).redo()

    def _session(self, volumeNode: Any) -> SegmentationSession:
        """The volume's session; a new one when its voxels or its place in the world have changed."""
        key = mrml.volumeKey(volumeNode)
        session = self._sessions.pop(key, None)
        if session is None:
            from FoundationSegLib.session import SegmentationSession

            self._forgetVolume(volumeNode.GetID())
            session = SegmentationSession(mrml.volumeFromNode(volumeNode), MODEL)
        self._sessions[key] = session
        while len(self._sessions) > self.SESSIONS_KEPT:
            del self._sessions[next(iter(self._sessions))]  # the one that was used longest ago
        return session

    def _storedRounds(self, segmentationNode: Any, segmentId: str, session: SegmentationSession) -> tuple[Any, ...]:
        """The rounds of prompts stored with the segment, if they were given on this very volume at this very place."""
        try:
            origin = mrml.provenance(segmentationNode, segmentId)
            rounds = mrml.promptRounds(segmentationNode, segmentId)
        except PromptError as error:
            logging.warning("FoundationSeg starts this segment's prompts afresh: %s", error)
            return ()
        return rounds if origin.get("volume") == session.volume.fingerprint else ()

    def _writer(self, segmentationNode: Any) -> SegmentWriter:
        nodeId = segmentationNode.GetID()
        if nodeId not in self._writers:
            self._writers[nodeId] = SegmentWriter(segmentationNode)
        return self._writers[nodeId]

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeRemoved(self, caller: Any, event: Any, node: Any) -> None:
        self._forgetVolume(node.GetID())
        writer = self._writers.pop(node.GetID(), None)
        if writer is not None:
            writer.close()

    def _forgetVolume(self, nodeId: str) -> None:
        for key in [key for key in self._sessions if key[0] == nodeId]:
            del self._sessions[key]


def _promptsFromSources(sources: Iterable[PromptSource]) -> list[Prompt]:
    prompts: list[Prompt] = []
    for source in sources:
        node, positive = source if isinstance(source, tuple) else (source, True)
        prompts += mrml.promptsFromMarkups(node, positive)
    if not prompts:
        raise PromptError(_("No prompt is placed yet; put a point, a box or a curve on the structure."))
    return prompts


def _union(a: Box3, b: Box3) -> Box3:
    """The smallest box around two, either of which may be empty."""
    if a[0] == slice(0, 0) or b[0] == slice(0, 0):
        return b if a[0] == slice(0, 0) else a
    k, j, i = (slice(min(x.start, y.start), max(x.stop, y.stop)) for x, y in zip(a, b, strict=True))
    return k, j, i


class FoundationSegTest(ScriptedLoadableModuleTest):
    """A whole run on a synthetic volume, with the embedded model."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        """Run by Slicer's "Reload and Test"."""
        self.setUp()
        self.test_ball_is_segmented_from_one_point()

    def test_ball_is_segmented_from_one_point(self) -> None:
        import numpy as np

        shape, centre, radius = (40, 48, 56), (20, 24, 28), 9
        offsets = np.indices(shape) - np.reshape(centre, (3, 1, 1, 1))
        ball = (offsets**2).sum(axis=0) <= radius**2
        voxels = np.where(ball, 120, -40) + np.random.default_rng(0).normal(scale=10, size=shape)
        volumeNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "ball")
        slicer.util.updateVolumeFromArray(volumeNode, voxels.astype(np.int16))
        volumeNode.SetSpacing(1.5, 1.5, 2.0)
        points = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
        points.AddControlPoint(vtk.vtkVector3d(centre[2] * 1.5, centre[1] * 1.5, centre[0] * 2.0))

        logic = FoundationSegLogic()
        segmentationNode = mrml.createSegmentation(volumeNode)
        segmentId = mrml.addSegment(segmentationNode, "ball")
        logic.segment(volumeNode, [points], segmentationNode, segmentId)
        mask = mrml.segmentMask(segmentationNode, segmentId, volumeNode)
        dice = 2 * (mask & ball).sum() / (mask.sum() + ball.sum())
        self.assertGreater(dice, 0.6)
        logic.cleanup()
        self.delayDisplay("Test passed")
