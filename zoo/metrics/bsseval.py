"""BSS Eval, versions 3 and 4: how much of an estimate is the source, other sources, or neither.

Filters of L taps describe what may happen to a source without its being something else.  Of an
estimate y of the source s, p is what filters of s explain, and q what filters of all references
explain:

====  ========================  =========================
..    images                    sources
====  ========================  =========================
SDR   ``|s|^2 / |y - s|^2``     ``|p|^2 / |y - p|^2``
ISR   ``|s|^2 / |p - s|^2``     none
SIR   ``|p|^2 / |q - p|^2``     the same
SAR   ``|q|^2 / |y - q|^2``     the same
====  ========================  =========================

in dB, energies summed over channels and over a frame and the tail of its filters.  Version 3 fits
the filters to each frame, version 4 to the whole song.

What it costs: one pass over the song.  Energies of a frame are quadratic forms of its correlations
at lags below L, which are kept until the filters of the song are known (or computed again where
they would fill the memory); no signal is ever filtered, and the inverse of the song's one Gram
matrix serves all estimates and systems.  Differences of filters are formed before squaring.

References:
    E. Vincent, R. Gribonval, C. Fevotte, "Performance measurement in blind audio source
    separation", IEEE TASLP 14(4), 2006.
    E. Vincent et al., "First stereo audio source separation evaluation campaign", ICA 2007.
    F.-R. Stoeter, A. Liutkus, N. Ito, "The 2018 signal separation evaluation campaign", LVA/ICA
    2018: version 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.errors import ShapeError, SilenceError, ZooError, check_choice
from zoo.metrics.correlation import Correlations, Correlator, basis
from zoo.metrics.frames import energy, is_finite, n_frames, sounds
from zoo.metrics.projection import Filters, project
from zoo.metrics.rules import ILL_CONDITIONED

__all__ = ["N_TAPS", "Scores", "bss_eval", "evaluate"]

N_TAPS = 512
_KEPT_BYTES = 192 << 20  # of correlations, for each system: six minutes of four stereo sources

Array = NDArray[np.float64]
Family = Literal["images", "sources"]
Reader = Callable[[int, int], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Scores:
    """Figures of each source in each frame, ``(J, N)`` float64, in dB.

    NaN stands where a frame has no score; +inf where there is no error at all.

    Attributes:
        SDR: source against everything else.
        ISR: of the image: source against its spatial or filtering distortion.
        SIR: against other sources.
        SAR: against artefacts.
        rcond: smallest reciprocal condition number of the systems that were solved.
    """

    SDR: Array
    ISR: Array
    SIR: Array
    SAR: Array
    rcond: float = 1.0

    @property
    def is_ill_conditioned(self) -> bool:
        """Whether rounding may decide ISR, SIR and SAR; references of 16 bits mend it mostly."""
        return self.rcond < ILL_CONDITIONED

    @property
    def n_valid(self) -> list[int]:
        """Frames in which each source has an SDR."""
        return [int(n) for n in np.isfinite(self.SDR).sum(1)]


def bss_eval(
    references: Any,
    estimates: Any,
    rate: int = 44100,
    *,
    window: float | None = 1.0,
    hop: float | None = None,
    filters: Literal["song", "frame"] = "song",
    family: Family = "images",
    silence: Literal["museval", "references"] = "museval",
    n_taps: int = N_TAPS,
) -> Scores:
    """SDR, ISR, SIR and SAR of the estimates of one song; by default as museval's version 4.

    Args:
        references: ``(J, C, T)``, array or tensor; ``(J, T)`` is taken as mono.
        estimates: of the same shape.  On an NVIDIA GPU all is computed there, in float64.
        rate: in Hz, of both.
        window: length of a frame in seconds; None: all of the song.
        hop: seconds from one frame to the next; by default the window.  A last incomplete frame is
            left out.
        filters: fitted to the ``song`` (version 4) or to each ``frame`` (version 3).
        family: ``images``, as campaigns of music do, or ``sources``.
        silence: with ``museval``, a frame has no score for any source if one reference or estimate
            is silent in it (its channels sum to zero at every sample); with ``references``, a
            source has none where its own reference is silent.
        n_taps: L.

    Raises:
        ShapeError: the two differ in shape, or hold no sample or a value that is no number.
        ZooError: an unknown word, or a rate, window, hop or n_taps that is no positive number.
        SilenceError: with ``museval``, a reference or an estimate that is silent throughout.

    >>> references = np.random.default_rng(0).standard_normal((2, 1, 16000))
    >>> scores = bss_eval(references, references + 0.1 * references[::-1], rate=8000)
    >>> scores.SDR.round().tolist()
    [[20.0, 20.0], [20.0, 20.0]]
    """
    check_choice("silence", silence, ("museval", "references"))
    check_choice("filters", filters, ("song", "frame"))
    check_choice("family", family, get_args(Family))
    for name, value in {"rate": rate, "window": window, "hop": hop, "n_taps": n_taps}.items():
        _check_number(name, value)
    true, found = _signals(references, "references"), _signals(estimates, "estimates")
    if true.shape != found.shape:
        raise ShapeError(
            f"references are {tuple(true.shape)} and estimates {tuple(found.shape)}; "
            "both are to be (sources, channels, samples)."
        )
    if max(true.shape[:2]) > max(64, true.shape[2]):
        raise ShapeError(
            f"signals of shape {tuple(true.shape)} would have {true.shape[0]} sources of "
            f"{true.shape[1]} channels; they are to be (sources, channels, samples): move the axis "
            "of samples to the end."
        )
    if not true.numel():
        raise ShapeError(f"signals of shape {tuple(true.shape)} hold nothing to compare.")
    for name, signal in (("references", true), ("estimates", found)):
        if not is_finite(signal):
            raise ShapeError(f"the {name} hold NaN or infinity; export them again.")
    if silence == "museval":
        for name, signal in (("reference", true), ("estimate", found)):
            silent = next((j for j, source in enumerate(signal) if not sounds(source)), None)
            if silent is not None:
                raise SilenceError(
                    f"{name} {silent} is silent throughout, and BSS Eval defines no score then; "
                    "leave the source out, or pass silence='references'."
                )
    true = true.to(found.device)

    def read(start: int, stop: int) -> tuple[Tensor, Tensor]:
        return true[..., start:stop], found[None, ..., start:stop]

    n_samples = true.shape[-1]
    length = n_samples if window is None else round(window * rate)
    step = length if hop is None else round(hop * rate)
    return evaluate(
        read, n_samples, length, step, filters=filters, family=family, silence=silence,
        n_taps=n_taps,
    )[0][0]  # fmt: skip


def evaluate(
    read: Reader,
    n_samples: int,
    window: int,
    hop: int,
    *,
    groupings: Sequence[Tensor] | None = None,
    filters: Literal["song", "frame"] = "song",
    family: Family = "images",
    silence: Literal["museval", "references"] = "museval",
    n_taps: int = N_TAPS,
) -> list[list[Scores]]:
    """Scores of several systems on one song, under several groupings of its sources, in one pass.

    Args:
        read: gives samples start to stop of the references ``(J, C, n)`` and of the estimates of
            all systems ``(S, J, C, n)``; asked for in order, and from the beginning once more where
            the correlations of all frames would take too much memory.
        n_samples: length T of the song.
        window: in samples.
        hop: in samples.
        groupings: matrices ``(G, J)`` of zeros and ones, float64; row g is the sum of sources that
            is scored as source g, against the same sum of estimates.  By default the sources
            themselves.
        filters: as `bss_eval` has it.
        family: as `bss_eval` has it.
        silence: as `bss_eval` has it.
        n_taps: as `bss_eval` has it.

    Returns:
        A list per grouping with `Scores` per system.
    """
    if min(window, hop, n_taps) < 1:
        raise ZooError(f"window {window}, hop {hop}, taps {n_taps}: each is to be 1 or more.")
    frames = _Frames(read, n_samples, min(window, n_samples), hop, n_taps, groupings)
    if filters == "song":
        total = frames.total()
        forms = [Forms.of(project(total.grouped(groups))) for groups in frames.groupings]
    energies: list[list[_Energies]] = [[] for _ in frames.groupings]
    for correlations, signals in frames:
        for i, groups in enumerate(frames.groupings):
            mine = correlations.grouped(groups)
            form = forms[i] if filters == "song" else Forms.of(project(mine))
            energies[i].append(form.energies(mine, signals[i]))
    return [_scores(found, family, silence) for found in energies]


# ----------------------------------------------------------------- one pass over the song


@dataclass(frozen=True)
class _Signals:
    """What is measured on the samples of a frame themselves.

    Attributes:
        source: ``|s|^2``, ``(G,)``.
        estimate: ``|y|^2``, ``(S, G)``.
        error: ``|y - s|^2``, ``(S, G)``.
        sounds: whether the channels of references and estimates sum to anything, ``(1 + S, G)``.

    Lists, not tensors: what stays of each frame shall not lie among the large ones that go.
    """

    source: list[float]
    estimate: list[list[float]]
    error: list[list[float]]
    sounds: list[list[bool]]

    @classmethod
    def of(cls, signals: Tensor) -> _Signals:
        """Those of references and estimates ``(1 + S, G, C, T)``."""
        power, error = energy(signals), energy(signals[1:] - signals[0])
        heard = [[sounds(source) for source in one] for one in signals]
        return cls(power[0].tolist(), power[1:].tolist(), error.tolist(), heard)


_Frame = tuple[Correlations, list[_Signals]]


class _Frames:
    """The frames of a song, each with its correlations; as many as fit are kept once computed."""

    def __init__(
        self,
        read: Reader,
        n_samples: int,
        window: int,
        hop: int,
        n_lags: int,
        groupings: Sequence[Tensor] | None,
    ) -> None:
        self.read, self.n_samples, self.window, self.hop = read, n_samples, window, hop
        self.n_lags = n_lags
        self.n_frames = n_frames(n_samples, window, hop)
        references, _ = read(0, 1)
        identity = torch.eye(len(references), dtype=torch.float64, device=references.device)
        self.groupings = [g.to(identity) for g in groupings] if groupings else [identity]
        self._correlate = Correlator(n_lags)
        self._kept: list[list[_Signals]] = []
        self._store: Correlations | None = None  # those of the frames kept, one after the other

    def __iter__(self) -> Iterator[_Frame]:
        for k, measured in enumerate(self._kept):
            assert self._store is not None
            yield Correlations(self._store.own[k], self._store.cross[k]), measured
        for k in range(len(self._kept), self.n_frames):
            yield self._frame(self._signals(k * self.hop, k * self.hop + self.window))

    def total(self) -> Correlations:
        """The correlations of the whole song: those of stretches of one hop, with what follows."""
        total: Correlations | None = None
        for start in range(0, self.n_samples, self.hop):
            n = min(self.hop, self.n_samples - start)
            signals = self._signals(start, start + n + self.n_lags - 1)
            if n == self.window and start // self.hop < self.n_frames:
                # A frame ends as if nothing followed; what does is added for the song alone.
                frame = self._frame(signals[..., :n])
                self._keep(frame)
                piece = frame[0]
                if signals.shape[-1] > n:
                    piece = piece + self._edge(signals, n)
            else:
                piece = self._correlate(signals[0, ..., :n], signals)
            total = piece if total is None else total + piece
        assert total is not None
        return total

    def _edge(self, signals: Tensor, n: int) -> Correlations:
        """What the last samples of a frame of n have to do with those that follow it."""
        first = max(0, n - self.n_lags + 1)
        follows = signals[..., first:].clone()
        follows[..., : n - first] = 0
        return self._correlate(signals[0, ..., first:n], follows)

    def _signals(self, start: int, stop: int) -> Tensor:
        """References and estimates ``(1 + S, J, C, n)`` in float64, to the song's end at most."""
        references, estimates = self.read(start, min(stop, self.n_samples))
        shape = (1 + len(estimates), *references.shape)
        signals = self._correlate.space("signals", *shape, like=references, dtype=torch.float64)
        signals[0], signals[1:] = references, estimates
        return signals

    def _frame(self, signals: Tensor) -> _Frame:
        measured = []
        for groups in self.groupings:
            is_each = torch.equal(groups, torch.eye(len(groups)).to(groups))
            grouped = signals if is_each else torch.einsum("gj,sjct->sgct", groups, signals)
            measured.append(_Signals.of(grouped))
        return self._correlate(signals[0], signals), measured

    def _keep(self, frame: _Frame) -> None:
        correlations, measured = frame
        budget = _KEPT_BYTES * correlations.cross.shape[2]  # reading twice separates twice
        n, most = len(self._kept), min(self.n_frames, budget // correlations.nbytes)
        if n >= most:
            return
        # In one piece, with no tensor for each: among those that come and go, small ones that stay
        # would leave the heap full of holes.
        if self._store is None:
            own, cross = correlations.own, correlations.cross
            self._store = Correlations(
                own.new_empty(most, *own.shape), cross.new_empty(most, *cross.shape)
            )
        self._store.own[n], self._store.cross[n] = correlations.own, correlations.cross
        self._kept.append(measured)


# ----------------------------------------------------------------- energies


@dataclass(frozen=True)
class _Energies:
    """Of a frame beside its `_Signals`; each ``(S, G)``."""

    explained: list[list[float]]  # p
    spatial: list[list[float]]  # p - s
    missed: list[list[float]]  # y - p
    interference: list[list[float]]  # q - p
    every: list[list[float]]  # q
    artefacts: list[list[float]]  # y - q
    signals: _Signals
    rcond: float


@dataclass(frozen=True)
class Forms:
    """Filters as the quadratic and linear forms that give energies from a frame's correlations.

    With h the filter of each reference channel, ``|sum_a h_a * a|^2`` is the sum over pairs of
    channels and over lags of their correlation times that of their filters.
    """

    filters: Filters
    every: Tensor
    others: Tensor
    own: Tensor
    spatial: Tensor

    @classmethod
    def of(cls, filters: Filters) -> Forms:
        """The forms of filters."""
        n_sources, n_channels = filters.own.shape[:2]
        itself = basis(n_channels).to(filters.own)
        embedded = torch.zeros_like(filters.every)
        undone = filters.own.clone()
        for j in range(n_sources):
            embedded[j, :, :, :, j] = filters.own[j]
            undone[j, :, 0] -= itself[:, None]
        return cls(
            filters,
            _form(filters.every.flatten(3).flatten(0, 1)[None]),
            _form((filters.every - embedded).flatten(3).flatten(0, 1)[None]),
            _form(filters.own.flatten(3)),
            _form(undone.flatten(3)),
        )

    def energies(self, correlations: Correlations, signals: _Signals) -> _Energies:
        """The energies of one frame."""
        own, cross = correlations.own, correlations.cross
        n_sources, n_channels, n_systems = cross.shape[:3]
        shape = (n_systems, n_sources, n_channels)
        alone = torch.stack([own[j, :, j] for j in range(n_sources)])  # (J, C, C, L)

        def over_all(form: Tensor) -> Tensor:
            return (own.flatten() @ form[0]).reshape(shape).sum(-1)

        def over_own(form: Tensor) -> Tensor:
            found = torch.bmm(alone.flatten(1)[:, None], form)[:, 0]
            return found.reshape(n_sources, n_systems, n_channels).sum(-1).T

        explained = over_own(self.own)
        every = over_all(self.every)
        mine = torch.stack([cross[j, :, :, j] for j in range(n_sources)])  # (J, C, S, C, L)
        with_own = torch.einsum("jcsdl,jclsd->sj", mine, self.filters.own)
        with_all = torch.einsum("icsjdl,iclsjd->sj", cross, self.filters.every)
        estimate = torch.tensor(signals.estimate, dtype=torch.float64).to(own)
        return _Energies(
            explained=explained.tolist(),
            spatial=over_own(self.spatial).tolist(),
            missed=(estimate - 2 * with_own + explained).tolist(),
            interference=over_all(self.others).tolist(),
            every=every.tolist(),
            artefacts=(estimate - 2 * with_all + every).tolist(),
            signals=signals,
            rcond=self.filters.rcond,
        )


def _form(filters: Tensor) -> Tensor:
    """Weights ``(B, M M L, E)`` of one-sided correlations, of filters ``(B, M, L, E)``."""
    n_lags = filters.shape[2]
    spectra = torch.fft.rfft(filters, 2 * n_lags, dim=2)
    form = torch.fft.irfft(spectra[:, :, None] * spectra[:, None].conj(), 2 * n_lags, dim=3)
    form = form[:, :, :, :n_lags].contiguous()
    form[:, :, :, 1:] *= 2  # lags below 0 are those of the mirrored pair
    weights: Tensor = form.flatten(1, 3)
    return weights


# ----------------------------------------------------------------- scores


def _scores(frames: list[_Energies], family: Family, silence: str) -> list[Scores]:
    """The scores of each system from the energies of its frames."""
    source, error, heard = (
        np.stack([getattr(frame.signals, name) for frame in frames], -1)
        for name in ("source", "error", "sounds")
    )
    explained, spatial, missed, interference, every, artefacts = (
        np.stack([getattr(frame, name) for frame in frames], -1)
        for name in ("explained", "spatial", "missed", "interference", "every", "artefacts")
    )
    rcond = min(frame.rcond for frame in frames)
    if family == "images":
        sdr, isr = _decibel(source, error), _decibel(source, spatial)
    else:
        sdr = _decibel(explained, missed)
        isr = np.full_like(sdr, math.nan)
    sir, sar = _decibel(explained, interference), _decibel(every, artefacts)
    scores = []
    for system in range(len(sdr)):
        if silence == "museval":
            valid = (heard[0] & heard[1 + system]).all(0)
        else:
            valid = heard[0]
        figures = [np.where(valid, x[system], math.nan) for x in (sdr, isr, sir, sar)]
        scores.append(Scores(figures[0], figures[1], figures[2], figures[3], rcond))
    return scores


def _decibel(signal: Array, noise: Array) -> Array:
    # Differences of energies may come out a rounding below zero.
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Array = 10 * np.log10(np.maximum(signal, 0) / np.maximum(noise, 0))
    return ratio


def _check_number(name: str, value: Any) -> None:
    is_whole = name == "n_taps"
    kind = Integral if is_whole else Real
    if value is None and name in ("window", "hop"):
        return
    is_number = isinstance(value, kind) and not isinstance(value, bool)
    if not is_number or not 0 < value < math.inf:
        raise ZooError(
            f"{name} is {value!r}; expected {'a whole' if is_whole else 'a finite'} number above 0."
        )


def _signals(signals: Any, name: str) -> Tensor:
    """``(J, C, T)`` float64, as the caller may have it."""
    try:
        if torch.is_tensor(signals):
            tensor = signals.detach()
        elif isinstance(signals, (list, tuple)) and all(map(torch.is_tensor, signals)):
            tensor = torch.stack(list(signals)).detach()
        else:  # torch takes no negative strides
            tensor = torch.as_tensor(np.ascontiguousarray(signals))
        if tensor.layout != torch.strided or tensor.is_meta:
            raise TypeError
    except (TypeError, ValueError, RuntimeError) as error:
        raise ShapeError(
            f"{name} are {type(signals).__name__}; they are to be numbers in an array or a dense "
            "tensor (sources, channels, samples)."
        ) from error
    if tensor.is_complex():
        raise ShapeError(f"{name} are complex; they are to be signals, not spectra.")
    if tensor.ndim == 2:
        tensor = tensor[:, None]
    if tensor.ndim != 3:
        raise ShapeError(
            f"{name} of shape {tuple(tensor.shape)}; they are to be (sources, channels, samples)."
        )
    if tensor.device.type == "mps":  # Apple's GPUs have no float64
        tensor = tensor.cpu()
    return tensor.double()
