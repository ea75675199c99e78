"""Compiled networks, where a recipe asks for them."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

log = logging.getLogger(__name__)


class Compile(Callback):
    """Has ``torch.compile`` translate a model's networks in place: names of weights stay as is.

    The same training, faster after the minutes that the first step takes. Where no compiler works,
    one line says so and the run goes on without.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Before the processes of a run wrap the model."""
        if stage != "fit":
            return
        reason = _why_not(trainer.strategy.root_device)
        if reason:
            log.warning("compile: true, but %s; the training goes on uncompiled", reason)
            return
        for network in networks(pl_module):
            if type(network).__module__.startswith("torch."):
                # measured: compile() of torch's own containers and layers does nothing
                network.forward = torch.compile(network.forward)
            else:
                network.compile()


def networks(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost modules that have weights and are called: an STFT, say, is left alone."""
    for child in module.children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from networks(child)
        elif next(child.parameters(), None) is not None:
            yield child


def _why_not(device: torch.device) -> str:
    """Why nothing can be compiled for a device; empty if it can, as a small trial shows."""
    try:
        torch.compile(torch.sin, options={"fx_graph_cache": False})(torch.zeros(8, device=device))
    # Compilers that are missing, broken or too old raise whatever they like.
    except Exception as error:
        cause = error.__cause__ or error
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
        return (lines or [type(cause).__name__])[0].rstrip(".")
    return ""
