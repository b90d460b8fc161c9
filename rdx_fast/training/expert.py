"""RD with Expert: batches and losses of training (paper, section "Reverse Distillation with
Expert")."""

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
    """A batch of images without and with synthetic anomalies.

    Attributes:
        normal: good parts, ``[B, 3, H, W]`` float32 normalised
        anomalous: the same parts with a synthetic anomaly each, likewise
        mask: where the anomaly is, ``[B, H, W]`` float32 in {0, 1}
        indices: of the images in the data set
    """

    normal: Tensor
    anomalous: Tensor
    mask: Tensor
    indices: list[int]


class AnomalyDataset(Dataset[Batch]):
    """Batches by (step, indices of images); the anomalies depend on the seed and the step only."""

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
    """Trains teacher and student together with the frozen expert.

    Args:
        network: to train
        expert: features of the good images from the ImageNet network
        data: batches with synthetic anomalies
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
        """Batches for ``losses``, one for each (step, indices of images)."""
        loader: DataLoader[Batch] = DataLoader(
            self.data,
            sampler=steps,
            batch_size=None,
            num_workers=self.expert.workers,
            pin_memory=self.expert.device.type == "cuda",
        )
        return iter(loader)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of a batch by term.

        ``teacher``: the teacher must agree with the expert except where an anomaly is.
        ``student``: for normal and anomalous images alike, the student must reproduce the normal
        features of expert and teacher. No gradient of the student's loss reaches the teacher.
        """
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
    """Split maps of a batch of normal images followed by the same images with anomalies."""
    return [m[:count] for m in maps], [m[count:] for m in maps]
