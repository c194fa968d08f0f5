# SPDX-License-Identifier: Apache-2.0
"""The model families that run on PyTorch, found by the name on a card and imported only when one is used.

A family is the package `families/<name with underscores>`. It exports, with lazy imports inside, so that looking at it
costs nothing:

- `load(card, weights, device) -> Model`: `weights` is a safetensors file whose names and shapes were compared with
  `expected_tensors`; `card.revision` and `card.sha256` are those of the weights in use, for `ModelIdentity`.
- `expected_tensors(card) -> dict[str, tuple[int, ...]]`: names and shapes of the network, on PyTorch's meta device.
- `rename(state) -> state`, optional: the names of other writers (transformers, DataParallel, ...) to the network's. It
  is given all tensors by name and gives all of them back; names that it does not know stay as they are.
- `names() -> tuple[str, ...]` and `name_of(text) -> str`, optional, for models that know structures by name,
  and without PyTorch: all names, and the name that a person's words stand for (PromptError where there is none).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, ModelTooLarge

if TYPE_CHECKING:
    from ..catalogue import ModelCard
    from ..segmenter import Model

_PACKAGES = ("torch", "safetensors")


def load(card: ModelCard, weights: Path, device: str) -> Model:
    """The model of a card, from a file that `hub.ensure_weights` gave. Raises ModelError."""
    module = _family(card)
    try:
        return module.load(card, weights, device)
    except ModuleNotFoundError as error:
        raise missing_package(f"The model {card.name}", error.name or str(error)) from error
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # PyTorch's, for GPUs
            raise
        raise ModelTooLarge(
            f"{card.title} does not fit in the memory of the device {device}; close other programs that use it, or "
            "choose the CPU or a smaller model."
        ) from error


def expected_tensors(card: ModelCard) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the card's network. Raises ModelError."""
    module = _family(card)
    try:
        return module.expected_tensors(card)
    except ModuleNotFoundError as error:
        raise missing_package(f"The model {card.name}", error.name or str(error)) from error


def rename_hook(card: ModelCard) -> Callable[[dict[str, Any]], dict[str, Any]] | None:
    """What brings other writers' names of tensors to the network's; None where the family has no such thing."""
    return getattr(_family(card), "rename", None)


def known_names(card: ModelCard) -> tuple[str, ...]:
    """Names of the structures that the card's model can be asked for; empty where it takes none. Needs no PyTorch."""
    return tuple(_names_module(card).names()) if "text" in card.prompts else ()


def name_of(card: ModelCard, text: str) -> str:
    """The model's own name for what a person wrote. Raises PromptError with the nearest names."""
    return str(_names_module(card).name_of(text))


def require_packages(who: str) -> None:
    """Raises ModelError with the line to install it if something that every family needs is not there.

    `who` begins the sentence: "The model medsam".
    """
    for package in _PACKAGES:
        if find_spec(package) is None:
            raise missing_package(who, package)


def has_gpu() -> bool:
    """Whether PyTorch has a GPU to run on."""
    import torch

    return bool(torch.cuda.is_available())


def missing_package(who: str, package: str) -> ModelError:
    """The answer to a package that is not installed."""
    names = " ".join(dict.fromkeys([*_PACKAGES, "huggingface_hub", package.partition(".")[0]]))
    return ModelError(
        f'{who} needs the package "{package}", which is not installed; install it with: python -m pip install {names}'
    )


def _family(card: ModelCard) -> ModuleType:
    require_packages(f"The model {card.name}")
    return _family_module(card)


def _names_module(card: ModelCard) -> ModuleType:
    module = _family_module(card)
    if not hasattr(module, "names"):
        raise ModelError(f"This version knows no names of structures for the model {card.name}; use its other prompts.")
    return module


def _family_module(card: ModelCard) -> ModuleType:
    name = card.family.replace("-", "_")
    here = re.fullmatch(r"[a-z][a-z0-9_]*", name) and find_spec(f"{__name__}.{name}")
    if not here:
        raise ModelError(
            f"This version cannot run models of the family {card.family!r} (asked for: {card.name}); install a newer "
            "version, or choose another model (foundation-seg models list)."
        )
    return import_module(f"{__name__}.{name}")
