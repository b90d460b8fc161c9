"""Training data: good images, and batches of teacher features of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from rdx_fast.bundle.manifest import RESIZE, InputSpec
from rdx_fast.models import backbone
from rdx_fast.models.fold import FoldedCopy
from rdx_fast.preprocess import Frame, FrameWindow
from rdx_fast.training.frames import Frames
from rdx_fast.training.precision import Autocast
from rdx_fast.training.recipe import Recipe


class ImageDataset(Dataset[Tensor]):
    """Images or their tiles, preprocessed as by the Detector, ``[3, height, width]`` float32
    normalised.

    Args:
        frames: the images, with the tiles in their options
        spec: the network's input

    Attributes:
        frames: likewise
        spec: likewise
        windows: the tiles, in the order of the images; None for whole images

    Raises:
        ImageError: a file cannot be read, or its image is smaller than a tile
    """

    def __init__(self, frames: Frames, spec: InputSpec) -> None:
        self.frames = frames
        self.spec = spec
        self.windows: list[FrameWindow] | None = None
        if frames.options.tiles is not None:
            laid = [frames.tiling(i, (spec.height, spec.width)) for i in range(len(frames))]
            self.windows = [(i, window) for i, of in enumerate(laid) for window in of.windows()]
        self._last: tuple[int, Frame] | None = None

    def __len__(self) -> int:
        return len(self.frames if self.windows is None else self.windows)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self.load(index))

    def load(self, index: int) -> NDArray[np.float32]:
        """An image or a tile, ``[3, height, width]`` float32 normalised."""
        if self.windows is None:
            return self.frames.input(index, self.spec)
        image, window = self.windows[index]
        if self._last is None or self._last[0] != image:  # tiles of an image often come in a row
            self._last = (image, self.frames[image])
        return self.frames.input(image, self.spec, window, self._last[1])


def input_spec(recipe: Recipe) -> InputSpec:
    """Size and normalisation of the network's input."""
    spec = backbone(recipe.backbone)
    height, width = recipe.image_size
    return InputSpec(height, width, spec.mean, spec.std, RESIZE)


def numbered_batches(
    count: int, recipe: Recipe, first: int, total: int
) -> list[tuple[int, list[int]]]:
    """The run's remaining batches, each with its number and the indices of its images.

    Args:
        count: number of images or tiles
        recipe: options of the run
        first: number of the first batch that remains
        total: batches of the whole run
    """
    batches: list[tuple[int, list[int]]] = []
    per_epoch = math.ceil(count / recipe.batch)
    for epoch in range(first // per_epoch, math.ceil(total / per_epoch)):
        order = _shuffled(count, recipe, epoch)
        batches += [(epoch * per_epoch + i, indices) for i, indices in enumerate(order)]
    return [batch for batch in batches if first <= batch[0] < total]


def _shuffled(count: int, recipe: Recipe, epoch: int) -> list[list[int]]:
    """Batches of one epoch; they depend on seed and epoch only, so a resumed run repeats them."""
    generator = torch.Generator().manual_seed(recipe.seed + 1_000_003 * epoch)
    order = torch.randperm(count, generator=generator).tolist()
    return [order[i : i + recipe.batch] for i in range(0, count, recipe.batch)]


class TeacherFeatures:
    """Features of a data set from a frozen teacher, computed once and kept if they fit in memory.

    Args:
        teacher: frozen, on ``device``
        dataset: the images
        batch: number of images in a batch
        budget_bytes: memory, of the host or the GPU, that kept features may take; if they need
            more, they are computed for each batch again
        workers: processes that decode images; 0 decodes in this process
        device: device of the teacher and of the features returned
        autocast: opens the context of mixed precision, for images that are not of the data set;
            the features of those that are, kept or not, are computed in float32

    Attributes:
        bytes_needed: memory that the features of all images take
        keeps: whether the features are kept
        place: device whose memory would keep them: the GPU if they take at most a quarter of what
            is free there, else the host
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
        self.place = self._place()

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
        """The maps of some images of the data set, as by ``batches``: kept ones, or computed.

        Args:
            indices: of the images
            images: likewise, ``[B, 3, H, W]`` float32 normalised
        """
        self.prepare()
        if self._kept is not None:
            return self._gathered(self._kept, indices)
        return self._maps(images)

    def _gathered(self, kept: list[Tensor], indices: list[int]) -> list[Tensor]:
        # Kept as [n, h, w, C], so that what is gathered has the memory format channels-last.
        return [m[indices].to(self.device).permute(0, 3, 1, 2) for m in kept]

    def _all_features(self) -> list[Tensor]:
        n = len(self.dataset)
        chunks = [list(range(i, min(i + self.batch, n))) for i in range(0, n, self.batch)]
        kept: list[Tensor] | None = None
        for indices, images in zip(chunks, self._images(chunks), strict=True):
            maps = [m.permute(0, 2, 3, 1).to(self.place) for m in self._maps(images)]
            if kept is None:
                kept = [m.new_empty((n, *m.shape[1:])) for m in maps]
            for store, m in zip(kept, maps, strict=True):
                store[indices] = m
        assert kept is not None
        return kept

    def _place(self) -> torch.device:
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)  # training needs most of it
            if self.bytes_needed <= free / 4:
                return self.device
        return torch.device("cpu")

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
