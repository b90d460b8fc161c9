"""Options of a training run. The defaults are the published recipes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from rdx_fast.kernels.resize_normalize import PIXEL_FORMATS, check_level_range
from rdx_fast.models import INJECTIONS, METHODS, backbone
from rdx_fast.preprocess import FrameOptions
from rdx_fast.recipe.recipe import FrameSpec, InspectionRecipe
from rdx_fast.recipe.tiling import TileSpec
from rdx_fast.training.foreground import FOREGROUNDS
from rdx_fast.training.published import EPOCHS, published_iterations


@dataclass(frozen=True, slots=True)
class Recipe:
    """Every option that the trained weights depend on, except the images.

    Attributes:
        method: "rd4ad" or "rd-expert"
        backbone: a key of ``rdx_fast.models.BACKBONES``
        injection: "guided" as in the paper, "plain" as in the authors' script, or "none", for RD
            with Expert only
        image_size: height and width of the network's input in pixels, multiples of 32
        epochs: length of the run in epochs; None, see ``iterations``
        iterations: length of the run in batches. Give one of both; with neither, the published
            length of the method
        batch: number of images in a batch
        learning_rate: of student and bottleneck
        teacher_learning_rate: of the teacher, for RD with Expert only
        betas: of the Adam optimizer
        seed: of initialisation, order of the images, held-out images and synthetic anomalies
        amp: mixed precision where the device computes it faster, see ``training_precision``
        holdout: share of the images kept out of training for the threshold, 0 to 0.5
        texture_cuts: cut the textures of synthetic anomalies out of their images at random and flip
            them, instead of showing them whole, for RD with Expert only
        texture_colors: shift the colours of these textures at random, likewise
        frozen_statistics: keep ImageNet's batch statistics in the teacher while it is trained, for
            RD with Expert only; False as published, where they move
        foreground: how masks are made that keep synthetic anomalies on the part: "grabcut",
            "otsu-dark", "otsu-bright", "none", or "files" for masks that are given
        pixel_format: what the images of parts hold, as for ``Detector.score``; textures are RGB or
            mono
        crop: top, left, height and width in pixels of what is shown of the parts, likewise
        levels: grey levels of black and white of images with 16 bits per channel, likewise
        tiles: train on tiles of the images, each of which is resized to ``image_size``; batches and
            epochs then count tiles. None for whole images

    Raises:
        ValueError: a value is out of range
    """

    method: str = "rd4ad"
    backbone: str = "wide_resnet50_2"
    injection: str = "guided"
    image_size: tuple[int, int] = (256, 256)
    epochs: int | None = None
    iterations: int | None = None
    batch: int = 16
    learning_rate: float = 0.005
    teacher_learning_rate: float = 0.0001
    betas: tuple[float, float] = (0.5, 0.999)
    seed: int = 111
    amp: bool = True
    holdout: float = 0.0
    texture_cuts: bool = False
    texture_colors: bool = False
    frozen_statistics: bool = False
    foreground: str = "none"
    pixel_format: str | None = None
    crop: tuple[int, int, int, int] | None = None
    levels: tuple[int, int] | None = None
    tiles: TileSpec | None = None

    def __post_init__(self) -> None:
        backbone(self.backbone)
        for what, given, known in (
            ("method", self.method, METHODS),
            ("injection", self.injection, INJECTIONS),
            ("foreground", self.foreground, FOREGROUNDS),
            ("pixel format", self.pixel_format, (None, *PIXEL_FORMATS)),
        ):
            if given not in known:
                raise ValueError(
                    f"unknown {what} {given!r}: choose one of {', '.join(filter(None, known))}"
                )
        if min(self.image_size) < 32 or any(side % 32 for side in self.image_size):
            raise ValueError(f"image size is {self.image_size}: both sides must be multiples of 32")
        if self.epochs is not None and self.iterations is not None:
            raise ValueError(
                f"epochs is {self.epochs} and iterations {self.iterations}: give only one of them"
            )
        for what, count in (
            ("epochs", self.epochs),
            ("iterations", self.iterations),
            ("batch", self.batch),
        ):
            if count is not None and count < 1:
                raise ValueError(f"{what} is {count}: it must be at least 1")
        for what, rate in (
            ("learning rate", self.learning_rate),
            ("teacher learning rate", self.teacher_learning_rate),
        ):
            if not (math.isfinite(rate) and rate > 0):
                raise ValueError(f"{what} is {rate}: it must be above 0")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas are {self.betas}: each must be in [0, 1)")
        if not 0 <= self.holdout <= 0.5:
            raise ValueError(f"holdout is {self.holdout}: it must be between 0 and 0.5")
        self._check_method_takes_options()
        if self.levels is not None:
            check_level_range(self.levels)
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}: it must be between 0 and 2^63 - 1")

    def _check_method_takes_options(self) -> None:
        options = {
            "texture_cuts": self.texture_cuts,
            "texture_colors": self.texture_colors,
            "frozen_statistics": self.frozen_statistics,
            "foreground": self.foreground != "none",
        }
        chosen = [name for name, value in options.items() if value]
        if chosen and not self.makes_anomalies:
            raise ValueError(
                f"{' and '.join(chosen)}: options of rd-expert, and the method is {self.method}: "
                f"leave them out, or choose the method rd-expert"
            )

    @property
    def makes_anomalies(self) -> bool:
        """Whether training generates synthetic anomalies, for which textures can be given."""
        return self.method == "rd-expert"

    @property
    def frame_options(self) -> FrameOptions:
        """How images of parts are read."""
        return FrameOptions(self.pixel_format, self.crop, self.levels, self.tiles)

    @property
    def inspection(self) -> InspectionRecipe:
        """What is inspected by the network that is trained so."""
        frame = FrameSpec(pixel_format=self.pixel_format, crop=self.crop, levels=self.levels)
        return InspectionRecipe(frame, tiles=self.tiles)

    def total_steps(self, steps_per_epoch: int) -> int:
        """Number of batches of the whole run."""
        if self.iterations is not None:
            return self.iterations
        if self.epochs is not None:
            return self.epochs * steps_per_epoch
        return self.published_steps(steps_per_epoch)

    def at_length_of(self, category: str | None) -> Recipe:
        """The recipe with the published length of a category of MVTec AD.

        Args:
            category: see ``mvtec_category``; None for other parts

        Returns:
            The same recipe where it has a length, or the category has the method's usual one.
        """
        length = published_iterations(category)
        given = self.epochs is not None or self.iterations is not None
        if given or not self.makes_anomalies or length == published_iterations(None):
            return self
        return replace(self, iterations=length)

    def published_steps(self, steps_per_epoch: int, category: str | None = None) -> int:
        """Number of batches of the method's published length.

        Args:
            steps_per_epoch: batches of an epoch
            category: of MVTec AD, see ``mvtec_category``
        """
        if self.method == "rd4ad":
            return EPOCHS * steps_per_epoch
        return published_iterations(category)
