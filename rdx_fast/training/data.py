"""Training data: good images, and batches of teacher features of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from rdx_fast.errors import DatasetError, ImageError, TrainingError, listed
from rdx_fast.images import find_bad_images
from rdx_fast.manifest import RESIZE, InputSpec
from rdx_fast.models import backbone
from rdx_fast.models.fold import FoldedCopy
from rdx_fast.preprocess import to_input
from rdx_fast.training.frames import Frames
from rdx_fast.training.precision import Autocast
from rdx_fast.training.recipe import Recipe


class ImageDataset(Dataset[Tensor]):
    """Images preprocessed as by the Detector, ``[3, height, width]`` float32 normalised."""

    def __init__(self, frames: Frames, spec: InputSpec) -> None:
        self.frames = frames
        self.spec = spec

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self.load(index))

    def load(self, index: int) -> NDArray[np.float32]:
        return to_input([self.frames[index]], self.spec)[0]


def input_spec(recipe: Recipe) -> InputSpec:
    spec = backbone(recipe.backbone)
    height, width = recipe.image_size
    return InputSpec(height, width, spec.mean, spec.std, RESIZE)


def readable_images(paths: Sequence[Path], skip_bad: bool) -> list[Path]:
    """Decode every image once to find unreadable ones.

    Args:
        paths: images
        skip_bad: leave unreadable images out instead of raising

    Returns:
        the readable images, in order

    Raises:
        DatasetError: images are unreadable and ``skip_bad`` is false; the message lists them
    """
    bad = find_bad_images(paths)
    if bad and not skip_bad:
        raise DatasetError(unreadable(bad, len(paths), "images"))
    skipped = {error.path for error in bad}
    return [path for path in paths if path not in skipped]


def unreadable(bad: Sequence[ImageError], count: int, what: str) -> str:
    """The refusal of ``count`` images of which some are unreadable."""
    return (
        f"{len(bad)} of {count} {what} cannot be used: repair or remove them, or leave them out "
        f"(skip_bad=True, --skip-bad):{listed(bad, len(bad))}"
    )


def split_holdout(images: int, recipe: Recipe) -> tuple[list[int], list[int]]:
    """Split images into training and held-out ones, drawn with the recipe's seed.

    Args:
        images: their number
        recipe: options of the run

    Returns:
        indices of the training images and of the held-out ones, each ascending

    Raises:
        TrainingError: fewer images than a batch remain for training
    """
    count = round(images * recipe.holdout)
    held = sorted(np.random.default_rng(recipe.seed).permutation(images)[:count].tolist())
    training = sorted({*range(images)} - {*held})
    if len(training) < recipe.batch:
        raise TrainingError(
            f"{len(training)} images to train on, fewer than a batch of {recipe.batch}: add "
            f"images, or lower the batch size (Recipe(batch=...), --batch)"
        )
    return training, held


def fingerprint(paths: Sequence[Path]) -> str:
    """SHA-256 over names and contents, by which a resumed run recognises its images."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{path.name}\0{content}\n".encode())
    return digest.hexdigest()


class TeacherFeatures:
    """Features of a data set from a frozen teacher, computed once and kept if they fit in memory.

    Args:
        teacher: frozen, on ``device``
        dataset: the images
        batch: number of images in a batch
        budget_bytes: memory that kept features may take; if they need more, they are computed for
            each batch again
        workers: processes that decode images; 0 decodes in this process
        device: device of the teacher and of the features returned
        autocast: opens the context of mixed precision, for images that are not of the data set;
            the features of those that are, kept or not, are computed in float32

    Attributes:
        bytes_needed: memory that the features of all images take
        keeps: whether the features are kept
    """

    def __init__(
        self,
        teacher: nn.Module,
        dataset: ImageDataset,
        batch: int,
        budget_bytes: float,
        workers: int,
        device: torch.device,
        autocast: Autocast,
    ) -> None:
        self.teacher = FoldedCopy(teacher)
        self.dataset = dataset
        self.batch = batch
        self.workers = workers
        self.device = device
        self.autocast = autocast
        self._kept: list[Tensor] | None = None
        sample = self._maps(dataset[0][None])
        self.bytes_needed = len(dataset) * sum(m.nbytes for m in sample)
        self.keeps = self.bytes_needed <= budget_bytes

    def prepare(self) -> None:
        """Compute the features to be kept; otherwise the first batch does so."""
        if self.keeps and self._kept is None:
            self._kept = self._all_features()

    def batches(self, index_lists: Sequence[list[int]]) -> Iterator[list[Tensor]]:
        """For each list of image indices, the three maps ``[B, C_s, h_s, w_s]`` float32 on the
        device."""
        self.prepare()
        if self._kept is not None:
            for indices in index_lists:
                yield self._gathered(self._kept, indices)
        else:
            for images in self._images(index_lists):
                yield self._maps(images)

    def of(self, indices: list[int], images: Tensor) -> list[Tensor]:
        """The maps of some images of the data set: kept ones by ``indices``, or computed from
        ``images``."""
        self.prepare()
        if self._kept is not None:
            return self._gathered(self._kept, indices)
        with torch.autocast(self.device.type, enabled=False):
            return self._maps(images)

    def _gathered(self, kept: list[Tensor], indices: list[int]) -> list[Tensor]:
        # Kept as [n, h, w, C], so that what is gathered has the memory format channels-last.
        return [m[indices].to(self.device).permute(0, 3, 1, 2) for m in kept]

    def _all_features(self) -> list[Tensor]:
        n = len(self.dataset)
        chunks = [list(range(i, min(i + self.batch, n))) for i in range(0, n, self.batch)]
        kept: list[Tensor] | None = None
        for indices, images in zip(chunks, self._images(chunks), strict=True):
            maps = [m.permute(0, 2, 3, 1).cpu() for m in self._maps(images)]
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

    def of_images(self, images: Tensor) -> list[Tensor]:
        """Compute the maps of any images, ``[B, 3, H, W]`` float32 normalised."""
        with self.autocast():
            return self._maps(images)

    @torch.no_grad()
    def _maps(self, images: Tensor) -> list[Tensor]:
        images = images.to(self.device, memory_format=torch.channels_last)
        return [m.float() for m in self.teacher(images)]
