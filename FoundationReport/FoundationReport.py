# SPDX-License-Identifier: Apache-2.0
"""FoundationReport: radiology reports whose every sentence is checked against what was measured."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import slicer
from FoundationReportLib import mrml
from FoundationReportLib.errors import FoundationReportError
from FoundationReportLib.render import report_text
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

if TYPE_CHECKING:
    from FoundationReportLib.engines import Engine
    from FoundationReportLib.model import ClinicalContext, Facts, Report

TEMPLATE = "generic"


class FoundationReport(ScriptedLoadableModule):
    """Describes the module to the application."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("FoundationReport")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Informatics")]
        self.parent.dependencies = []
        self.parent.contributors = ["FoundationReport contributors"]
        self.parent.helpText = _(
            "Draft a radiology report from the segments of a volume: everything in it is measured or left open, and "
            "every sentence is checked against the measurements. Everything runs on this computer. Not for clinical "
            "use."
        )
        self.parent.acknowledgementText = _(
            "FoundationReport builds on 3D Slicer; every rule that suggests a category names its publication."
        )


class FoundationReportWidget(ScriptedLoadableModuleWidget):
    """The panel: choose a volume and its segmentation, read the checked draft."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        self.logic: Any = None  # FoundationReportLogic, from setup on

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/FoundationReport.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = FoundationReportLogic()
        for name in self.logic.templates():
            self.ui.templateSelector.addItem(name)
        self.ui.templateSelector.setCurrentText(TEMPLATE)
        for selector in (self.ui.volumeSelector, self.ui.segmentationSelector):
            selector.connect("currentNodeChanged(vtkMRMLNode*)", self._updateDraft)
        self.ui.draftButton.connect("clicked(bool)", self.onDraftButton)
        self._updateDraft()

    def onDraftButton(self) -> None:
        self._showStatus(_("Measuring..."))
        slicer.app.processEvents()
        with slicer.util.WaitCursor():
            try:
                report = self.logic.run(
                    self.ui.volumeSelector.currentNode(),
                    self.ui.segmentationSelector.currentNode(),
                    self.ui.templateSelector.currentText,
                )
            except FoundationReportError as error:
                self._showStatus(str(error), isError=True)
                return
            except ModuleNotFoundError as error:
                text = _("The Python package {name} is missing; install it with slicer.util.pip_install({name!r}).")
                self._showStatus(text.format(name=error.name), isError=True)
                return
            except Exception:
                logging.exception("FoundationReport could not draft a report")
                self._showStatus(_("Something went wrong here; the application log has the details."), isError=True)
                return
        self.ui.reportText.setPlainText(report_text(report, evidence=False))
        self._showStatus("\n".join(report.facts.warnings))

    def _updateDraft(self) -> None:
        reason = ""
        if self.ui.volumeSelector.currentNode() is None:
            reason = _("Choose a volume.")
        elif self.ui.segmentationSelector.currentNode() is None:
            reason = _("Choose the segmentation that was drawn on the volume.")
        self.ui.draftButton.enabled = not reason
        self.ui.draftButton.toolTip = reason or _("Measure the segments, draft a report and check it.")

    def _showStatus(self, text: str, isError: bool = False) -> None:
        self.ui.statusLabel.text = text
        self.ui.statusLabel.setStyleSheet("color: #d03030;" if isError else "")


class FoundationReportLogic(ScriptedLoadableModuleLogic):
    """Measures, drafts and checks over nodes of the scene, without a window too::

    logic = FoundationReportLogic()
    report = logic.run(volumeNode, segmentationNode, "ct-chest")
    report = report.edit("s3", "...").check()
    """

    def run(
        self,
        volumeNode: Any,
        segmentationNode: Any,
        template: str = TEMPLATE,
        priorVolumeNode: Any = None,
        priorSegmentationNode: Any = None,
        context: ClinicalContext | None = None,
        **options: Any,
    ) -> Report:
        """The checked draft of a report on a volume and its segments. Raises FoundationReportError."""
        facts = self.measure(volumeNode, segmentationNode, priorVolumeNode, priorSegmentationNode, **options)
        return self.check(self.draft(facts, template, context))

    def measure(
        self,
        volumeNode: Any,
        segmentationNode: Any,
        priorVolumeNode: Any = None,
        priorSegmentationNode: Any = None,
        **options: Any,
    ) -> Facts:
        """See `mrml.factsFromNodes`."""
        return mrml.factsFromNodes(volumeNode, segmentationNode, priorVolumeNode, priorSegmentationNode, **options)

    def draft(self, facts: Facts, template: str = TEMPLATE, context: ClinicalContext | None = None) -> Report:
        """See `FoundationReportLib.draft`."""
        from FoundationReportLib.draft import draft

        return draft(facts, template=template, context=context)

    def narrate(self, report: Report, engine: Engine, volumeNode: Any, segmentationNode: Any) -> Report:
        """The report with a vision-language model's sentences, checked; see `engines.load_engine` for one."""
        return self.check(mrml.narrateOverNodes(report, engine, volumeNode, segmentationNode).report)

    def check(self, report: Report) -> Report:
        """See `FoundationReportLib.check`."""
        return report.check()

    def templates(self) -> list[str]:
        """Names of the templates that there are."""
        from FoundationReportLib.templates import template_names

        return list(template_names())


class FoundationReportTest(ScriptedLoadableModuleTest):
    """A whole run on a synthetic volume."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        """Run by Slicer's "Reload and Test"."""
        self.setUp()
        self.test_draft_says_what_was_measured()

    def test_draft_says_what_was_measured(self) -> None:
        import numpy as np
        from FoundationSegLib.mrml import createSegmentation

        volumeNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "cube")
        voxels = np.zeros((40, 40, 40), np.int16)
        voxels[10:30, 10:30, 10:30] = 60
        slicer.util.updateVolumeFromArray(volumeNode, voxels)
        segmentationNode = createSegmentation(volumeNode)
        segmentId = segmentationNode.GetSegmentation().AddEmptySegment("", "Liver")
        slicer.util.updateSegmentBinaryLabelmapFromArray(
            (voxels > 0).astype(np.uint8), segmentationNode, segmentId, volumeNode
        )
        report = FoundationReportLogic().run(volumeNode, segmentationNode)
        volumes = [fact.value for fact in report.facts.facts if fact.quantity == "volume"]
        self.assertEqual(volumes, [8.0])
        self.assertTrue(all(statement.judgement is not None for statement in report.statements))
        self.delayDisplay("Test passed")
