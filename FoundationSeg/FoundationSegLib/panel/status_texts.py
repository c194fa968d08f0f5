# SPDX-License-Identifier: Apache-2.0
"""What the panel says about the work: stages, time, quality. No widget is here."""

from __future__ import annotations

from slicer.i18n import tr as _

from ..scene.segment_state import SegmentState
from ..scene.status import State, Status


def stageText(stage: str) -> str:
    """A stage of a prediction in a person's words."""
    stages = {
        "volume": _("Reading the volume"),
        "start": _("Starting the model"),
        "open": _("Starting the model"),
        "restore": _("Restoring the earlier prompts"),
        "crop": _("Cutting out the region"),
        "encode": _("Looking at the image"),
        "decode": _("Following the prompts"),
        "voxels": _("Writing the voxels"),
    }
    return stages.get(stage, _("Predicting"))


def progressPercent(status: Status) -> int | None:
    """How far a prediction is, of 100; None where nothing is known. It never says that it is done."""
    shares = [status.fraction] if status.fraction is not None else []
    if status.expected:
        shares.append(status.elapsed / status.expected)
    return min(95, int(100 * max(shares))) if shares else None


def statusText(status: Status) -> str:
    """The status line."""
    if status.state is State.CANCELLING:
        return _("Cancelling...")
    if status.state is not State.RUNNING:
        return status.message
    stage = stageText(status.stage)
    if status.expected is None:
        return _("{stage}: {elapsed:.1f} s").format(stage=stage, elapsed=status.elapsed)
    return _("{stage}: {elapsed:.1f} s of about {expected:.0f} s").format(
        stage=stage, elapsed=status.elapsed, expected=max(1.0, status.expected)
    )


def qualityText(state: SegmentState) -> str:
    """Predicted quality and warnings of a segment, a line each; "" where there is nothing to say."""
    lines = []
    if state.quality is not None:
        lines.append(
            _("Predicted overlap (IoU): {quality:.2f}, by the model's own estimate").format(quality=state.quality)
        )
    if state.reachesFace:
        lines.append(_("The segment reaches the border of the region that the model looked at."))
    lines += state.warnings
    return "\n".join(lines)
