# SPDX-License-Identifier: Apache-2.0
"""Trains a class-agnostic 3DSAM-adapter on SAM's ViT-B:

    python -m FoundationSegLib.families.sam_adapter_3d.train --sam sam_vit_b.safetensors --data DIR --out RUN

`DIR` holds images with labels (see `data.find_pairs`); `--data synthetic` takes the project's own random scenes. Every
structure of every label counts as "the structure" in its turn, and only clicks on it say which is meant. What is
frozen, the loss, the optimiser and the decay of its rate are as published. `RUN/adapter.safetensors` is the result:

    foundation-seg segment ct.nrrd --model sam-adapter-3d --checkpoint RUN/adapter.safetensors ...

Checkpoints are written beside and renamed, and `--resume` goes on from the last, so a run that is cut off loses
minutes. Each step's sample follows from the seed and the step alone, so a resumed run sees what it would have seen.

Memory: the published training needs about 35 GB of GPU memory (its README). Here each block of the encoder is computed
again in the backward pass instead of being kept, and the enlarged image is never made: a step at the published size
takes 5.6 GiB, weights, gradients and moments included (27.3 GiB if the blocks were kept). That is counted, tensor by
tensor, and leaves out the workspaces of convolutions and the allocator's slack, so plan for 8 GB; it was not run on a
GPU. On two CPU cores a step takes minutes: use a GPU for anything but a trial.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import FoundationSegError, ModelError
from ..torch_device import torch_device
from .data import Sample, Source, from_folder, from_synthesis
from .intensity import INTENSITIES, REGION
from .layers import AdapterConfig
from .network import SamAdapter3d, difference
from .start import from_sam, parts, read_sam, trained

RESULT, STATE, LOG = "adapter.safetensors", "training.pt", "log.csv"
SYNTHETIC = "synthetic"


@dataclass(frozen=True)
class TrainConfig:
    """One run; rates as published, which decayed over 500 epochs."""

    steps: int = 20_000
    seed: int = 1
    learning_rate: float = 4e-4
    last_rate: float = 0.01  # of the first, after the last step
    clip: float = 1.0
    intensity: str = REGION
    checkpoint_minutes: float = 10.0


def sample_of(source: Source, seed: int, step: int) -> Sample:
    """The sample of one step."""
    return source(np.random.default_rng([seed, step]))


def sample_loss(network: SamAdapter3d, sample: Sample, device: torch.device) -> tuple[Tensor, float]:
    """The mean of cross-entropy and soft Dice, and the Dice coefficient of the thresholded answer."""
    image = torch.from_numpy(sample.image)[None].to(device)
    clicks = torch.from_numpy(sample.clicks)[None].to(device)
    target = torch.from_numpy(sample.target)[None].float().to(device)
    logits = difference(network(image, clicks))
    # The softmax of two classes is the sigmoid of their difference, and so is its cross-entropy.
    entropy = F.binary_cross_entropy_with_logits(logits, target)
    probability = torch.sigmoid(logits)
    both = (probability * target).sum()
    soft_dice = 1 - (2 * both + 1e-5) / (probability.sum() + target.sum() + 1e-5)
    mask = logits.detach() > 0
    dice = float(2 * (mask * target).sum() / (mask.sum() + target.sum()).clamp(min=1))
    return 0.5 * entropy + 0.5 * soft_dice, dice


def train(config: TrainConfig, network: SamAdapter3d, source: Source, out: Path, device: str, resume: bool) -> Path:
    """Trains to `config.steps`; the path of the weights. Raises ModelError where the run to resume is another one."""
    out.mkdir(parents=True, exist_ok=True)
    place = torch_device(device)
    network.to(place).train()
    network.encoder.checkpointing = True
    chosen = trained(network)
    optimiser = torch.optim.AdamW(chosen.values(), lr=config.learning_rate, weight_decay=0)
    step = _resume(out / STATE, config, network, optimiser, place) if resume and (out / STATE).exists() else 0
    saved = time.monotonic()
    with open(out / LOG, "a" if step else "w", newline="", encoding="utf-8") as log:
        writer = csv.writer(log)
        if not step:
            writer.writerow(["step", "rate", "loss", "dice"])
        while step < config.steps:
            rate = config.learning_rate * (1 - (1 - config.last_rate) * step / config.steps)
            for group in optimiser.param_groups:
                group["lr"] = rate
            loss, dice = sample_loss(network, sample_of(source, config.seed, step), place)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            norms = [float(torch.nn.utils.clip_grad_norm_(part, config.clip)) for part in parts(network)]
            if np.isfinite(norms).all():  # a step into nowhere would spoil all that follow
                optimiser.step()
            step += 1
            writer.writerow([step, f"{rate:.2e}", round(float(loss.detach()), 5), round(dice, 4)])
            log.flush()
            if time.monotonic() - saved > 60 * config.checkpoint_minutes:
                saved = time.monotonic()
                _save(out, config, network, optimiser, step)
    _save(out, config, network, optimiser, step)
    return out / RESULT


def _save(out: Path, config: TrainConfig, network: SamAdapter3d, optimiser: torch.optim.Optimizer, step: int) -> None:
    """The state to go on from holds only what is trained; the result holds everything that is needed to run."""
    from safetensors.torch import save_file

    state = {
        "trained": {name: value.detach().cpu() for name, value in trained(network).items()},
        "optimiser": optimiser.state_dict(),
        "step": step,
        "config": _fixed(config),
    }
    partial = out / f".{STATE}.part"
    torch.save(state, partial)
    os.replace(partial, out / STATE)
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    partial = out / f".{RESULT}.part"
    save_file(weights, partial, {"format": "pt", "training": json.dumps({**asdict(config), "step": step})})
    os.replace(partial, out / RESULT)


def _fixed(config: TrainConfig) -> dict[str, object]:
    """What must not change from one part of a run to the next."""
    return {"seed": config.seed, "intensity": config.intensity}


def _resume(
    path: Path,
    config: TrainConfig,
    network: SamAdapter3d,
    optimiser: torch.optim.Optimizer,
    device: torch.device,
) -> int:
    state = torch.load(path, map_location=device, weights_only=True)
    mine = trained(network)
    if state["config"] != _fixed(config) or state["trained"].keys() != mine.keys():
        raise ModelError(f"{path.parent} holds a run with other settings; give the same, or another folder.")
    with torch.no_grad():
        for name, value in state["trained"].items():
            mine[name].copy_(value)
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])


def source_of(data: str, size: int, intensity: str) -> Source:
    """Raises FoundationSegError for a folder without pairs, and for synthesis with an intensity in HU."""
    if data != SYNTHETIC:
        return from_folder(Path(data), size, intensity)
    if intensity != REGION:
        raise ModelError(f"Synthetic scenes have no unit, so the intensity {intensity!r} does not fit; leave it out.")
    return from_synthesis(size)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sam", type=Path, required=True, help="SAM's ViT-B (or MedSAM's) weights")
    parser.add_argument("--data", required=True, help=f"folder with images and labels, or {SYNTHETIC!r}")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--steps", type=int, default=TrainConfig.steps)
    parser.add_argument("--seed", type=int, default=TrainConfig.seed)
    parser.add_argument("--learning-rate", type=float, default=TrainConfig.learning_rate)
    parser.add_argument("--intensity", choices=INTENSITIES, default=REGION)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--resume", action="store_true", help="go on from the run's last checkpoint")
    parser.add_argument("--sizes", type=json.loads, default={}, help=argparse.SUPPRESS)  # reduced networks, for trials
    given = parser.parse_args(arguments)
    config = TrainConfig(given.steps, given.seed, given.learning_rate, intensity=given.intensity)
    try:
        sizes = AdapterConfig(**given.sizes)
        network = from_sam(read_sam(given.sam), sizes, config.seed)
        result = train(
            config, network, source_of(given.data, sizes.crop, config.intensity), given.out, given.device, given.resume
        )
    except FoundationSegError as error:
        print(error, file=sys.stderr)
        return 1
    print(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
