"""Good images as batches of teacher features."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from rdx_fast.errors import DatasetError, TrainingError, listed
from rdx_fast.images import find_bad_images, read_image
from rdx_fast.manifest import RESIZE, InputSpec
from rdx_fast.models import backbone
from rdx_fast.preprocess import to_input
from rdx_fast.training.recipe import Recipe


class ImageDataset(Dataset[Tensor]):
    """Images through the same preprocessing as the Detector: ``[3, height, width]`` float32."""

    def __init__(self, paths: Sequence[Path], spec: InputSpec) -> None:
        self.paths = list(paths)
        self.spec = spec

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self.load(index))

    def load(self, index: int) -> NDArray[np.float32]:
        return to_input([read_image(self.paths[index])], self.spec)[0]


def input_spec(recipe: Recipe) -> InputSpec:
    spec = backbone(recipe.backbone)
    height, width = recipe.image_size
    return InputSpec(height, width, spec.mean, spec.std, RESIZE)


def readable_images(paths: Sequence[Path], skip_bad: bool) -> list[Path]:
    """Decode every image once; drop the bad ones if ``skip_bad``, else raise ``DatasetError``."""
    bad = find_bad_images(paths)
    if bad and not skip_bad:
        raise DatasetError(
            f"{len(bad)} of {len(paths)} images cannot be used (mend or remove them, or pass "
            f"--skip-bad):{listed(bad)}"
        )
    skipped = {error.path for error in bad}
    return [path for path in paths if path not in skipped]


def split_holdout(paths: Sequence[Path], recipe: Recipe) -> tuple[list[Path], list[Path]]:
    """Training images and held-out ones, drawn with the recipe's seed; each keeps its order.

    Raises ``TrainingError`` if fewer images than a batch remain for training.
    """
    count = round(len(paths) * recipe.holdout)
    drawn = np.random.default_rng(recipe.seed).permutation(len(paths))[:count]
    held = set(drawn.tolist())
    training = [path for i, path in enumerate(paths) if i not in held]
    if len(training) < recipe.batch:
        raise TrainingError(
            f"{len(training)} images to train on, fewer than a batch of {recipe.batch}: add "
            f"images or lower --batch"
        )
    return training, [paths[i] for i in sorted(held)]


def fingerprint(paths: Sequence[Path]) -> str:
    """SHA-256 over names and contents, by which a resumed run knows its images again."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{path.name}\0{content}\n".encode())
    return digest.hexdigest()


class TeacherFeatures:
    """A frozen teacher's features of a data set, computed once and kept while they fit.

    ``budget_bytes``: memory that kept features may take; above it they are computed anew for each
    batch, with ``workers`` processes decoding images.
    """

    def __init__(
        self,
        teacher: nn.Module,
        dataset: ImageDataset,
        batch: int,
        budget_bytes: float,
        workers: int,
        device: torch.device,
    ) -> None:
        self.teacher = teacher
        self.dataset = dataset
        self.batch = batch
        self.workers = workers
        self.device = device
        self._kept: list[Tensor] | None = None
        sample = self.of_images(dataset[0][None])
        self.bytes_needed = len(dataset) * sum(m.nbytes for m in sample)
        self.keeps = self.bytes_needed <= budget_bytes

    def prepare(self) -> None:
        """Compute what is kept; without it the first batch does."""
        if self.keeps and self._kept is None:
            self._kept = self._all_features()

    def batches(self, index_lists: Sequence[list[int]]) -> Iterator[list[Tensor]]:
        """For each list of indices the three maps ``[B, C_s, h_s, w_s]`` float32, on the device."""
        self.prepare()
        if self._kept is not None:
            for indices in index_lists:
                yield self._gathered(self._kept, indices)
        else:
            for images in self._images(index_lists):
                yield self.of_images(images)

    def of(self, indices: list[int], images: Tensor) -> list[Tensor]:
        """The maps of these images of the data set, which the caller has at hand anyway."""
        self.prepare()
        if self._kept is not None:
            return self._gathered(self._kept, indices)
        return self.of_images(images)

    def _gathered(self, kept: list[Tensor], indices: list[int]) -> list[Tensor]:
        return [m[indices].to(self.device) for m in kept]

    def _all_features(self) -> list[Tensor]:
        n = len(self.dataset)
        chunks = [list(range(i, min(i + self.batch, n))) for i in range(0, n, self.batch)]
        kept: list[Tensor] | None = None
        for indices, images in zip(chunks, self._images(chunks), strict=True):
            maps = [m.cpu() for m in self.of_images(images)]
            if kept is None:
                kept = [m.new_empty((n, *m.shape[1:])) for m in maps]
            for store, m in zip(kept, maps, strict=True):
                store[indices] = m
        assert kept is not None
        return kept

    def _images(self, index_lists: Sequence[list[int]]) -> Iterator[Tensor]:
        loader = DataLoader(
            self.dataset,
            batch_sampler=list(index_lists),
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
        )
        return iter(loader)

    @torch.no_grad()
    def of_images(self, images: Tensor) -> list[Tensor]:
        """The maps of any images, ``[B, 3, H, W]`` float32, normalised."""
        images = images.to(self.device, memory_format=torch.channels_last)
        return [m.float() for m in self.teacher(images)]
