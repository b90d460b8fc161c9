"""The networks of a run: the one that is trained, and the frozen one that it learns from."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import nn

from rdx_fast.errors import WeightsError
from rdx_fast.models import ReverseDistillation, load_teacher, make_network
from rdx_fast.models.weights import has_batch_statistics
from rdx_fast.training.checkpoint import Checkpoint
from rdx_fast.training.recipe import Recipe


def check_weights(recipe: Recipe, weights: Path | None) -> None:
    """Load the teacher's weights as ``train`` does, to find early what is wrong with them.

    Args:
        recipe: options of the run
        weights: file with the weights, see ``load_teacher``

    Raises:
        WeightsError: they cannot be loaded, or lack the batch statistics that the recipe needs
    """
    make_networks(recipe, None, weights, torch.device("cpu"))


def make_networks(
    recipe: Recipe, weights_of: Checkpoint | None, weights: Path | None, torch_device: torch.device
) -> tuple[ReverseDistillation, nn.Module, str]:
    """Make the networks of a new run, or those that a checkpoint holds.

    Args:
        recipe: options of the run
        weights_of: checkpoint of the run that is resumed, or whose weights a new one starts from;
            None for one that starts from the teacher's weights
        weights: file with the teacher's weights, see ``load_teacher``
        torch_device: device to train on

    Returns:
        The network to train; the frozen network that it learns from, which is RD4AD's teacher or RD
        with Expert's expert; and the name of the file with its weights.

    Raises:
        WeightsError: see ``check_weights``
    """
    torch.manual_seed(recipe.seed)
    if weights_of is None:
        network = make_network(recipe.method, recipe.backbone, recipe.injection)
        weights_name = load_teacher(network.teacher, recipe.backbone, weights)
        frozen = copy.deepcopy(network.teacher)
        moving = recipe.makes_anomalies and not recipe.frozen_statistics
        if moving and not has_batch_statistics(frozen):
            raise WeightsError(
                f"{weights_name} has no batch statistics (all means 0, all variances 1: they were "
                f"folded into its convolutions), and {recipe.method} trains the teacher with "
                f"moving statistics: give weights as their publisher trained them, or use "
                f"--method rd4ad"
            )
    else:
        network = weights_of.build()
        weights_name = weights_of.teacher_weights
        frozen = copy.deepcopy(network.teacher)
        if weights_of.expert:
            frozen.load_state_dict(weights_of.expert)
    network.to(torch_device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    frozen.to(torch_device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network, frozen.eval().requires_grad_(False), weights_name
