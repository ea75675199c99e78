"""A separator that learns, small enough to train in a test, with dropout so that chance matters."""

import torch
from torch import nn

from zoo.separator import Separator, masked_mean


class Toy(Separator):
    """Two convolutions."""

    architecture = "toy"
    tiny = {"width": 4, "sources": ["drums", "bass"]}

    def __init__(
        self,
        sources: list[str] = ["vocals", "accompaniment"],  # noqa: B006
        sample_rate: int = 16000,
        channels: int = 1,
        width: int = 16,
        depth: int = 2,
        dropout: float = 0.5,
    ):
        super().__init__(sources, sample_rate, channels)
        self.save_hyperparameters()
        n = len(sources) * channels
        self.net = nn.Sequential(
            nn.Conv1d(channels, width, 15, padding=7),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv1d(width, n, 15, padding=7),
        )

    @property
    def segment(self):
        return 2000

    @property
    def context(self):
        return 14

    def forward(self, mixture, state=None):
        return self.net(mixture).unflatten(1, (len(self.sources), -1))

    def loss(self, mixture, references, known):
        errors = (self(mixture) - references).square().mean((-1, -2))
        return {"loss": masked_mean(errors, known)}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.125)


class Fixed(Toy):
    """Has nothing to learn."""

    trainable = False


class Spoilt(Toy):
    """Its third training step has a loss, or a gradient, that is no number; in one process only."""

    def __init__(
        self,
        sources: list[str] = ["vocals", "accompaniment"],  # noqa: B006
        kind: str = "loss",
        rank: int = 0,
    ):
        super().__init__(sources)
        self.kind, self.rank, self.n_losses = kind, rank, 0

    def loss(self, mixture, references, known):
        losses = super().loss(mixture, references, known)
        self.n_losses += self.training
        if self.n_losses == 3 and self.global_rank == self.rank:
            spoilt = losses["loss"] * 0
            losses["loss"] = losses["loss"] + (spoilt / 0 if self.kind == "loss" else spoilt.sqrt())
        return losses
