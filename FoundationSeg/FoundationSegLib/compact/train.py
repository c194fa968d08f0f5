# SPDX-License-Identifier: Apache-2.0
"""Trains the compact model on synthesis: `python -m FoundationSegLib.compact.train --out runs/compact`.

Checkpoints are written beside and renamed, and `--resume` goes on from the newest, so a run that is cut off loses
minutes. The schedule is by wall-clock time: the machine decides how many steps fit. It has only run on CPUs so far;
`--device cuda` is written but was never tried. `--init` begins with the weights of an earlier run or revision instead
of at random.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .inputs import normalise
from .network import CompactConfig, CompactNetwork, load_network
from .simulate import correct, simulate_prompts
from .synthesis import synthesise


@dataclass(frozen=True)
class TrainConfig:
    """One run. `stages` are (until this fraction of the time, grid size, scenes per step, rounds of prompts)."""

    minutes: float = 105.0
    seed: int = 20261122
    stages: tuple[tuple[float, int, int, int], ...] = ((0.46, 32, 2, 2), (0.86, 48, 2, 2), (1.0, 64, 1, 3))
    targets: int = 3
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-2
    ema: float = 0.998
    workers: int = 1
    checkpoint_minutes: float = 3.0
    device: str = "cpu"
    bfloat16: bool = False  # for the convolutions; worth it on GPUs, and on CPUs with avx512_bf16 or AMX
    init: str | None = None  # safetensors of an earlier revision


Batch = dict[str, Tensor]


def make_batch(seed: int, n: int, scenes: int, targets: int) -> Batch:
    """A batch from one seed: images (scenes, C, n, n, n) and, per scene, `targets` masks with first-round prompts."""
    rng = np.random.default_rng(seed)
    images, masks, prompts = [], [], []
    for _ in range(scenes):
        scene = synthesise(rng, n, targets)
        turn, flips = rng.permutation(3), tuple(axis for axis in range(3) if rng.random() < 0.5)
        images.append(np.flip(normalise(scene.image).transpose(0, *(turn + 1)), tuple(a + 1 for a in flips)).copy())
        for mask in scene.targets:
            mask = np.flip(mask.transpose(*turn), flips).copy()
            masks.append(mask)
            prompts.append(simulate_prompts(rng, mask))
    return {
        "image": torch.from_numpy(np.stack(images)),
        "target": torch.from_numpy(np.stack(masks)[:, None].astype(np.float32)),
        "coords": torch.from_numpy(np.stack([p.point_coords for p in prompts])),
        "labels": torch.from_numpy(np.stack([p.point_labels for p in prompts])),
        "box": torch.from_numpy(np.stack([p.box for p in prompts])),
        "mask_input": torch.from_numpy(np.stack([p.mask_input for p in prompts])),
    }


class Batches(torch.utils.data.IterableDataset):
    """An endless stream of batches of one stage; each worker and each step has a seed of its own."""

    def __init__(self, seed: int, n: int, scenes: int, targets: int) -> None:
        self.seed, self.n, self.scenes, self.targets = seed, n, scenes, targets

    def __iter__(self) -> Iterator[Batch]:
        torch.set_num_threads(1)
        info = torch.utils.data.get_worker_info()
        step, stride = (info.id, info.num_workers) if info else (0, 1)
        while True:
            yield make_batch(self.seed * 1_000_003 + step, self.n, self.scenes, self.targets)
            step += stride


def mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy, weighted up for small targets, plus soft Dice; the mean over samples."""
    flat_logits, flat_target = logits.flatten(1), target.flatten(1)
    share = flat_target.mean(1)
    weight = 1 + flat_target * ((0.05 / share.clamp(min=1e-4)).clamp(1, 20) - 1)[:, None]
    entropy = (F.binary_cross_entropy_with_logits(flat_logits, flat_target, reduction="none") * weight).sum(
        1
    ) / weight.sum(1)
    probability = torch.sigmoid(flat_logits)
    overlap = 2 * (probability * flat_target).sum(1) + 1
    dice = 1 - overlap / (probability.sum(1) + flat_target.sum(1) + 1)
    return (2 * entropy + dice).mean()


def iou(logits: Tensor, target: Tensor) -> Tensor:
    """Intersection over union (B,) of the thresholded logits."""
    mask = logits > 0
    both = (mask & (target > 0.5)).flatten(1).sum(1).float()
    either = (mask | (target > 0.5)).flatten(1).sum(1).float()
    return both / either.clamp(min=1)


def step_loss(net: CompactNetwork, batch: Batch, rounds: int, generator: torch.Generator) -> tuple[Tensor, list[float]]:
    """Loss summed over rounds of prompt, prediction and correction; and the mean Dice after each round."""
    image = batch["image"].contiguous(memory_format=torch.channels_last_3d)
    targets = batch["target"].shape[0] // image.shape[0]
    features = [f.repeat_interleave(targets, 0) for f in net.encoder(image)]
    image = image.repeat_interleave(targets, 0)
    coords, labels, mask_input = batch["coords"].clone(), batch["labels"].clone(), batch["mask_input"]
    loss, dices = torch.zeros((), device=image.device), []
    for turn in range(rounds):
        logits, quality = net.decoder(image, *features, coords, labels, batch["box"], mask_input)
        logits = logits.float()  # sums over a grid are beyond half precision
        overlap = iou(logits.detach(), batch["target"])
        loss = loss + mask_loss(logits, batch["target"]) + 0.5 * F.mse_loss(quality.float(), overlap)
        dices.append(float((2 * overlap / (1 + overlap)).mean()))
        if turn + 1 < rounds:
            mask_input = logits.detach().clamp(-8, 8)
            correct(mask_input, batch["target"], coords, labels, generator)
    return loss / rounds, dices


def save(path: Path, state: dict[str, object]) -> None:
    partial = path.with_suffix(".part")
    torch.save(state, partial)
    os.replace(partial, path)


def train(config: TrainConfig, out: Path, resume: bool = False) -> Path:
    """Runs to the end of `config.minutes` and returns the path of the last checkpoint."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    net = load_network(Path(config.init)) if config.init else CompactNetwork(CompactConfig())
    net = net.train().to(config.device, memory_format=torch.channels_last_3d)
    mean = copy.deepcopy(net)
    optimiser = torch.optim.AdamW(net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    step, spent, checkpoint = 0, 0.0, out / "checkpoint.pt"
    if resume and checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=config.device)
        net.load_state_dict(state["net"])
        mean.load_state_dict(state["mean"])
        optimiser.load_state_dict(state["optimiser"])
        step, spent = state["step"], state["spent"]
    (out / "config.json").write_text(json.dumps({"train": config.__dict__, "network": net.config.to_dict()}, indent=1))
    start = time.monotonic() - spent
    saved = time.monotonic()
    log = (out / "log.csv").open("a", newline="")
    writer = csv.writer(log)
    running: list[list[float]] = []
    while (elapsed := (time.monotonic() - start) / 60 / config.minutes) < 1:
        stage = next(s for s in config.stages if elapsed < s[0])
        loader = torch.utils.data.DataLoader(
            Batches(config.seed + step, stage[1], stage[2], config.targets),
            batch_size=None,
            num_workers=config.workers,
            prefetch_factor=3 if config.workers else None,
            pin_memory=config.device != "cpu",
        )
        for batch in loader:
            elapsed = (time.monotonic() - start) / 60 / config.minutes
            if elapsed >= stage[0]:
                break
            rate = config.learning_rate * min(1, (step + 1) / 60) * (0.5 + 0.5 * math.cos(math.pi * min(1, elapsed)))
            for group in optimiser.param_groups:
                group["lr"] = max(rate, 1e-5)
            batch = {name: tensor.to(config.device, non_blocking=True) for name, tensor in batch.items()}
            with torch.autocast(config.device.split(":")[0], torch.bfloat16, enabled=config.bfloat16):
                loss, dices = step_loss(net, batch, stage[3], generator)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0)
            if torch.isfinite(norm):
                optimiser.step()
            decay = min(config.ema, (1 + step) / (20 + step))
            with torch.no_grad():
                for a, b in zip(mean.parameters(), net.parameters(), strict=True):
                    a.lerp_(b, 1 - decay)
            step += 1
            running.append([float(loss.detach()), dices[0], dices[-1]])
            if len(running) == 25:
                values = [round(float(value), 4) for value in np.mean(running, axis=0)]
                writer.writerow([step, round(time.monotonic() - start, 1), stage[1], f"{rate:.2e}", *values])
                log.flush()
                running.clear()
            if time.monotonic() - saved > 60 * config.checkpoint_minutes:
                saved = time.monotonic()
                save(checkpoint, _state(net, mean, optimiser, step, saved - start))
    save(checkpoint, _state(net, mean, optimiser, step, time.monotonic() - start))
    return checkpoint


def _state(
    net: CompactNetwork, mean: CompactNetwork, optimiser: torch.optim.Optimizer, step: int, spent: float
) -> dict[str, object]:
    return {
        "net": net.state_dict(),
        "mean": mean.state_dict(),
        "optimiser": optimiser.state_dict(),
        "step": step,
        "spent": spent,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=TrainConfig.minutes)
    parser.add_argument("--seed", type=int, default=TrainConfig.seed)
    parser.add_argument("--learning-rate", type=float, default=TrainConfig.learning_rate)
    parser.add_argument("--workers", type=int, default=TrainConfig.workers)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--bfloat16", action="store_true", default=torch.cuda.is_available())
    parser.add_argument("--init", metavar="FILE.safetensors", help="weights to begin with")
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    config = TrainConfig(
        minutes=arguments.minutes,
        seed=arguments.seed,
        learning_rate=arguments.learning_rate,
        workers=arguments.workers,
        device=arguments.device,
        bfloat16=arguments.bfloat16,
        init=arguments.init,
    )
    train(config, arguments.out, arguments.resume)


if __name__ == "__main__":
    main()
