# SPDX-License-Identifier: Apache-2.0
"""A model's files into memory, through transformers' automatic classes; nothing that came with them is run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from FoundationSegLib.catalogue import ModelCard
from FoundationSegLib.hub.home import megabytes
from FoundationSegLib.hub.snapshot import Snapshot
from FoundationSegLib.memory import available_bytes

from ..errors import EngineError

_PACKAGES = ("torch", "transformers", "safetensors", "PIL")
# Their processors hold a video processor, which needs torchvision; their pictures do not (see `qwen`).
QWEN = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
_SMALL_BYTES = 10**9  # below it, full precision costs nothing worth saving


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model on a device and what prepares its input.

    Attributes:
        processor: of pictures, text and chat template; None where tokenizer and image processor are used by hand.
        item_bytes: of one number while it runs.
        device_name: such as "cuda (NVIDIA L4)".
        precision: such as "bfloat16" or "int4".
    """

    model: Any
    processor: Any
    tokenizer: Any
    image_processor: Any
    kind: str
    device: str
    device_name: str
    precision: str
    item_bytes: int


def require_packages(who: str) -> None:
    """Raises EngineError with the line to install what is missing."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise EngineError(
            f'{who} needs the package "{missing[0].replace("PIL", "pillow")}", which is not installed; install it '
            "with: python -m pip install torch transformers safetensors pillow huggingface_hub"
        )


def load(card: ModelCard, snapshot: Snapshot, device: str = "auto", quantise: str = "") -> Loaded:
    """Raises EngineError: package missing, no such device, too little memory, files that do not fit together."""
    require_packages(f"The model {card.name}")
    kind = model_kind(snapshot.folder, card.name)
    import torch
    from transformers import AutoModelForImageTextToText

    place = device_for(device)
    weights = sum(file.size_bytes for name, file in snapshot.files.items() if name.endswith(".safetensors"))
    dtype = torch.float32 if weights < _SMALL_BYTES else torch.bfloat16
    options: dict[str, Any] = {"dtype": dtype, "local_files_only": True, "trust_remote_code": False}
    if quantise:
        options["quantization_config"] = _quantisation(quantise, place, dtype)
        options["device_map"] = {"": place}
    _require_memory(card, weights, place, quantise)
    try:
        with quiet():
            processor, tokenizer, image_processor = processors(snapshot.folder, kind)
            model = AutoModelForImageTextToText.from_pretrained(snapshot.folder, use_safetensors=True, **options)
            model = model.eval() if quantise else model.to(place).eval()
    except EngineError:
        raise
    except Exception as error:
        raise not_loaded(card.name, place, error) from error
    # Which cache the pictures are kept in is ours to say (`reading`).
    model.generation_config.cache_implementation = None
    name = f"{place} ({torch.cuda.get_device_name(place)})" if place.startswith("cuda") else place
    precision = quantise or str(dtype).removeprefix("torch.")
    return Loaded(model, processor, tokenizer, image_processor, kind, place, name, precision, dtype.itemsize)


@contextmanager
def quiet() -> Iterator[None]:
    """transformers without progress bars and advice, for the length of a block: both are ours to give."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def model_kind(folder: Path, name: str) -> str:
    """The `model_type` of a model's configuration, if transformers has a class of its own for it; else EngineError."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = str(config["model_type"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EngineError(f"The model {name} has no readable config.json; download it anew.") from error
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    if kind not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        brings = " and brings code of its own, which is never run" if config.get("auto_map") else ""
        raise EngineError(
            f'The model {name} is of the kind "{kind}", which transformers has no image-text class for{brings}; choose '
            "another model."
        )
    return kind


def processors(folder: Path, kind: str) -> tuple[Any, Any, Any]:
    """(processor or None, tokenizer, image processor), none of which needs torchvision."""
    from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    if kind in QWEN and find_spec("torchvision") is None:
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        return None, tokenizer, AutoImageProcessor.from_pretrained(folder, backend="pil", **options)
    processor = AutoProcessor.from_pretrained(folder, **options)
    return processor, processor.tokenizer, processor.image_processor


def context_tokens(config: Any) -> int | None:
    """How many tokens a model was made for; None where its configuration does not say."""
    text = getattr(config, "text_config", config)
    found = getattr(text, "max_position_embeddings", None)
    return int(found) if found else None


def free_bytes(device: str) -> int | None:
    """Memory that is free where the model runs; None where nobody says."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    return available_bytes()


def release() -> None:
    """Gives cached memory of a GPU back to other programs."""
    import gc
    import sys

    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def too_large(name: str, device: str, slices: int = 0) -> EngineError:
    """The answer to a memory that is full."""
    what = f" with {slices} slices" if slices else ""
    return EngineError(
        f"The model {name}{what} does not fit in the memory of {device}; show fewer slices, load it quantised (int8, "
        "int4), close other programs that use it, or choose a smaller model."
    )


def device_for(asked: str) -> str:
    """ "auto" resolved, anything else checked. Raises EngineError."""
    import torch

    if asked == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        kind = torch.device(asked).type
    except RuntimeError as error:
        raise EngineError(f'There is no device "{asked}"; choose auto, cpu, cuda or mps.') from error
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(kind, False):
        raise EngineError(f'The device "{asked}" is not there, or this PyTorch cannot use it; choose cpu.')
    return asked


def not_loaded(name: str, device: str, error: Exception) -> EngineError:
    """The answer to files that transformers cannot make a model of; what the library said is not repeated."""
    if type(error).__name__ == "OutOfMemoryError":
        return too_large(name, device)
    if isinstance(error, ImportError):
        return EngineError(
            f"The model {name} needs a package that is not installed ({error.name or 'see its page'}); install it, or "
            "choose another model."
        )
    return EngineError(
        f"The files of the model {name} do not fit together, or this version of transformers cannot read them "
        f"({type(error).__name__}); download it anew, or choose another model."
    )


def _require_memory(card: ModelCard, weights: int, device: str, quantise: str) -> None:
    share = {"int8": 0.55, "int4": 0.35}.get(quantise, 1.0)
    need, free = int(weights * share), free_bytes(device)
    if free is not None and free < need:
        raise EngineError(
            f"The model {card.name} needs {megabytes(need)} of memory on {device} and {megabytes(free)} are free; "
            "close other programs, load it quantised (int8, int4), or choose a smaller model."
        )


def _quantisation(quantise: str, device: str, dtype: Any) -> Any:
    """bitsandbytes' settings; it replaces kernels of our own for 8 and 4 bits."""
    missing = [name for name in ("bitsandbytes", "accelerate") if find_spec(name) is None]
    if missing:
        raise EngineError(
            f'Loading a model quantised needs the package "{missing[0]}", which is not installed; install it with: '
            "python -m pip install bitsandbytes accelerate"
        )
    if not device.startswith("cuda"):
        raise EngineError(f"Quantised loading needs a CUDA GPU and the device is {device}; leave it out, or use a GPU.")
    from transformers import BitsAndBytesConfig

    if quantise == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
