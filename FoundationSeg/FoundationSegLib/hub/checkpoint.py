# SPDX-License-Identifier: Apache-2.0
"""Reading checkpoints of any kind without running code from them, and comparing them with a family's network."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import families
from ..catalogue import ModelCard, model_cards
from ..errors import ModelError

if TYPE_CHECKING:
    import torch

    State = dict[str, torch.Tensor]

Shapes = Mapping[str, tuple[int, ...]]

# What data-parallel training, compilation and wrapping classes put before every name.
_PREFIXES = ("module.", "_orig_mod.", "network.")
_SHOWN = 3


def read_state(path: Path, card: ModelCard, name: str, intact: bool) -> State:
    """The tensors of a checkpoint under the names of the card's network, compared with it and checked.

    `name` is what sentences call the file; `intact` says that its checksum is known to be right. Floating-point tensors
    become float32 (half-precision files of users keep their values).

    Raises ModelError: truncated, damaged, of another family, tensors missing, unknown or of another shape, values that
    are not finite, or a pickle that wants to import more than tensors.
    """
    families.require_packages(f"The model {card.name}")
    expected = families.expected_tensors(card)
    content = _read(path, name, intact)
    found = _named(content, card, expected)
    if _shapes(found) != expected and (others := _fitting(content, card)):
        raise ModelError(
            f"{name} is not a checkpoint of {card.name}; it fits {_either(others)}: choose that with --model."
        )
    _require_same(_shapes(found), expected, card, name)
    return {key: _usable(found[key], key, name) for key in expected}


def identify(path: Path) -> ModelCard:
    """The card whose network a checkpoint fits. Raises ModelError if it is none, or several."""
    families.require_packages("Reading a checkpoint")
    fitting = _fitting(_read(path, path.name, False), None)
    if not fitting:
        raise ModelError(
            f"{path.name} fits none of the models; say with --model which one it was made for, to see what differs."
        )
    if len(fitting) > 1:
        raise ModelError(f"{path.name} fits {_either(fitting)}; say with --model which one it was made for.")
    return fitting[0]


def compare_file(path: Path, card: ModelCard) -> None:
    """Compares a safetensors file's header with the card's network. Raises ModelError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:  # shapes only, so PyTorch is not needed
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise ModelError(f"The weights {path} are damaged; remove the model and get it again.") from error
    _require_same(shapes, families.expected_tensors(card), card, path.name)


def _read(path: Path, name: str, intact: bool) -> Any:
    """What a checkpoint holds, by its first bytes whatever it is called. Tensors stay on the disk until used."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise ModelError(f"{name} cannot be read ({error.strerror}); check the path.") from error
    if start.startswith(b"version https://git-lfs"):
        raise ModelError(f"{name} is a Git LFS pointer, not the weights; get the real file (git lfs pull).")
    if start.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        raise ModelError(f"{name} is a web page, not the weights; download it again with a browser that is signed in.")
    if size > 8 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 100 * 2**20:
        return _read_safetensors(path, name)
    if start.startswith((b"PK\x03\x04", b"\x80")):
        return _read_pickle(path, name, intact)
    raise ModelError(
        f"{name} is not a checkpoint of PyTorch or safetensors, or its beginning is damaged; get the file again."
    )


def _read_safetensors(path: Path, name: str) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{name} is cut off or damaged; get the file again.") from error


def _read_pickle(path: Path, name: str, intact: bool) -> Any:
    import pickle

    import torch

    zipped = zipfile.is_zipfile(path)
    damaged = ModelError(f"{name} is cut off or damaged; get the file again.")
    if not zipped and not path.read_bytes()[:2].startswith(b"\x80"):
        raise damaged
    if zipped and not intact:
        try:
            with zipfile.ZipFile(path) as archive:
                if archive.testzip() is not None:
                    raise damaged
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as error:
            raise damaged from error
    try:
        with torch.serialization.safe_globals(_numbers()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about versions of pickle: it reads them, or says that it cannot
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        if wanted := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise ModelError(
                f"{name} was refused: to be read it wants to import {wanted[1]}, and a file that imports code can do "
                "anything; ask its authors for the weights alone, best as safetensors."
            ) from error
        raise ModelError(
            f"{name} was refused: it is damaged, or holds more than tensors; ask its authors for the weights alone, "
            "best as safetensors."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise damaged from error


def _numbers() -> list[Any]:
    """NumPy's plain numbers, which training scripts store beside the weights (the best loss, say): data, not code."""
    import numpy as np
    from numpy._core.multiarray import scalar

    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)]
    return [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *kinds]


def _named(content: Any, card: ModelCard, expected: Shapes) -> State:
    """The tensors below the card's key(s), named as in the network as far as is known how."""
    import torch

    found: State = {}
    for key, prefix in _keys(card).items():
        part = _below(content, key)
        if isinstance(part, Mapping):
            found |= {prefix + name: value for name, value in part.items() if isinstance(value, torch.Tensor)}
    if not found and isinstance(content, Mapping):  # saved without the wrapping, or one level deeper
        candidates = [content, *(value for value in content.values() if isinstance(value, Mapping))]
        tensors = [
            {name: value for name, value in part.items() if isinstance(name, str) and isinstance(value, torch.Tensor)}
            for part in candidates
        ]
        found = max(tensors, key=len)
    for prefix in _PREFIXES:
        if found and all(name.startswith(prefix) for name in found):
            found = {name.removeprefix(prefix): value for name, value in found.items()}
    if set(found) != set(expected) and (rename := families.rename_hook(card)) is not None:
        found = rename(found)
    patterns = card.weights.get("drop", [])
    return {
        name: value
        for name, value in found.items()
        if name in expected or not any(fnmatchcase(name, pattern) for pattern in patterns)
    }


def _keys(card: ModelCard) -> dict[str, str]:
    """Where in a checkpoint the tensors are, and what is put before their names; "" is the top."""
    key = card.weights.get("checkpoint_key", "")
    return {key: ""} if isinstance(key, str) else dict(key)


def _below(content: Any, key: str) -> Any:
    """`feature_dict.3` is the entry 3 of the list under `feature_dict`."""
    for step in key.split(".") if key else []:
        if isinstance(content, Mapping) and step in content:
            content = content[step]
        elif isinstance(content, list | tuple) and step.isdigit() and int(step) < len(content):
            content = content[int(step)]
        else:
            return None
    return content


def _shapes(state: State) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}


def _require_same(found: Shapes, expected: Shapes, card: ModelCard, name: str) -> None:
    """Raises ModelError with what differs between a file and the network, and what to do."""
    missing, unknown = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    reshaped = sorted(key for key in set(found) & set(expected) if tuple(found[key]) != tuple(expected[key]))
    if not (missing or unknown or reshaped):
        return
    if len(missing) > len(expected) // 2:
        raise ModelError(
            f"{name} is not a checkpoint of {card.name}: of its {len(found)} tensors only "
            f"{len(expected) - len(missing)} are among the {len(expected)} expected; choose the model that it was made "
            "for."
        )
    parts = []
    if missing:
        parts.append(f"{_counted(missing, 'tensor')} missing ({_some(missing)})")
    if unknown:
        parts.append(f"{_counted(unknown, 'tensor')} unknown ({_some(unknown)})")
    if reshaped:
        first = reshaped[0]
        shapes = f"{first} is {_shape(found[first])}, expected {_shape(expected[first])}"
        parts.append(f"{_counted(reshaped, 'tensor')} of another shape ({shapes})")
    raise ModelError(
        f"{name} does not fit {card.name}: {'; '.join(parts)}. Choose the model that it was made for, or a checkpoint "
        "of exactly this architecture."
    )


def _fitting(content: Any, asked: ModelCard | None) -> list[ModelCard]:
    """The cards, but the one that was asked for, whose network has exactly the tensors of a checkpoint."""
    fitting = []
    for card in model_cards():
        if card.source not in ("hub", "user") or card == asked:
            continue
        try:
            expected = families.expected_tensors(card)
        except ModelError:  # what is not installed, or not in this version, cannot be the answer
            continue
        if _shapes(_named(content, card, expected)) == expected:
            fitting.append(card)
    return fitting


def _either(cards: Sequence[ModelCard]) -> str:
    return " or ".join(card.name for card in cards)


def _usable(tensor: torch.Tensor, key: str, name: str) -> torch.Tensor:
    """In memory of its own, contiguous, float32 if it is of a floating-point kind. Raises ModelError."""
    import torch

    if tensor.is_sparse or tensor.is_quantized or tensor.is_complex():
        raise ModelError(f"{name} holds {key} in a form that is not supported; save it as plain float32 tensors.")
    if tensor.is_floating_point():
        tensor = tensor.to(torch.float32)
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError(
                f"{name} holds values that are not finite in {key}; it is damaged, or its training failed."
            )
    return tensor.contiguous().clone()


def _counted(items: list[str], noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"
