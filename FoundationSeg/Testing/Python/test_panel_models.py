# SPDX-License-Identifier: Apache-2.0
"""The list of models, driven as a person does, against a Hub on loopback. This process never loads PyTorch."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from FoundationSegLib.errors import ModelError
from FoundationSegLib.hub import licence
from FoundationSegLib.resources import resource_folder
from job_case import settings
from loopback_hub import Faults, serve
from part_case import PartTestCase
from scene_case import slicer
from tiny_family import CARD, expected_tensors, install, write_cards

WIDTH = 700
FILE = "someone/tiny/tiny.safetensors"
WEIGHTS = {"source": "hub", "repo": "someone/tiny", "file": "tiny.safetensors", "revision": "main"}
TINY: dict[str, Any] = {
    **CARD,
    "task": "tests of this list",
    "limits": ["It segments nothing."],
    "weights": {**WEIGHTS, "size_bytes": 2_000_000},
    "architecture": {"width": WIDTH},
}
NO_TORCH = importlib.util.find_spec("torch") is None or importlib.util.find_spec("huggingface_hub") is None


def weights(seed: int = 1) -> bytes:
    """The tiny network's tensors, written without PyTorch."""
    from safetensors.numpy import save

    random = np.random.default_rng(seed)
    shapes = expected_tensors(mock.Mock(architecture={"width": WIDTH}))
    return bytes(save({name: random.random(shape, np.float32) for name, shape in shapes.items()}))


class ModelListTest(PartTestCase):
    size = (420, 640)

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.home = self.folder / "home"
        cards = self.folder / "cards"
        shutil.copytree(resource_folder("Models"), cards)
        self.cards = write_cards(cards, TINY)
        self.enterContext(mock.patch.dict(os.environ, {"FOUNDATIONSEG_HOME": str(self.home)}))
        install(cards, self._patch)
        self.chosen: list[tuple[str, Path | None]] = []
        self.asked: list[str] = []
        self.packages = True
        self.jobs: Any = None

    def _patch(self, owner: Any, name: str, value: Any) -> None:
        self.enterContext(mock.patch.object(owner, name, value))

    def ensure(self, family: str, then: Any) -> None:
        """As FirstRun's, where packages are there or not."""
        self.asked.append(family)
        if self.packages:
            then()

    def make(self) -> Any:
        from FoundationSegLib.panel.model_list import ModelList

        models = ModelList(
            self.container, lambda *chosen: self.chosen.append(chosen), ensure=self.ensure, settings=self.jobs
        )
        self.addCleanup(models.cleanup)
        return models

    def rows(self, models: Any) -> list[str]:
        """Names of the models that are shown."""
        table = models.ui.modelTable
        return [item.card.name for row, item in enumerate(models._entries) if not table.isRowHidden(row)]

    def texts(self, models: Any, name: str) -> list[str]:
        row = next(row for row, item in enumerate(models._entries) if item.card.name == name)
        return [models.ui.modelTable.item(row, column).text() for column in range(3)]

    def onHub(self) -> Any:
        """A Hub with the tiny model, and jobs that know it."""
        hub = self.enterContext(serve())
        hub.files[FILE] = weights()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        environment |= {
            "HF_ENDPOINT": hub.endpoint,
            "HF_HUB_CACHE": str(self.folder / "cache"),
            "HF_HOME": str(self.folder / "cache" / "home"),
            "PYTHONPATH": os.pathsep.join(str(Path(__file__).parents[up]) for up in (2, 0)),
            "OMP_NUM_THREADS": "1",
        }
        self.jobs = settings(self.cards, environment)
        return hub

    def test_the_catalogue_without_torch_and_without_network(self) -> None:
        with mock.patch("socket.socket.connect", side_effect=AssertionError("a network call")):
            models = self.make()
            ui = models.ui
            self.assertEqual(models.selected.card.name, "compact")
            self.assertEqual(self.texts(models, "compact")[2], "in use\n9 MB")
            self.assertFalse(ui.useButton.enabled)
            self.assertIn("in use", ui.useButton.toolTip)
            title, good, state = self.texts(models, "sam-med3d-turbo")
            self.assertRegex(title, r"^SAM-Med3D.*\nApache")
            self.assertIn("point", good)
            self.assertEqual(state, "to download\n402 MB")
            self.show("ModelList-catalogue")

            # What restricts the use is said in the list, and at length before it is accepted.
            self.assertIn("non-commercial, share-alike: CC", self.texts(models, "tiny")[0])
            models.select("tiny")
            description = ui.descriptionView.toPlainText()
            self.assertIn("NON-COMMERCIAL: the weights", description)
            self.assertIn("It segments nothing.", description)
            self.assertTrue(ui.acceptBox.visible)
            self.assertFalse(ui.useButton.enabled or ui.acceptBox.checked)
            self.assertIn("accept it first", ui.useButton.toolTip)
            self.show("ModelList-licence")
            ui.acceptBox.click()
            self.assertEqual((ui.useButton.enabled, ui.useButton.text), (True, "Download 2 MB and use"))
            models.select("sam-vit-b")
            self.assertFalse(ui.acceptBox.checked)  # agreeing to one licence is agreeing to one licence
            self.assertFalse(licence.accepted(models.selected.card))  # and nothing was recorded by looking

            models.select("nninteractive")
            self.assertFalse(ui.useButton.enabled)
            self.assertIn("SlicerNNInteractive", ui.useButton.toolTip)

            ui.searchBox.text = "mr box apache"
            self.assertIn("medsam", self.rows(models))
            self.assertNotIn("vista3d", self.rows(models))
            ui.searchBox.text = ""
            self.assertEqual(len(self.rows(models)), len(models._entries))

            # PyTorch is asked for by the first model of the Hub that is chosen, and by nothing before it.
            self.assertEqual(self.asked, [])
            self.packages = False
            models.select("tiny")
            ui.acceptBox.checked = True
            ui.useButton.click()
            self.assertEqual((self.asked, models.job, self.chosen), (["tiny"], None, []))
            # A scene from elsewhere can have chosen what is not here.
            models.setChosen("tiny")
            self.assertEqual((models.selected.card.name, self.texts(models, "tiny")[2]), ("tiny", "to download\n2 MB"))
            ui.acceptBox.checked = True
            self.assertTrue(ui.useButton.enabled)
            models.select("compact")
            ui.useButton.click()
            self.assertEqual((self.asked, self.chosen), (["tiny"], [("compact", None)]))
        self.assertFalse({"torch", "huggingface_hub", "onnxruntime", "safetensors"} & set(sys.modules))

    def test_damage_is_one_sentence(self) -> None:
        self.home.mkdir()
        (self.home / "models.lock.json").write_text("{", encoding="utf-8")
        models = self.make()
        self.assertIn("is damaged; restore it, or delete it", models.ui.statusLabel.text)
        self.assertFalse(models.ui.useButton.enabled)
        (self.home / "models.lock.json").unlink()
        models.refresh()
        self.assertEqual(models.selected.card.name, "compact")
        error = ModelError("There is no Python; get one.")
        with mock.patch("FoundationSegLib.panel.model_list.Job", side_effect=error):
            models.select("tiny")
            models.ui.acceptBox.checked = True
            models.ui.useButton.click()
        self.assertEqual(models.ui.statusLabel.text, "There is no Python; get one.")
        models.importBundle(self.folder)
        self.assertIn("is not a bundle", models.ui.statusLabel.text)

    @unittest.skipIf(NO_TORCH, "PyTorch and huggingface_hub are not installed")
    def test_from_the_hub_to_the_disk_and_back(self) -> None:
        hub = self.onHub()
        models = self.make()
        ui = models.ui
        models.select("tiny")
        ui.acceptBox.click()

        # Cancel: the panel is alive meanwhile, and what came is kept.
        hub.faults.slow_s = 0.02
        ui.useButton.click()
        self.assertFalse(ui.useButton.visible)
        self.waitFor(lambda: ui.progressBar.value > 300, longest_gap_s=1.0)
        self.assertRegex(ui.statusLabel.text, r"^Downloading Tiny, [\d.]+ [kM]B of 2 MB")
        self.show("ModelList-downloading")
        ui.cancelButton.click()
        self.assertEqual((ui.statusLabel.text, ui.cancelButton.enabled), ("Cancelling...", False))
        self.waitFor(lambda: models.job is None)
        self.assertIn("what was downloaded so far is kept", ui.statusLabel.text)
        self.assertEqual((self.chosen, ui.useButton.visible), ([], True))
        (part,) = (self.folder / "cache").rglob("*.incomplete")
        kept = part.stat().st_size

        # A fault is one sentence; then it goes on from where it was.
        hub.faults = Faults(status=404, error_code="EntryNotFound")
        ui.useButton.click()
        self.waitFor(lambda: models.job is None)
        self.assertIn("has no file tiny.safetensors", ui.statusLabel.text)
        self.show("ModelList-error")
        hub.faults = Faults()
        ui.useButton.click()
        self.waitFor(lambda: models.job is None)
        self.assertEqual(hub.asked("GET", "/cdn/")[-1]["range"], f"bytes={kept}-")
        self.assertEqual((self.chosen, self.texts(models, "tiny")[2]), ([("tiny", None)], "in use\n2 MB"))
        self.assertTrue(models.selected.accepted and not ui.acceptBox.visible)

        # Carry it to a computer without network.
        self.show("ModelList-on-disk")
        models.exportBundle("tiny", self.folder / "stick")
        self.waitFor(lambda: models.job is None)
        self.assertIn("Tiny was written", ui.statusLabel.text)

        # Remove: the embedded model takes its place.
        ui.removeButton.click()
        self.waitFor(lambda: models.job is None)
        self.assertRegex(ui.statusLabel.text, r"Tiny was removed; \d+ MB are free again")
        self.assertEqual(self.chosen[-1], ("compact", None))
        self.assertFalse(list(self.home.rglob("*.safetensors")))

        # The panel goes while a download runs: nothing is left behind.
        hub.faults.slow_s = 0.05
        models.select("tiny")
        ui.useButton.click()
        self.waitFor(lambda: ui.progressBar.value > 0)
        process = models.job._link._process
        models.cleanup()
        self.waitFor(lambda: process.poll() is not None)
        hub.faults.slow_s = 0.0

        # Import, on a computer where the licence was not accepted yet.
        hub.requests.clear()
        (self.home / licence.ACCEPTED_FILE).unlink()
        folder = self.folder / "stick"
        models.importBundle(folder)  # while tests run dialogs answer themselves: that is nobody's consent
        self.assertIsNone(models.job)
        with (
            mock.patch.object(slicer.app, "testingEnabled", return_value=False),
            mock.patch.object(slicer.util, "confirmYesNoDisplay", return_value=True) as asked,
        ):
            models.importBundle(folder)
        self.assertIn("NON-COMMERCIAL", asked.call_args.args[0])
        self.waitFor(lambda: models.job is None)
        self.assertEqual((ui.statusLabel.text, hub.requests), ("Imported: tiny.", []))
        self.assertEqual(self.texts(models, "tiny")[2], "on disk\n2 MB")

        # Damage is found; a checkpoint of one's own; one thing at a time.
        (file,) = self.home.rglob("*.safetensors")
        file.write_bytes(file.read_bytes()[:-1] + b"\x01")
        models.select("tiny")
        ui.verifyButton.click()
        models.onVerify()
        self.assertIn("being done already", ui.statusLabel.text)
        self.waitFor(lambda: models.job is None)
        self.assertIn("wrong checksum", ui.statusLabel.text)
        mine = self.folder / "mine.safetensors"
        mine.write_bytes(weights(seed=7))
        with mock.patch("qt.QFileDialog.getOpenFileName", return_value=str(mine)):
            models.onCheckpoint()
        self.waitFor(lambda: models.job is None)
        self.assertEqual(self.chosen[-1], ("tiny", mine))
        self.assertEqual(self.texts(models, "tiny")[2], "in use\nmine.safetensors")
        self.assertFalse({"torch", "huggingface_hub"} & set(sys.modules))


if __name__ == "__main__":
    unittest.main()
