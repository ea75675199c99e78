"""AuxIVA and ILRMA: two channels that are convolutive mixtures of two objects.

N. Ono, "Stable and fast update rules for independent vector analysis based on auxiliary function
technique", WASPAA 2011; D. Kitamura et al., "Determined blind source separation unifying
independent vector analysis and nonnegative matrix factorization", IEEE/ACM TASLP 24(9), 2016.

Each frequency has an unmixing matrix of its own.  What binds the frequencies of an object together
is its model: in AuxIVA all swell together (a spherical Laplacian), in ILRMA its spectrogram is a
few patterns (NMF).  Both rows of a matrix are updated in turn by iterative projection, which never
raises the cost.

In:  mixture ``(B, 2, T)``.   Out: images ``(B, 2, 2, T)``, which sum to the mixture.

Ours
    * The matrices are learned from at most `MOST` frames spread over the song, so files of any
      length stream. These methods want ten seconds and more, and a window near the reverberation
      time.
    * ``start="ica"`` begins with the matrix of the instantaneous model at all frequencies, which
      keeps AuxIVA from permuting them where there is no reverberation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from zoo.dsp.fast_ica import fast_ica
from zoo.dsp.stft import STFT
from zoo.dsp.two_by_two import inverse
from zoo.errors import check_choice, check_least
from zoo.models.demixing import Demixing
from zoo.models.spatial import RATE, at_rate, channel_levels
from zoo.separator import Separator, State

Weigh = Callable[[Tensor], Tensor]

MOST = 1500  # frames: 35 s at the default hop
EPS = 1e-8  # where the song's mean power is 1


class Iva(Demixing):
    """AuxIVA.

    Args:
        n_objects: 1 or 2, by default 2.
        n_fft: STFT window in samples at 44.1 kHz.
        hop: in samples at 44.1 kHz.
        n_iterations: of the updates.
        start: ``"identity"`` or ``"ica"``, the matrix of the instantaneous model.
    """

    architecture = "auxiva"
    tiny: ClassVar[dict[str, Any]] = {"n_fft": 256, "hop": 64, "n_iterations": 5}

    def __init__(
        self,
        n_objects: int | None = None,
        n_fft: int = 4096,
        hop: int = 1024,
        n_iterations: int = 30,
        start: Literal["identity", "ica"] = "identity",
    ) -> None:
        super().__init__(n_objects)
        self.save_hyperparameters()
        check_choice("start", start, ("identity", "ica"))
        check_least(1, n_iterations=n_iterations)
        self.rate = RATE
        self.stft = STFT(n_fft, hop)
        self.n_iterations, self.start = n_iterations, start

    def at(self, rate: int) -> Separator:
        """This system for signals of another rate, in Hz."""
        return at_rate(self, rate)

    @property
    def context(self) -> int:
        """A window."""
        return self.stft.n_fft

    @property
    def grid(self) -> int:
        """The hop."""
        return self.stft.hop

    def survey(self, chunks: Iterable[tuple[Tensor, slice]]) -> State:
        """``products (B, J, F, 2, 2)`` and ``pan (B, J)`` of the whole song."""
        hop, kept, stride, n_frames = self.stft.hop, list[Tensor](), 1, 0
        levels = torch.zeros(())
        for mixture, keep in chunks:
            levels = levels.to(mixture) + channel_levels(mixture[..., keep])
            ends = keep.stop >= mixture.shape[-1]
            frames = slice(-(-keep.start // hop), None if ends else -(-keep.stop // hop))
            with torch.autocast(mixture.device.type, enabled=False):
                spectrum = self.stft(mixture.float())[..., frames]
            kept.append(spectrum[..., -n_frames % stride :: stride])
            n_frames += spectrum.shape[-1]
            if sum(x.shape[-1] for x in kept) > 2 * MOST:
                kept = [torch.cat(kept, -1)[..., ::2]]
                stride *= 2
        found = []
        for spectrum in torch.cat(kept, -1):
            with torch.autocast(spectrum.device.type, enabled=False):
                products = self.products(self._learned(spectrum))
                images = (products @ spectrum.transpose(0, 1)).abs().square().sum((1, 3))
            pan = torch.rad2deg(torch.atan2(images[:, 1].sqrt(), images[:, 0].sqrt()))
            found.append(self.by_pan(products, pan))
        state = {key: torch.stack([f[key] for f in found]) for key in ("products", "pan")}
        return {"levels": levels, **state}

    def forward(self, mixture: Tensor, state: State = None) -> Tensor:
        """Images ``(B, J, 2, T)`` of a mixture ``(B, 2, T)``."""
        state = state or self.survey([(mixture, slice(0, mixture.shape[-1]))])
        assert state is not None
        with torch.autocast(mixture.device.type, enabled=False):
            spectrum = self.stft(mixture.float()).transpose(1, 2)  # (B, F, 2, N)
            images = state["products"] @ spectrum[:, None]  # (B, J, F, 2, N)
            estimates: Tensor = self.stft.inverse(images.transpose(2, 3), mixture.shape[-1])
        return estimates

    def _learned(self, spectrum: Tensor) -> Tensor:
        """The unmixing matrices ``(F, 2, 2)`` of frames ``(2, F, N)``."""
        power = spectrum.abs().square().mean()
        x = (spectrum / power.sqrt().clamp(min=1e-30)).transpose(0, 1)  # (F, 2, N)
        unmixing = torch.eye(2, device=x.device).to(x.dtype).expand(len(x), 2, 2)
        if self.start == "ica":
            samples = torch.cat([x.real, x.imag], -1).transpose(0, 1).flatten(1)
            flat = fast_ica(samples, samples @ samples.T / samples.shape[1])
            if not bool(flat.isfinite().all()):
                return flat.to(x.dtype).expand(len(x), 2, 2)
            unmixing = flat.to(x.dtype).expand(len(x), 2, 2)
        weigh = self._model(unmixing @ x)
        for _ in range(self.n_iterations):
            weights = weigh(unmixing @ x)
            for j in range(2):
                unmixing = _projected(unmixing, x, weights[j], j)
        return unmixing

    def _model(self, outputs: Tensor) -> Weigh:
        """What gives the weights ``(2, F or 1, N)`` of frames from the outputs ``(F, 2, N)``."""
        return lambda y: 1 / (2 * y.abs().square().sum(0).sqrt().clamp(min=EPS))[:, None]


class Ilrma(Iva):
    """ILRMA.

    Args:
        n_objects, n_fft, hop, n_iterations, start: as `Iva`.
        n_components: patterns of each object; two to four for speech, more for music.
        seed: of their random start.
    """

    architecture = "ilrma"
    tiny: ClassVar[dict[str, Any]] = Iva.tiny

    def __init__(
        self,
        n_objects: int | None = None,
        n_fft: int = 4096,
        hop: int = 1024,
        n_iterations: int = 30,
        start: Literal["identity", "ica"] = "identity",
        n_components: int = 4,
        seed: int = 0,
    ) -> None:
        super().__init__(n_objects, n_fft, hop, n_iterations, start)
        self.save_hyperparameters()
        check_least(1, n_components=n_components)
        self.n_components, self.seed = n_components, seed

    def _model(self, outputs: Tensor) -> Weigh:
        """Patterns and gains, updated once before each use."""
        n_bins, _, n_frames = outputs.shape
        generator = torch.Generator().manual_seed(self.seed)
        size = self.n_components
        patterns = torch.rand(2, n_bins, size, generator=generator).to(outputs.real) + 0.1
        gains = torch.rand(2, size, n_frames, generator=generator).to(outputs.real) + 0.1

        def weigh(y: Tensor) -> Tensor:
            nonlocal patterns, gains
            power = y.abs().square().transpose(0, 1)  # (2, F, N)
            # An output's scale is arbitrary; the model keeps to a mean power of 1.
            power = power / power.mean((1, 2), keepdim=True).clamp(min=EPS)
            model = (patterns @ gains).clamp(min=EPS)
            ratio, rest = power / model.square(), 1 / model
            patterns = patterns * ((ratio @ gains.mT) / (rest @ gains.mT)).sqrt()
            model = (patterns @ gains).clamp(min=EPS)
            ratio, rest = power / model.square(), 1 / model
            gains = gains * ((patterns.mT @ ratio) / (patterns.mT @ rest)).sqrt()
            return 1 / (patterns @ gains).clamp(min=EPS)

        return weigh


def _projected(unmixing: Tensor, x: Tensor, weight: Tensor, j: int) -> Tensor:
    """Row j of each matrix anew: ``w = (W V)^-1 e_j``, scaled to ``w^H V w = 1``.

    ``V`` is the mean over frames of ``weight x x^H``.
    """
    covariance = (x * weight[..., None, :]) @ x.mH / x.shape[-1]  # (F, 2, 2)
    trace = torch.diagonal(covariance, dim1=-2, dim2=-1).real.sum(-1)
    loading = (1e-6 * trace + 1e-12)[:, None, None] * torch.eye(2, device=x.device)
    covariance = covariance + loading
    row = inverse(unmixing @ covariance)[..., j]  # (F, 2)
    size = (row.conj()[:, None] @ covariance @ row[..., None]).real[..., 0].sqrt()
    rows = list(unmixing.unbind(1))
    rows[j] = (row / size.clamp(min=1e-12)).conj()
    return torch.stack(rows, 1)
