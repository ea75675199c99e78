"""BS-RoFormer and Mel-Band RoFormer, as the package bs-roformer has them.

The spectrum is cut into bands, each of which becomes a token per frame; attention runs over the
frames and over the bands in turn, and each band draws its part of a complex mask.

W.-T. Lu, J.-C. Wang, Q. Kong, Y.-N. Hung, "Music source separation with band-split RoPE
transformer", ICASSP 2024, arXiv 2309.02612; J.-C. Wang, W.-T. Lu, M. Won, "Mel-Band RoFormer for
music source separation", ISMIR 2023 late-breaking, arXiv 2310.01809.

In:  mixture ``(B, C, T)``, 44.1 kHz, mono or stereo; STFT 2048 / 512.
Out: estimates ``(B, J, C, T)``; of a network with one source, the other is what it leaves.

Departures from the package
    * The loss is its own (absolute errors of waveforms and of spectra at five resolutions), source
      by source, so that unknown ones do not count.
    * It attends to all that it is given; chunks are cross-faded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, ClassVar

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import MissingPackage, RecipeError, check_least
from zoo.models import TABLE
from zoo.separator import SHORTEST_S, Separator, State, mean_losses

WINDOWS = (4096, 2048, 1024, 512, 256)  # of the loss, in samples
HOP = 147


class BSRoFormer(Separator):
    """bs-roformer's ``BSRoformer``: bands side by side.

    Args:
        sources: names, in the order of the estimates.
        sample_rate: in Hz.
        channels: one or two.
        width: of a token.
        depth: how often both attentions follow each other.
        n_fft: STFT window in samples.
        hop: in samples.
        gives_one: the network gives the first source alone; the second is the rest.
        network: further arguments of the package's class.
        segment_s: of a training example, in seconds.
    """

    channels: int
    kind: ClassVar = "BSRoformer"  # the package's class
    architecture = "bs-roformer"
    tiny: ClassVar = TABLE["bs-roformer"]["tiny"]

    def __init__(
        self,
        sources: Sequence[str] = ("vocals", "drums", "bass", "other"),
        sample_rate: int = 44100,
        channels: int = 2,
        width: int = 384,
        depth: int = 6,
        n_fft: int = 2048,
        hop: int = 512,
        gives_one: bool = False,
        network: Mapping[str, Any] | None = None,
        segment_s: float = 8.0,
    ) -> None:
        super().__init__(sources, sample_rate, channels)
        self.save_hyperparameters()
        check_least(1, width=width, depth=depth, hop=hop)
        check_least(2 * hop, n_fft=n_fft)
        check_least(SHORTEST_S, segment_s=segment_s)
        if channels not in (1, 2) or (gives_one and len(self.sources) != 2):
            raise RecipeError(
                f"channels {channels}, gives_one {gives_one}, {len(self.sources)} sources; a "
                "RoFormer is for one or two channels, and gives_one for two sources."
            )
        if find_spec("bs_roformer") is None:
            raise MissingPackage(
                "RoFormers need the package bs-roformer: `pip install "
                "'music-separation-zoo[roformer]'`."
            )
        import bs_roformer

        self.n_fft, self.hop, self._segment = n_fft, hop, round(segment_s * sample_rate)
        arguments: dict[str, Any] = {
            "dim": width, "depth": depth, "stereo": channels == 2, "dim_freqs_in": n_fft // 2 + 1,
            "num_stems": 1 if gives_one else len(self.sources), "stft_n_fft": n_fft,
            "stft_hop_length": hop, "stft_win_length": n_fft, "flash_attn": False,
        }  # fmt: skip
        if self.kind == "MelBandRoformer":
            arguments["sample_rate"] = sample_rate
        # Its type checks want tuples where YAML gives lists.
        more = {k: tuple(v) if isinstance(v, list) else v for k, v in (network or {}).items()}
        try:
            self.network: nn.Module = getattr(bs_roformer, self.kind)(**{**arguments, **more})
        except (TypeError, ValueError, AssertionError, IndexError) as error:
            raise RecipeError(
                f"bs-roformer's {self.kind} takes no such arguments: {error}"
            ) from error

    @property
    def segment(self) -> int:
        """Samples of a training example."""
        return self._segment

    def forward(self, mixture: Tensor, state: State = None) -> Tensor:
        """Estimates ``(B, J, C, T)`` of a mixture ``(B, C, T)``."""
        n_samples = mixture.shape[-1]
        n_padded = max(-(-n_samples // self.hop) * self.hop, self.n_fft)
        found: Tensor = self.network(F.pad(mixture, (0, n_padded - n_samples)))
        found = found.reshape(len(mixture), -1, self.channels, found.shape[-1])
        found = F.pad(found, (0, n_padded - found.shape[-1]))[..., :n_samples]
        if found.shape[1] < len(self.sources):
            found = torch.cat([found, mixture[:, None] - found], 1)
        return found

    def loss(self, mixture: Tensor, references: Tensor, known: Tensor) -> dict[str, Tensor]:
        """Absolute error of the waveform and of spectra at five resolutions, of each source."""
        difference = self(mixture) - references
        errors = difference.abs().mean((2, 3))
        rows = difference.flatten(0, 2)
        for size in WINDOWS:
            window = torch.hann_window(size, device=rows.device)
            spectra = torch.stft(
                rows, max(size, self.n_fft), HOP, size, window, return_complex=True
            )
            errors = errors + spectra.abs().mean((1, 2)).unflatten(0, difference.shape[:3]).mean(2)
        return mean_losses(errors, known, self.sources)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW at 5e-4."""
        return torch.optim.AdamW(self.parameters(), lr=5e-4)


class MelBandRoFormer(BSRoFormer):
    """bs-roformer's ``MelBandRoformer``: overlapping bands of the mel scale."""

    kind = "MelBandRoformer"
    architecture = "mel-band-roformer"
    tiny = TABLE["mel-band-roformer"]["tiny"]
