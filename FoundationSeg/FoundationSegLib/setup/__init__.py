# SPDX-License-Identifier: Apache-2.0
"""What this extension needs in 3D Slicer's Python, found out and planned before anything is installed.

No network is used here and nothing is installed: a panel (or a script) does that, with the mechanism that its Slicer
has, and only after a person agreed::

    recipe = Recipe.read(resources)                # requirements.txt and packages.json of the module
    need = recipe.need("embedded")                 # or the family of a model card: "sam-med3d", ...
    report = preflight(recipe, need)               # what is there, missing, too old or broken; sizes; disk; problems
    steps = plan(report, host)                     # which mechanism, in which order
    journal.begin(need.key, step.kind)             # survives a restart and a killed process
    ... constraints(report, Installed.read()) ...  # what pip may and may not choose
    journal.done(need.key, before, after)          # what came because of us: the way back

`ready(need)` is the cheap question that a panel asks when it is opened.
"""

from __future__ import annotations

from .failure import explain
from .installed import Installed
from .journal import Journal, Pending, Removal
from .plan import EXTENSION, PIP, TORCH, Host, Step, constraints, plan
from .preflight import Finding, Preflight, preflight, ready
from .recipe import EMBEDDED, Need, Package, Recipe

__all__ = [
    "EMBEDDED",
    "EXTENSION",
    "PIP",
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
]
