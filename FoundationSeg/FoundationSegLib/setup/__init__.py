# SPDX-License-Identifier: Apache-2.0
"""What this extension needs in 3D Slicer's Python, found out and planned before anything is installed.

No network is used here and nothing is installed: a panel (or a script) does that, with the mechanism that its Slicer
has, and only after a person agreed::

    recipe = Recipe.read(resources)                # requirements.txt and packages.json of the module
    need = recipe.need("embedded")                 # or the family of a model card: "sam-med3d", ...
    report = preflight(recipe, need)               # what is there, missing, too old or broken; sizes; disk; problems
    steps = plan(report, host)                     # which mechanism, in which order
    journal.begin(need.key, step.kind, Installed.read())  # survives a restart and a killed process
    ... constraints(recipe, report, Installed.read()) ...  # what pip may and may not choose
    journal.record(Installed.read())               # what came because of us: the way back
    journal.done()

`ready(need)` is the cheap question that a panel asks when it is opened.
"""

from __future__ import annotations

from .failure import explain
from .installed import Installed, updated_modules
from .journal import Journal, Pending, Removal
from .plan import EXTENSION, PIP, REPAIR, TORCH, Host, Step, constraints, plan
from .preflight import Finding, Preflight, preflight, ready
from .recipe import EMBEDDED, Need, Package, Recipe

__all__ = [
    "EMBEDDED",
    "EXTENSION",
    "PIP",
    "REPAIR",
    "TORCH",
    "Finding",
    "Host",
    "Installed",
    "Journal",
    "Need",
    "Package",
    "Pending",
    "Preflight",
    "Recipe",
    "Removal",
    "Step",
    "constraints",
    "explain",
    "plan",
    "preflight",
    "ready",
    "updated_modules",
]
