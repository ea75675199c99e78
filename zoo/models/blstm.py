"""BLSTM: recurrent layers that follow a song in both directions, one network per source.

S. Uhlich, M. Porcu, F. Giron, M. Enenkl, T. Kemp, N. Takahashi, Y. Mitsufuji, "Improving music
source separation based on deep neural networks through data augmentation and network blending",
ICASSP 2017, pp. 261-265.

In:  mixture ``(B, C, T)``, 44.1 kHz stereo; STFT 4096 / 1024, of which bins up to 16 kHz are seen.
Out: estimates ``(B, J, C, T)``.   Inside: ``(N, B, K)``, frame after frame.

    ====================================================  =======  ==========
    layer                                                 out      parameters
    ====================================================  =======  ==========
    bins up to 16 kHz of both channels, standardised      2974
    three BLSTM layers, 500 cells per direction           1000     25 920 000
    dense, back to the scale of the bins, ReLU            2 2049    4 102 098
    ====================================================  =======  ==========

Loss: mean squared error of magnitudes.  A multichannel Wiener filter joins the sources.

Departures from the paper
    * The Wiener filter's covariances are those of a chunk, or of the song (``covariance="song"``).

Inferred or unconfirmed
    * Sizes: 500 cells per direction and bins up to 16 kHz match a count of 30.03 millions that is
      recalled from a later paper; that the network is stereo, has one BLSTM per source and learned
      from DSD100 alone is documented for the system that was sent to SiSEC 2016, three layers of
      500 cells and the STFT 4096 / 1024 for that of 2018.
    * Adam at 1e-3, its plateau, sequences of six seconds and dropout of 0.4 are borrowed from
      Open-Unmix; the loss and the recipe's clipping of gradients are ours.
    * Bins are standardised by the mixtures of the training, and the output is brought back by the
      same numbers.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.dsp.stft import STFT
from zoo.errors import check_least, check_share
from zoo.models import TABLE
from zoo.models.statistics import mixture_statistics
from zoo.models.targets import TargetNetworks
from zoo.separator import SHORTEST_S

log = logging.getLogger(__name__)


class BLSTM(TargetNetworks):
    """One recurrent network per target, joined by a multichannel Wiener filter.

    Args:
        sources, sample_rate, channels, targets: see `zoo.models.targets.TargetNetworks`.
        n_fft: STFT window in samples.
        hop: in samples.
        n_cells: of a layer, per direction.
        n_layers: of the LSTM.
        bandwidth_hz: bins above are not seen, but all are estimated.
        dropout: share of what each layer but the last passes on that is dropped in training.
        segment_s: of a training example, in seconds.
        wiener_iterations, wiener_reg, covariance: see `zoo.models.targets.TargetNetworks`.
    """

    architecture = "blstm"
    tiny: ClassVar = TABLE["blstm"]["tiny"]

    def __init__(
        self,
        sources: Sequence[str] = ("bass", "drums", "other", "vocals"),
        sample_rate: int = 44100,
        channels: int = 2,
        targets: Sequence[str] | None = None,
        n_fft: int = 4096,
        hop: int = 1024,
        n_cells: int = 500,
        n_layers: int = 3,
        bandwidth_hz: float = 16000,
        dropout: float = 0.4,
        segment_s: float = 6.0,
        wiener_iterations: int = 1,
        wiener_reg: Literal["relative", "norbert", "pinv"] = "relative",
        covariance: Literal["chunk", "song"] = "chunk",
    ) -> None:
        super().__init__(
            sources, sample_rate, channels, targets, STFT(n_fft, hop),
            wiener_iterations, wiener_reg, covariance,
        )  # fmt: skip
        self.save_hyperparameters()
        check_least(1, n_cells=n_cells, n_layers=n_layers, bandwidth_hz=bandwidth_hz)
        check_least(SHORTEST_S, segment_s=segment_s)
        check_share(dropout=dropout)
        self.segment_s, self._rate = segment_s, sample_rate
        n_seen = min(self.stft.n_bins, int(bandwidth_hz * n_fft / sample_rate) + 1)
        for target in self.targets:
            self.networks[target] = RecurrentNetwork(
                channels, self.stft.n_bins, n_seen, n_cells, n_layers, dropout
            )

    @property
    def segment(self) -> int:
        """Samples of a training example."""
        return round(self.segment_s * self._rate)

    def magnitudes(self, spectrum: Tensor) -> Tensor:
        """Magnitudes of the targets, ``(B, J, C, F, N)``, of a spectrum ``(B, C, F, N)``."""
        mixture = spectrum.abs()
        return torch.stack([self.networks[name](mixture) for name in self.targets], 1)

    def on_fit_start(self) -> None:
        """Measure the training mixtures for the normalisation, unless a checkpoint brought it."""
        networks: list[RecurrentNetwork] = list(self.networks.values())  # type: ignore[arg-type]
        if bool((networks[0].std != 1).any()):
            return
        measured = mixture_statistics(self, lambda mixture: self.stft(mixture).abs())
        if measured is None:
            log.warning(
                "no zoo.SeparationData to measure the training mixtures on: the networks' input is "
                "not standardised."
            )
            return
        mean, std = measured
        for network in networks:
            network.mean.copy_(mean)
            network.std.copy_(std.clamp(min=1e-4 * float(std.max())))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam at 1e-3, at 0.3 of the rate after 80 epochs without a better one."""
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-3)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, "max", factor=0.3, patience=80
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": plateau, "monitor": "val/sdr", "strict": False},
        }


class RecurrentNetwork(nn.Module):
    """Magnitudes ``(B, C, F, N)`` of the mixture -> those of the source."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        n_channels: int,
        n_bins: int,
        n_seen: int,
        n_cells: int,
        n_layers: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.n_seen = n_seen
        self.lstm = nn.LSTM(
            n_channels * n_seen, n_cells, n_layers,
            bidirectional=True, dropout=dropout if n_layers > 1 else 0.0,
        )  # fmt: skip
        self.output = nn.Linear(2 * n_cells, n_channels * n_bins)
        self.register_buffer("mean", torch.zeros(n_bins))
        self.register_buffer("std", torch.ones(n_bins))

    def forward(self, mixture: Tensor) -> Tensor:
        """See the class."""
        frames = mixture.permute(3, 0, 1, 2)  # (N, B, C, F)
        seen = ((frames - self.mean) / self.std)[..., : self.n_seen]
        drawn = self.output(self.lstm(seen.flatten(2))[0]).to(mixture.dtype)
        found = F.relu(drawn.unflatten(2, mixture.shape[1:3]) * self.std + self.mean)
        return found.permute(1, 2, 3, 0)
