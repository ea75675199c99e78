"""NUG: one network gives the spectra of all sources, expectation maximisation their places.

A. A. Nugraha, A. Liutkus, E. Vincent, "Multichannel music separation with deep neural networks",
EUSIPCO 2016, pp. 1748-1752; "Multichannel audio source separation with deep neural networks",
IEEE/ACM TASLP 24(9), 2016, pp. 1652-1664.

In:  mixture ``(B, C, T)``, 44.1 kHz stereo; STFT 2048 / 1024.
Out: estimates ``(B, J, C, T)``.

    =====================================================  ========  ==========
    step                                                   out       parameters
    =====================================================  ========  ==========
    root of the channels' mean power, 5 frames             5 1025
    standardised, principal components                     2050
    two dense layers, ReLU, half dropped in training       2050      8 409 100
    dense, ReLU: magnitudes of all sources                 4 1025    8 409 100
    iterations of `zoo.dsp.em` from R = 1, Wiener filter
    =====================================================  ========  ==========

The four systems that were sent to SiSEC 2016: NUG1 with the simplified update (the default), NUG2
with the weighted one; NUG3 and NUG4 likewise, with a second network that refines the spectra
between the iterations (``refines``).

Losses, with m the magnitude that the network gives and m' the true one, v and v' their squares:
squared error (the default), Itakura-Saito ``v'/v - ln(v'/v) - 1``, Kullback-Leibler
``m' ln(m'/m) - m' + m``, Cauchy ``1.5 ln(v' + v) - 0.5 ln v``, phase-sensitive
``(m - m' cos)^2``, the cosine being that of the angle between source and mixture.

Departures from the paper
    * In chunks, covariances are those of a chunk (``covariance="chunk"``).  For a whole song they
      are found in a first pass, of one iteration.

Inferred or unconfirmed
    * One network, simplified and weighted updates, the second network and no augmentation are
      documented.  Sizes, standardisation and principal components of the input, the start from
      R = 1, the list of losses, He's initialisation, dropout, Adadelta and the number of iterations
      are recalled or ours; so is that the second network sees what the first sees, of the sources.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from zoo.dsp.em import Statistics, Update, filtered, identity_covariances, step
from zoo.dsp.stft import STFT
from zoo.errors import RecipeError, check_choice, check_least, check_share
from zoo.models import TABLE
from zoo.models.blocks import PrincipalComponents, with_neighbours
from zoo.separator import Separator, State, mean_losses

EPS = 1e-10
FLOOR = 1e-5  # of the largest power of an example, for losses with a logarithm
N_BATCHES = 32  # of training examples, for principal components
MOST_FRAMES = 8192

log = logging.getLogger(__name__)

Criterion = Literal["squared", "itakura-saito", "kullback-leibler", "cauchy", "phase-sensitive"]
CRITERIA = ("squared", "itakura-saito", "kullback-leibler", "cauchy", "phase-sensitive")


class NUG(Separator):
    """One network for the spectra of all sources, and a multichannel Wiener filter.

    Args:
        sources: names, in the order of the estimates.
        sample_rate: in Hz.
        channels: of the audio; the network sees their mean power.
        n_fft: STFT window in samples.
        hop: in samples.
        n_neighbours: frames on each side that a frame is seen with.
        n_components: principal components of the input; None: twice as many as bins.
        hidden: widths of the hidden layers; None: two, as wide as the input.
        dropout: share of a hidden layer that is dropped in training.
        criterion: the loss, see the file.
        n_em: iterations of expectation maximisation; 0 leaves covariances at one.
        update: of the covariances: ``"simplified"``, ``"weighted"`` or ``"exact"``.
        refines: a second network gives new spectra after each iteration.
        segment_frames: frames of a training example.
        covariance: ``"chunk"`` or ``"song"``.
    """

    channels: int
    architecture = "nug"
    tiny: ClassVar = TABLE["nug"]["tiny"]

    def __init__(
        self,
        sources: Sequence[str] = ("bass", "drums", "other", "vocals"),
        sample_rate: int = 44100,
        channels: int = 2,
        n_fft: int = 2048,
        hop: int = 1024,
        n_neighbours: int = 2,
        n_components: int | None = None,
        hidden: Sequence[int] | None = None,
        dropout: float = 0.5,
        criterion: Criterion = "squared",
        n_em: int = 1,
        update: Update = "simplified",
        refines: bool = False,
        segment_frames: int = 100,
        covariance: Literal["chunk", "song"] = "chunk",
    ) -> None:
        super().__init__(sources, sample_rate, channels)
        self.save_hyperparameters()
        check_least(
            1, segment_frames=segment_frames, n_components=n_components, hidden=min(hidden or [1])
        )
        check_least(0, n_neighbours=n_neighbours, n_em=n_em)
        check_share(dropout=dropout)
        check_choice("criterion", criterion, CRITERIA)
        check_choice("update", update, ("simplified", "weighted", "exact"))
        check_choice("covariance", covariance, ("chunk", "song"))
        if covariance == "song" and (n_em != 1 or refines):
            raise RecipeError(
                "covariance 'song' finds the covariances in one pass over a song, so it goes with "
                f"n_em 1 and without refines; here n_em is {n_em}, refines {refines}."
            )
        self.stft = STFT(n_fft, hop)
        self.n_neighbours, self.criterion = n_neighbours, criterion
        self.n_em, self.update, self.covariance = n_em, update, covariance
        self.segment_frames = segment_frames
        n_bins = self.stft.n_bins
        n_inputs = min(n_components or 2 * n_bins, (2 * n_neighbours + 1) * n_bins)
        widths = list(hidden) if hidden is not None else [n_inputs] * 2
        n_out = len(self.sources) * n_bins
        middle = n_neighbours * n_bins  # the frame itself, until components are measured
        self.components = PrincipalComponents(
            (2 * n_neighbours + 1) * n_bins, n_inputs, middle, standardises=True
        )
        self.network = layers([n_inputs, *widths, n_out], dropout)
        self.refinement = layers([n_out, *widths, n_out], dropout) if refines else None

    @property
    def segment(self) -> int:
        """Samples of a training example: ``segment_frames`` frames."""
        return (self.segment_frames - 1) * self.stft.hop

    @property
    def surveys(self) -> bool:
        """Whether the covariances come from the whole song."""
        return self.covariance == "song" and self.channels > 1

    @property
    def context(self) -> int | None:
        """Frames that the network sees; None where covariances, or their scale, are a chunk's."""
        if self.n_em and not self.surveys:
            return None
        return self.n_neighbours * self.stft.hop + self.stft.n_fft

    @property
    def grid(self) -> int:
        """Frames of a chunk are frames of the song."""
        return self.stft.hop

    def forward(self, mixture: Tensor, state: State = None) -> Tensor:
        """Estimates ``(B, J, C, T)`` of a mixture ``(B, C, T)``."""
        spectrum = self.stft(mixture)
        powers = self.magnitudes(spectrum).square()
        covariances = identity_covariances(powers, spectrum)
        if self.surveys:
            covariances = state["covariances"] if state else self._found(powers, spectrum)
        else:
            for _ in range(self.n_em):
                statistics, z = step(powers, covariances, spectrum, self.update)
                covariances, scale = statistics.covariances()
                powers = powers * scale[..., None]
                if self.refinement is not None:
                    powers = self.refined(z).square()
        estimates = filtered(powers, covariances, spectrum)
        return self.stft.inverse(estimates, mixture.shape[-1])

    def survey(self, chunks: Iterable[tuple[Tensor, slice]]) -> State:
        """The spatial covariances ``(B, J, F, C, C)`` of each source over the whole song."""
        hop = self.stft.hop
        total: Statistics | None = None
        for mixture, keep in chunks:
            spectrum = self.stft(mixture)
            ends = keep.stop >= mixture.shape[-1]
            frames = slice(-(-keep.start // hop), None if ends else -(-keep.stop // hop))
            powers = self.magnitudes(spectrum).square()[..., frames]
            part = self._statistics(powers, spectrum[..., frames])
            total = part if total is None else total + part
        assert total is not None
        return {"covariances": total.covariances()[0]}

    def _statistics(self, powers: Tensor, spectrum: Tensor) -> Statistics:
        return step(powers, identity_covariances(powers, spectrum), spectrum, self.update)[0]

    def _found(self, powers: Tensor, spectrum: Tensor) -> Tensor:
        return self._statistics(powers, spectrum).covariances()[0]

    def magnitudes(self, spectrum: Tensor) -> Tensor:
        """Magnitudes of the sources, ``(B, J, F, N)``, of a mixture's spectrum ``(B, C, F, N)``."""
        rows = [
            self.network(self.components(features))
            for _, features in with_neighbours(loudness(spectrum), self.n_neighbours)
        ]
        return self._spectra(torch.cat(rows, 1)).to(spectrum.real.dtype)

    def refined(self, powers: Tensor) -> Tensor:
        """New magnitudes ``(B, J, F, N)`` of those that an iteration has found."""
        assert self.refinement is not None
        rows = powers.clamp(min=0).sqrt().permute(0, 3, 1, 2).flatten(2)  # (B, N, J F)
        return self._spectra(self.refinement(rows)).to(powers.dtype)

    def _spectra(self, rows: Tensor) -> Tensor:
        found: Tensor = rows.unflatten(-1, (len(self.sources), -1)).permute(0, 2, 3, 1)
        return found

    def loss(self, mixture: Tensor, references: Tensor, known: Tensor) -> dict[str, Tensor]:
        """The criterion's mean over bins and frames, of each source."""
        spectrum, true = self.stft(mixture), self.stft(references)
        found = self.magnitudes(spectrum)
        errors = self._errors(found, true, spectrum)  # (B, J)
        if self.refinement is not None:
            with torch.no_grad():
                powers = found.square()
                _, z = step(powers, identity_covariances(powers, spectrum), spectrum, self.update)
            errors = errors + self._errors(self.refined(z), true, spectrum)
        return mean_losses(errors, known, self.sources)

    def _errors(self, m: Tensor, true: Tensor, mixture: Tensor) -> Tensor:
        wanted = true.abs().square().mean(2).clamp(min=EPS**2).sqrt()  # (B, J, F, N)
        if self.criterion == "phase-sensitive":
            # Of each channel what lies along the mixture, then their mean.
            along = (true * mixture[:, None].conj()).real / mixture[:, None].abs().clamp(min=EPS)
            wanted = along.mean(2)
        return criterion(self.criterion, m, wanted).mean((2, 3))

    @torch.no_grad()
    def on_fit_start(self) -> None:
        """Find the principal components, unless a checkpoint brought them."""
        if bool(self.components.is_measured):
            return
        data = getattr(self.trainer, "datamodule", None)
        rows, n_rows = [], 0
        for batch in getattr(data, "statistics_batches", lambda n: ())(N_BATCHES):
            mixture = self.stft(batch["references"].sum(1).to(self.device))
            for _, features in with_neighbours(loudness(mixture), self.n_neighbours):
                rows.append(features.flatten(0, 1)[: MOST_FRAMES - n_rows].cpu())
                n_rows += len(rows[-1])
        if n_rows > len(self.components.components):
            self.components.measure(torch.cat(rows))
        else:
            log.warning("too few frames of a zoo.SeparationData to find principal components with.")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adadelta with rate 1, rho 0.95 and eps 1e-6."""
        return torch.optim.Adadelta(self.parameters(), lr=1.0, rho=0.95, eps=1e-6)


def loudness(spectrum: Tensor) -> Tensor:
    """Root of the channels' mean power, ``(B, F, N)``, of ``(B, C, F, N)``."""
    return spectrum.abs().square().mean(1).sqrt()


def layers(widths: Sequence[int], dropout: float) -> nn.Sequential:
    """Dense layers with ReLU, the last one too, and dropout between them; He's initialisation."""
    found: list[nn.Module] = []
    for k, (n_in, n_out) in enumerate(zip(widths, widths[1:], strict=False)):
        dense = nn.Linear(n_in, n_out)
        nn.init.kaiming_normal_(dense.weight, nonlinearity="relu")
        nn.init.zeros_(dense.bias)
        found += [dense, nn.ReLU()]
        if k < len(widths) - 2 and dropout:
            found.append(nn.Dropout(dropout))
    return nn.Sequential(*found)


def criterion(name: Criterion, m: Tensor, wanted: Tensor) -> Tensor:
    """The loss of each magnitude, given and wanted ``(B, J, F, N)``."""
    if name in ("squared", "phase-sensitive"):
        return (m - wanted).square()
    largest = wanted.amax((1, 2, 3), keepdim=True).clamp(min=EPS)
    v = m.square() + FLOOR * largest.square()
    true = wanted.square() + FLOOR * largest.square()
    if name == "itakura-saito":
        return true / v - torch.log(true / v) - 1
    if name == "cauchy":
        return 1.5 * torch.log(true + v) - 0.5 * torch.log(v)
    m, wanted = v.sqrt(), true.sqrt()
    return wanted * torch.log(wanted / m) - wanted + m
