"""RD with Expert: what a step learns from (paper, section "Reverse Distillation with Expert")."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rdx_fast.models import ReverseDistillation
from rdx_fast.training.data import ImageDataset, TeacherFeatures
from rdx_fast.training.loss import agreement_loss, distillation_loss, separation_loss
from rdx_fast.training.recipe import Recipe
from rdx_fast.training.synthetic import AnomalyMaker


class Batch(NamedTuple):
    """``normal``, ``anomalous``: ``[B, 3, H, W]`` float32, the same parts without and with a
    synthetic anomaly; ``mask``: ``[B, H, W]`` float32 in {0, 1}; ``indices``: of the images."""

    normal: Tensor
    anomalous: Tensor
    mask: Tensor
    indices: list[int]


class AnomalyDataset(Dataset[Batch]):
    """Whole batches by (step, indices), drawn from the seed and the step alone."""

    def __init__(self, images: ImageDataset, maker: AnomalyMaker, seed: int) -> None:
        self.images = images
        self.maker = maker
        self.seed = seed

    def __getitem__(self, key: tuple[int, list[int]]) -> Batch:
        step, indices = key
        rng = np.random.default_rng([self.seed, step])
        normal = [self.images.load(i) for i in indices]
        pairs = [self.maker(rng, image, i) for image, i in zip(normal, indices, strict=True)]
        return Batch(
            torch.from_numpy(np.stack(normal)),
            torch.from_numpy(np.stack([image for image, _ in pairs])),
            torch.from_numpy(np.stack([mask for _, mask in pairs]).astype(np.float32)),
            indices,
        )


class ExpertDistillation:
    """The frozen expert teaches teacher and student at once.

    ``expert``: the ImageNet network's features of the good images.
    """

    def __init__(
        self,
        network: ReverseDistillation,
        expert: TeacherFeatures,
        data: AnomalyDataset,
    ) -> None:
        self.network = network
        self.expert = expert
        self.data = data

    def parameters(self, recipe: Recipe) -> list[dict[str, object]]:
        """Parameter groups of the optimizer."""
        return [
            {"params": self.network.decoding_parameters(), "lr": recipe.learning_rate},
            {
                "params": list(self.network.teacher.parameters()),
                "lr": recipe.teacher_learning_rate,
            },
        ]

    def batches(self, steps: Sequence[tuple[int, list[int]]]) -> Iterator[Batch]:
        """For each (step, indices of images) what ``losses`` takes."""
        loader: DataLoader[Batch] = DataLoader(
            self.data,
            sampler=steps,
            batch_size=None,
            num_workers=self.expert.workers,
            pin_memory=self.expert.device.type == "cuda",
        )
        return iter(loader)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """``teacher``: it agrees with the expert but where an anomaly is. ``student``: from normal
        and anomalous images alike it gives the normal features of expert and teacher. No gradient
        of the student's loss reaches the teacher."""
        normal, anomalous = (
            images.to(self.expert.device, memory_format=torch.channels_last)
            for images in (batch.normal, batch.anomalous)
        )
        count = len(batch.indices)
        expert_normal = self.expert.of(batch.indices, normal)
        expert_anomalous = self.expert.of_images(anomalous)
        teacher = self.network.teacher(torch.cat([normal, anomalous]))
        teacher_normal, teacher_anomalous = _halves(teacher, count)
        teacher_loss = agreement_loss(expert_normal, teacher_normal) + separation_loss(
            expert_anomalous, teacher_anomalous, batch.mask.to(self.expert.device)
        )
        student = self.network.decode([m.detach() for m in teacher])
        targets = (expert_normal, [m.detach() for m in teacher_normal])
        student_loss = torch.stack(
            [
                distillation_loss(target, maps)
                for target in targets
                for maps in _halves(student, count)
            ]
        ).mean()
        return {"teacher": teacher_loss, "student": student_loss}


def _halves(maps: Sequence[Tensor], count: int) -> tuple[list[Tensor], list[Tensor]]:
    """Maps of a batch of normal images followed by their anomalous twins, taken apart."""
    return [m[:count] for m in maps], [m[count:] for m in maps]
