# SPDX-License-Identifier: Apache-2.0
"""What the first run says: from what was found out to sentences. Nothing here has a state, or touches a widget."""

from __future__ import annotations

from collections.abc import Sequence

from slicer.i18n import tr as _

from .. import setup
from ..hub.home import megabytes


def sentence(report: setup.Preflight, steps: Sequence[setup.Step], pending: setup.Pending | None) -> str:
    """What is missing, in one sentence."""
    if pending is not None and pending.interrupted:
        return _("An installation was cut off, and packages may be there in part; it can be repaired now.")
    if steps and all(step.kind == setup.REPAIR for step in steps):
        names = ", ".join(finding.name for finding in report.wanted)
        return _("Packages are damaged, or there only in part: {names}; they can be repaired.").format(names=names)
    count, size = len(report.wanted), megabytes(report.download_bytes)
    torch = next((step for step in steps if step.kind == setup.TORCH), None)
    if torch is not None:
        least, most = (megabytes(size) for size in torch.download_bytes)
        return _(
            "Models from the Hub need PyTorch, which is not installed yet: {least} to {most} to download, depending on "
            "the graphics card."
        ).format(least=least, most=most)
    if report.need.torch:
        return _("This model needs {count} more Python packages: {size} to download.").format(count=count, size=size)
    return _(
        "The embedded model needs {count} Python packages that this 3D Slicer does not have yet: {size} to download, "
        "about a minute."
    ).format(count=count, size=size)


def details(report: setup.Preflight, steps: Sequence[setup.Step], host: setup.Host) -> str:
    """What exactly would come, from where to where, and what it would change; a line each."""
    lines = []
    if any(step.kind == setup.EXTENSION for step in steps):
        lines.append(
            _("First, the extension PyTorch is installed and 3D Slicer restarted; then it goes on by one click.")
        )
    if report.wanted:
        lines.append(_("Packages: {names}.").format(names=", ".join(_named(finding) for finding in report.wanted)))
    lines += [_replaced(finding) for step in steps for finding in step.replaces]
    lines.append(_("They go into this 3D Slicer's own Python; the rest of it stays as it is."))
    if not host.packaging or any(step.kind in (setup.TORCH, setup.EXTENSION) for step in steps):
        lines.append(_("3D Slicer does not respond while it installs."))
    return "\n".join([*lines, *report.notes])


def offer(report: setup.Preflight, steps: Sequence[setup.Step], pending: setup.Pending | None) -> str:
    """The text of the one button."""
    if pending is not None:
        return _("Continue") if pending.restart else _("Repair and continue")
    if any(step.kind == setup.TORCH for step in steps):
        return _("Install PyTorch")
    if all(step.kind == setup.REPAIR for step in steps):
        return _("Repair")
    return _("Install {size}").format(size=megabytes(report.download_bytes))


def step(which: setup.Step) -> str:
    """What is being done."""
    if which.kind == setup.EXTENSION:
        return _("Installing the extension PyTorch...")
    if which.kind == setup.TORCH:
        return _("Installing PyTorch; this takes minutes, and 3D Slicer does not respond meanwhile...")
    if which.kind == setup.REPAIR:
        return _("Repairing Python packages...")
    return _("Installing Python packages...")


def failure(which: setup.Step, said: str, report: setup.Preflight | None) -> str:
    """What went wrong, from what the mechanism said."""
    if which.kind == setup.EXTENSION:
        return _(
            "The extension PyTorch could not be installed; check the network, or install it with the Extensions "
            "Manager, restart 3D Slicer, and come back here."
        )
    names = ", ".join(finding.name for finding in report.wanted) if report is not None else ""
    return setup.explain(said, "PyTorch" if which.kind == setup.TORCH else names)


def _named(finding: setup.Finding) -> str:
    return finding.name if finding.target is None else f"{finding.name} {finding.target}"


def _replaced(finding: setup.Finding) -> str:
    if finding.required_by and finding.state == "old":
        return _("Replaces {name} {found}, which {others} also use.").format(
            name=finding.name, found=finding.found, others=", ".join(finding.required_by)
        )
    if finding.state == "broken":
        return _("What is left of {name} is removed first.").format(name=finding.name)
    return _("Replaces {name} {found}.").format(name=finding.name, found=finding.found)
