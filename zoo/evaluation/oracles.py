"""Oracles: masks and filters that know the sources; and the mixture, which does nothing.

========  ==========================================================================
irm1      ideal ratio mask: ``|S_j| / sum |S_i|``
irm2      the same of powers: ``|S_j|^2 / sum |S_i|^2``
ibm       ideal binary mask: 1 where ``|S_j| >= |X| / 2``, else 0
mwf       multichannel Wiener filter, with the power of each source in each bin of the
          STFT and its spatial covariance over the song
mixture   an equal share of the mixture, so that the estimates sum to it
========  ==========================================================================

As in SiSEC 2018: STFT of 2048 samples, hop 1024, a mask for each channel.  A song is masked in
chunks, which gives what the whole would give; the covariances take a pass before.

Departures:
    * That campaign's masks add the machine epsilon to denominators; here 0 / 0 is 0.
    * The Wiener filter adds 1e-8 of its model to the diagonal, in place of a constant.

Reference: Stoeter, Liutkus, Ito, "The 2018 signal separation evaluation campaign", LVA/ICA 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from zoo.data.songs import TrackSignal
from zoo.data.track import Track
from zoo.dsp.stft import STFT
from zoo.dsp.wiener import wiener
from zoo.streaming import Chunk, ChunkPlan, cut, join

N_FFT, HOP = 2048, 1024
_PLAN = ChunkPlan(hop=256 * HOP, context=N_FFT)
_TINY = 1e-30

Mask = Callable[[Tensor, Tensor], Tensor]


def mixture(track: Track, sources: Sequence[str]) -> Iterator[Tensor]:
    """The share that each source has if all have the same, ``(J, C, n)``."""
    n = len(sources if _is_all(track, sources) else track.sources)
    for block in TrackSignal(track).blocks():
        yield block.expand(len(sources), -1, -1) / n


def irm(track: Track, sources: Sequence[str], power: int) -> Iterator[Tensor]:
    """Estimates by ideal ratio masks, ``(J, C, n)``."""
    return _masked(track, sources, partial(_ratio_mask, power=power))


def ibm(track: Track, sources: Sequence[str]) -> Iterator[Tensor]:
    """Estimates by ideal binary masks, ``(J, C, n)``."""
    return _masked(track, sources, lambda s, x: (2 * s.abs() >= x.abs()).double())


def mwf(track: Track, sources: Sequence[str]) -> Iterator[Tensor]:
    """Estimates by the multichannel Wiener filter, ``(J, C, n)``."""
    covariances = _covariances(track, sources)  # (J, F, C, C)
    n_channels = covariances.shape[-1]
    # What a covariance says of a bin's power, trace(R^-1 S S^H) / C, is its maximum likelihood.
    eye = torch.eye(n_channels, dtype=covariances.dtype)
    trace = covariances.diagonal(dim1=-2, dim2=-1).real.mean(-1)[..., None, None]
    inverse = torch.linalg.inv(covariances + (1e-6 * trace + _TINY) * eye)

    def estimates(spectra: Tensor, mixture: Tensor) -> Tensor:
        power = torch.einsum("jcfn,jfcd,jdfn->jfn", spectra.conj(), inverse, spectra).real
        magnitudes = (power.clamp(min=0) / n_channels).sqrt()[None, :, None]
        return wiener(magnitudes, mixture[None], covariances=covariances[None])[0]

    return _filtered(track, sources, estimates)


ORACLES: dict[str, Callable[[Track, Sequence[str]], Iterator[Tensor]]] = {
    "irm1": partial(irm, power=1),
    "irm2": partial(irm, power=2),
    "ibm": ibm,
    "mwf": mwf,
    "mixture": mixture,
}


def _ratio_mask(spectra: Tensor, mixture: Tensor, power: int) -> Tensor:
    strength = spectra.abs() ** power
    return strength / strength.sum(0).clamp(min=_TINY)


def _masked(track: Track, sources: Sequence[str], mask: Mask) -> Iterator[Tensor]:
    return _filtered(track, sources, lambda s, x: mask(s, x) * x)


def _filtered(track: Track, sources: Sequence[str], estimates: Mask) -> Iterator[Tensor]:
    """Estimates from the spectra of sources ``(J, C, F, N)`` and of the mixture ``(C, F, N)``."""
    stft = STFT(N_FFT, HOP)

    def pieces() -> Iterator[tuple[Chunk, Tensor]]:
        for chunk in cut(_blocks(track, sources), _PLAN):
            spectra = stft(chunk.mixture.double())
            found = stft.inverse(estimates(spectra[1:], spectra[0]), chunk.mixture.shape[-1])
            yield chunk, found[: len(sources)]

    return join(pieces(), _PLAN)


def _covariances(track: Track, sources: Sequence[str]) -> Tensor:
    """Spatial covariances ``(J, F, C, C)``: the mean over frames of those of unit power."""
    stft, total, n_frames = STFT(N_FFT, HOP), torch.zeros(()), 0
    for chunk in cut(_blocks(track, sources), _PLAN):
        first = chunk.keep.start // HOP
        frames = slice(first, None if chunk.last else first + _PLAN.hop // HOP)
        spectra = stft(chunk.mixture[1:].double())[..., frames]
        power = spectra.abs().square().mean(1, keepdim=True)
        unit = spectra / (power.sqrt() + _TINY)
        total = total + torch.einsum("jcfn,jdfn->jfcd", unit, unit.conj())
        n_frames += spectra.shape[-1]
    return total / n_frames


def _blocks(track: Track, sources: Sequence[str]) -> Iterator[Tensor]:
    """Mixture, sources and, where these are not all, the rest: ``(1 + J, C, n)``."""
    is_all, start = _is_all(track, sources), 0
    for mixture in TrackSignal(track).blocks():
        n = mixture.shape[-1]
        known = [torch.from_numpy(track.read(source, start, n)) for source in sources]
        rest = [] if is_all else [mixture - torch.stack(known).sum(0)]
        yield torch.stack([mixture, *known, *rest])
        start += n


def _is_all(track: Track, sources: Sequence[str]) -> bool:
    return set(sources) >= set(track.sources) or set(sources) == {"vocals", "accompaniment"}
