"""RD with Expert: batches and losses of training (paper, section "Reverse Distillation with
Expert")."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from rdx_fast.models import ReverseDistillation
from rdx_fast.models.fold import FoldedCopy
from rdx_fast.training.data import ImageDataset, TeacherFeatures
from rdx_fast.training.loss import student_loss, teacher_loss
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
    """Trains teacher and student together with the frozen expert, in the authors' order.

    Args:
        network: to train
        expert: features of the good images from the ImageNet network
        data: batches with synthetic anomalies
        frozen_statistics: see ``Recipe``
    """

    def __init__(
        self,
        network: ReverseDistillation,
        expert: TeacherFeatures,
        data: AnomalyDataset,
        frozen_statistics: bool = False,
    ) -> None:
        self.network = network
        self.expert = expert
        self.data = data
        self.frozen_statistics = frozen_statistics
        self.trained_teacher = FoldedCopy(network.teacher)

    def parameters(self, recipe: Recipe) -> dict[str, tuple[list[nn.Parameter], float]]:
        """Parameters and learning rate of each term's optimizer."""
        return {
            "teacher": (list(self.network.teacher.parameters()), recipe.teacher_learning_rate),
            "student": (self.network.decoding_parameters(), recipe.learning_rate),
        }

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

    def inputs(self, batch: Batch) -> list[Tensor]:
        """What ``losses`` takes of a batch, on the device: good and anomalous images, masks, and
        the expert's maps of the good images."""
        normal, anomalous = (
            images.to(self.expert.device, memory_format=torch.channels_last)
            for images in (batch.normal, batch.anomalous)
        )
        mask = batch.mask.to(self.expert.device)
        return [normal, anomalous, mask, *self.expert.of(batch.indices, normal)]

    def losses(self, inputs: list[Tensor]) -> Iterator[tuple[str, Tensor]]:
        """The loss of each term; the caller takes the term's optimizer step before the next one.

        The teacher is trained with batch statistics, unless they are frozen, the good and the
        anomalous images in separate passes. Then the updated teacher, in evaluation mode, gives the
        student's input and targets.
        """
        normal, anomalous, mask, *expert_normal = inputs
        teacher = self.network.teacher
        with self.expert.autocast():
            expert_anomalous = self.expert.of_images(anomalous)
            teacher.train(not self.frozen_statistics)
            loss = teacher_loss(
                expert_normal, expert_anomalous, teacher(normal), teacher(anomalous), mask
            )
        yield "teacher", loss

        with self.expert.autocast():
            self.trained_teacher.refresh()
            teacher_normal = self.trained_teacher(normal)
            teacher_anomalous = self.trained_teacher(anomalous)
            loss = student_loss(
                expert_normal,
                teacher_normal,
                self.network.decode(teacher_normal),
                self.network.decode(teacher_anomalous),
            )
        yield "student", loss
