# SPDX-License-Identifier: Apache-2.0
"""FoundationSeg: 3-D segments from a few prompts, with volumetric foundation models on this computer."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import slicer
import vtk
from FoundationSegLib import mrml
from FoundationSegLib.catalogue import model_card
from FoundationSegLib.errors import FoundationSegError, PromptError
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
    from FoundationSegLib.session import Result, SegmentationSession

MODEL = "compact"
# Without this the model cannot run; where it is missing, everything in Resources/requirements.txt is installed.
REQUIRED_PACKAGE = "onnxruntime"

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
            "Segment any structure of a 3-D image by pointing at it: put points, a box or a curve on it and press "
            "Apply. Everything runs on this computer. Not for clinical use."
        )
        self.parent.acknowledgementText = _(
            "FoundationSeg builds on 3D Slicer and ONNX Runtime; each model's card names its origin and its licence."
        )


class _NodeReference:
    """A node of the scene that a parameter node refers to, as a typed attribute."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._role = name

    def __get__(self, instance: FoundationSegParameters, owner: type) -> Any:
        return instance.node.GetNodeReference(self._role)

    def __set__(self, instance: FoundationSegParameters, node: Any) -> None:
        instance.node.SetNodeReferenceID(self._role, node.GetID() if node is not None else None)


class FoundationSegParameters:
    """What a user chose, kept in a vtkMRMLScriptedModuleNode, so that the scene saves and restores it."""

    volume = _NodeReference()
    positivePoints = _NodeReference()
    negativePoints = _NodeReference()
    box = _NodeReference()
    curve = _NodeReference()
    segmentation = _NodeReference()

    def __init__(self, node: Any) -> None:
        self.node = node

    @property
    def segmentName(self) -> str:
        """Name of the segment to make or to refine."""
        return self.node.GetParameter("segmentName") or ""

    @segmentName.setter
    def segmentName(self, name: str) -> None:
        self.node.SetParameter("segmentName", name)

    def promptSources(self) -> list[tuple[Any, bool]]:
        """The chosen markups nodes, each with the sign of its points."""
        signed = ((self.positivePoints, True), (self.negativePoints, False), (self.box, True), (self.curve, True))
        return [(node, positive) for node, positive in signed if node is not None]

    def missing(self) -> str:
        """What is still to be chosen before the model can run, as a sentence; empty when nothing is."""
        if self.volume is None:
            return _("Choose a volume.")
        if not self.promptSources():
            return _("Choose at least one prompt: points, a box or a curve.")
        if not self.segmentName.strip():
            return _("Name the segment.")
        return ""


# The panel's node selectors and the parameters that they show.
SELECTORS = {
    "volumeSelector": "volume",
    "positivePointsSelector": "positivePoints",
    "negativePointsSelector": "negativePoints",
    "boxSelector": "box",
    "curveSelector": "curve",
    "segmentationSelector": "segmentation",
}


class FoundationSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel. It shows and changes FoundationSegParameters, and hands them to FoundationSegLogic."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: Any = None  # FoundationSegLogic, from setup on
        self._parameters: FoundationSegParameters | None = None
        self._segmentation: Any = None  # the vtkSegmentation whose segments the panel lists
        self._entered = False
        self._updating = False

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/FoundationSeg.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.ui.segmentSelector.lineEdit().placeholderText = _("Name of a new segment")
        self.logic = FoundationSegLogic()

        for name in SELECTORS:
            getattr(self.ui, name).connect("currentNodeChanged(vtkMRMLNode*)", self._onSelection)
        self.ui.segmentSelector.connect("editTextChanged(QString)", self._onSelection)
        self.ui.applyButton.connect("clicked(bool)", self.onApplyButton)
        self.ui.installButton.connect("clicked(bool)", self.onInstallButton)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self._showModel()
        self.initializeParameterNode()

    def cleanup(self) -> None:
        """Called when the application closes and the module widget is destroyed."""
        self._setParameters(None)
        self.removeObservers()
        if self.logic is not None:
            self.logic.cleanup()

    def enter(self) -> None:
        """Called each time the user opens this module."""
        self._entered = True
        self._showModel()
        self.initializeParameterNode()

    def exit(self) -> None:
        """Called each time the user opens a different module."""
        self._entered = False
        self._setParameters(None)

    def onSceneStartClose(self, caller: Any, event: Any) -> None:
        self._setParameters(None)

    def onSceneEndClose(self, caller: Any, event: Any) -> None:
        if self._entered:
            self.initializeParameterNode()

    def initializeParameterNode(self) -> None:
        """Show the scene's choices; the first volume is chosen where none is, to save a few clicks."""
        parameters = self.logic.getParameters()
        if parameters.volume is None:
            parameters.volume = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
        self._setParameters(parameters)

    def onApplyButton(self) -> None:
        if self._parameters is None:
            return
        self._showStatus(_("Segmenting..."))
        slicer.app.processEvents()
        with slicer.util.WaitCursor():
            try:
                result = self.logic.apply(self._parameters)
            except FoundationSegError as error:
                self._showStatus(str(error), isError=True)
                return
            except Exception:
                logging.exception("FoundationSeg could not segment")
                self._showStatus(_("Something went wrong here; the application log has the details."), isError=True)
                return
        lines = [
            _("{segment}: {volume:.1f} mL in {seconds:.1f} s").format(
                segment=result.segment, volume=result.volume_ml, seconds=sum(result.timings.values())
            ),
            *result.warnings,
        ]
        self._showStatus("\n".join(lines))

    def onInstallButton(self) -> None:
        """Install what is missing, with the user's consent, and never while tests run."""
        if slicer.app.testingEnabled():
            self._showStatus(_("Packages are not installed while tests run."), isError=True)
            return
        try:
            installRequirements(self.resourcePath("requirements.txt"))
        except Exception as error:
            logging.exception("FoundationSeg could not install its Python packages")
            self._showStatus(_("The Python packages could not be installed: {error}").format(error=error), isError=True)
        self._showModel()
        self._updateApply()

    # --- parameters <-> widgets

    def _setParameters(self, parameters: FoundationSegParameters | None) -> None:
        if self._parameters is not None:
            self.removeObserver(self._parameters.node, vtk.vtkCommand.ModifiedEvent, self._updateWidgets)
        self._parameters = parameters
        if parameters is not None:
            self.addObserver(parameters.node, vtk.vtkCommand.ModifiedEvent, self._updateWidgets)
        self._updateWidgets()

    def _onSelection(self) -> None:
        if self._updating or self._parameters is None:
            return
        modifying = self._parameters.node.StartModify()
        for name, parameter in SELECTORS.items():
            setattr(self._parameters, parameter, getattr(self.ui, name).currentNode())
        self._parameters.segmentName = self.ui.segmentSelector.currentText
        self._parameters.node.EndModify(modifying)

    def _updateWidgets(self, caller: Any = None, event: Any = None) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            self._observeSegments()
            if self._parameters is not None:
                for name, parameter in SELECTORS.items():
                    getattr(self.ui, name).setCurrentNode(getattr(self._parameters, parameter))
                self._listSegments(self._parameters)
        finally:
            self._updating = False
        self._updateApply()

    def _observeSegments(self) -> None:
        node = self._parameters.segmentation if self._parameters is not None else None
        segmentation = node.GetSegmentation() if node is not None else None
        if segmentation is self._segmentation:
            return
        kind = slicer.vtkSegmentation
        for event in (kind.SegmentAdded, kind.SegmentRemoved, kind.SegmentModified):
            if self._segmentation is not None:
                self.removeObserver(self._segmentation, event, self._updateWidgets)
            if segmentation is not None:
                self.addObserver(segmentation, event, self._updateWidgets)
        self._segmentation = segmentation

    def _listSegments(self, parameters: FoundationSegParameters) -> None:
        selector = self.ui.segmentSelector
        names = mrml.segmentNames(parameters.segmentation)
        if names != [selector.itemText(n) for n in range(selector.count)]:
            selector.clear()
            selector.addItems(names)
        if selector.currentText != parameters.segmentName:
            selector.setEditText(parameters.segmentName)

    def _updateApply(self) -> None:
        if self._parameters is None:
            reason = _("No scene is open.")
        elif not requirementsMet():
            reason = _("Install the missing Python packages first.")
        else:
            reason = self._parameters.missing()
        self.ui.applyButton.enabled = not reason
        self.ui.applyButton.toolTip = reason or _("Segment what the prompts point at.")

    def _showModel(self) -> None:
        self.ui.installButton.visible = not requirementsMet()
        if not requirementsMet():
            self.ui.modelLabel.text = _("The Python package {name} is missing.").format(name=REQUIRED_PACKAGE)
            return
        try:
            card = model_card(MODEL)
        except FoundationSegError as error:
            self.ui.modelLabel.text = str(error)
            return
        self.ui.modelLabel.text = _("{title}, revision {revision}; comes with this extension.").format(
            title=card.title, revision=card.revision
        )
        self.ui.modelLabel.toolTip = card.description

    def _showStatus(self, text: str, isError: bool = False) -> None:
        self.ui.statusLabel.text = text
        self.ui.statusLabel.setStyleSheet("color: #d03030;" if isError else "")


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
        self._writers: dict[str, mrml.SegmentWriter] = {}
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeRemovedEvent, self._onNodeRemoved)

    def cleanup(self) -> None:
        """Free the sessions' memory and leave nothing in the scene."""
        self.removeObservers()
        self._sessions.clear()
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def getParameters(self) -> FoundationSegParameters:
        return FoundationSegParameters(self.getParameterNode())

    def apply(self, parameters: FoundationSegParameters) -> Result:
        """Run what the parameters say; makes the segmentation and the segment where they do not exist yet.

        Raises:
            FoundationSegError: what was wrong and what to do, as one sentence; nothing was changed.
        """
        problem = parameters.missing()
        if problem:
            raise PromptError(problem)
        node = parameters.segmentation
        created = None
        if node is None:
            node = created = mrml.createSegmentation(parameters.volume)
        name = parameters.segmentName.strip()
        segmentId = mrml.segmentIdByName(node, name)
        added = "" if segmentId else mrml.addSegment(node, name)
        try:
            result = self.segment(parameters.volume, parameters.promptSources(), node, segmentId or added)
        except BaseException:
            if added:
                node.GetSegmentation().RemoveSegment(added)
            if created is not None:
                slicer.mrmlScene.RemoveNode(created)
            raise
        parameters.segmentation = node
        return result

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

        self._writer(segmentationNode).commit(
            segmentId,
            volumeNode,
            session.mask(key),
            result.box,
            tags=session.tags(key),
            saveStateForUndo=_openSegmentEditor(segmentationNode),
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

    def _writer(self, segmentationNode: Any) -> mrml.SegmentWriter:
        nodeId = segmentationNode.GetID()
        if nodeId not in self._writers:
            self._writers[nodeId] = mrml.SegmentWriter(segmentationNode)
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


def requirementsMet() -> bool:
    """Whether the embedded model can run. Looks, but does not import."""
    return importlib.util.find_spec(REQUIRED_PACKAGE) is not None


def installRequirements(path: str) -> None:
    """Install the packages that a requirements file names, if the user agrees. Main thread only."""
    try:
        from slicer import packaging
    except ImportError:  # 3D Slicer before 5.12
        with open(path, encoding="utf-8") as file:
            lines = [line.strip() for line in file]
        requirements = [line for line in lines if line and not line.startswith("#")]
        question = _("FoundationSeg needs these Python packages: {names}. Install them now?")
        if slicer.util.confirmOkCancelDisplay(question.format(names=", ".join(requirements))):
            slicer.util.pip_install(requirements)
    else:
        packaging.pip_ensure(packaging.load_requirements(path), requester="FoundationSeg")
    importlib.invalidate_caches()


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


def _openSegmentEditor(segmentationNode: Any) -> Callable[[], None] | None:
    """How to put a step into the undo history of the Segment Editor, where that is open on the segmentation."""
    widget = getattr(slicer.modules, "SegmentEditorWidget", None)
    editor = widget.editor if widget is not None else None
    if editor is None or editor.segmentationNode() is not segmentationNode:
        return None
    save: Callable[[], None] = editor.saveStateForUndo
    return save


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
