# SPDX-License-Identifier: Apache-2.0
"""segment-anything's own modules, without what its package imports beside them.

The package's `__init__` imports torchvision (for its predictor), which this software neither needs nor installs and
which does not load beside every build of torch. Its subpackage `modeling` needs torch only, so that one is loaded under
a name of ours; whoever imports `segment_anything` itself in the same process still gets the whole of it.
"""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

_NAME = f"{__package__}._modeling"


@cache
def modeling() -> ModuleType:
    """The module that holds ImageEncoderViT, PromptEncoder, MaskDecoder and TwoWayTransformer.

    Raises ModuleNotFoundError if the package `segment-anything` is not installed, as an import would; whoever loads
    families answers it with the line to install it.
    """
    found = importlib.util.find_spec("segment_anything")  # looks, and runs nothing
    folders = [] if found is None else list(found.submodule_search_locations or ())
    for folder in folders:
        path = Path(folder) / "modeling" / "__init__.py"
        if path.is_file():
            spec = importlib.util.spec_from_file_location(_NAME, path, submodule_search_locations=[str(path.parent)])
            assert spec is not None and spec.loader is not None  # it ends in .py
            module = importlib.util.module_from_spec(spec)
            sys.modules[_NAME] = module
            spec.loader.exec_module(module)
            return module
    raise ModuleNotFoundError("No module named 'segment_anything'", name="segment-anything")
