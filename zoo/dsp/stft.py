"""The short-time Fourier transform and its inverse, for signals of any length from one sample.

>>> stft = STFT(n_fft=512, hop=128)
>>> x = torch.randn(2, 1000)
>>> spectrum = stft(x)                       # (2, 257, 9)
>>> bool(torch.allclose(stft.inverse(spectrum, 1000), x, atol=1e-5))
True
"""

import torch
from torch import Tensor, nn

from zoo.errors import RecipeError


class STFT(nn.Module):
    """Short-time Fourier transform with a periodic Hann window.

    Frame ``i`` is centred on sample ``i * hop``. The signal counts as zero outside its ends, and
    the last frame is centred on its end or behind it, so every sample lies under full overlap.

    Args:
        n_fft: window and transform length in samples, even.
        hop: samples between frames; at most half of ``n_fft``, else samples would be lost.
    """

    window: Tensor

    def __init__(self, n_fft: int, hop: int) -> None:
        super().__init__()
        if n_fft % 2 or not 0 < hop <= n_fft // 2:
            raise RecipeError(
                f"hop {hop} must lie between 1 and half of n_fft {n_fft}, which is to be even"
            )
        self.n_fft, self.hop = n_fft, hop
        # Not part of a checkpoint: it follows from n_fft.
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    @property
    def n_bins(self) -> int:
        """Number of frequency bins F."""
        return self.n_fft // 2 + 1

    def n_frames(self, n_samples: int) -> int:
        """Number of frames of a signal of T = ``n_samples``: N = ceil(T / hop) + 1."""
        return -(-n_samples // self.hop) + 1

    def forward(self, signal: Tensor) -> Tensor:
        """Spectrum of a real signal: ``(..., T)`` -> complex ``(..., F, N)``; see `n_frames`."""
        n_samples = signal.shape[-1]
        padded = nn.functional.pad(signal, (0, -n_samples % self.hop))
        spectrum = torch.stft(
            padded.reshape(-1, padded.shape[-1]),
            self.n_fft,
            self.hop,
            window=self.window.to(signal.dtype),
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        return spectrum.reshape(*signal.shape[:-1], *spectrum.shape[-2:])

    def inverse(self, spectrum: Tensor, n_samples: int) -> Tensor:
        """Signal of a spectrum by weighted overlap-add: ``(..., F, N)`` -> ``(..., n_samples)``."""
        signal = torch.istft(
            spectrum.reshape(-1, *spectrum.shape[-2:]),
            self.n_fft,
            self.hop,
            window=self.window.to(spectrum.real.dtype),
            center=True,
            length=n_samples,
        )
        return signal.reshape(*spectrum.shape[:-2], n_samples)
