"""Pitch and tempo of a signal, each without the other, by a phase vocoder."""

from __future__ import annotations

import math

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d

from zoo.audio import resample

Signal = NDArray[np.float32]


def shifted(
    signal: Signal, rate: int, n_samples: int, semitones: float = 0.0, keeps_formants: bool = False
) -> Signal:
    """A signal made to last ``n_samples``, and higher by ``semitones``.

    Pitch is a stretch in time that resampling undoes.

    Args:
        signal: ``(C, T)``; tempo is ``T / n_samples``.
        rate: samples per second.
        n_samples: of the result.
        semitones: up, or down where negative.
        keeps_formants: leave the spectral envelope where it is.
    """
    fast = round(rate * 2 ** (semitones / 12))
    n_long = -(-n_samples * fast // rate)
    stretched = _stretched(signal, rate, n_long, fast / rate if keeps_formants else 1.0)
    return resample(stretched, fast, rate)[:, :n_samples]


def _stretched(signal: Signal, rate: int, n_samples: int, warp: float) -> Signal:
    """A phase vocoder: a signal made to last ``n_samples``, at its pitch.

    Frames are taken closer together, or further apart, than they are laid down.  Between two of
    them each bin's phase goes on as it did in the ``hop`` samples before the later one, so nothing
    needs unwrapping.  All channels turn by one angle, that of their mean, so that a source stays
    where it is.  (torchaudio's takes twice the time, and turns channels apart.)

    Args:
        signal: ``(C, T)``.
        rate: samples per second.
        n_samples: of the result.
        warp: factor by which the spectral envelope is compressed, as later resampling undoes.
    """
    n_fft = 1 << math.ceil(math.log2(0.046 * rate))  # 46 to 92 ms: two periods of a low voice
    hop = n_fft // 4
    n_frames = -(-n_samples // hop) + 1
    n_signal = signal.shape[1]
    window = np.hanning(n_fft + 1)[:-1].astype(np.float32)
    at = np.minimum(np.arange(n_frames) * hop * n_signal // n_samples, n_signal)
    padded = np.pad(signal, ((0, 0), (n_fft // 2 + hop, n_fft // 2)))
    mean = padded.mean(0, keepdims=True)
    frames, middle = (np.lib.stride_tricks.sliding_window_view(x, n_fft, 1) for x in (padded, mean))
    spectrum = scipy.fft.rfft(frames[:, at + hop] * window)  # (C, N, F)
    latest = scipy.fft.rfft(middle[0, at + hop] * window) if len(signal) > 1 else spectrum[0]
    before = scipy.fft.rfft(middle[0, at] * window)
    turn = np.zeros(before.shape, np.float32)
    # From where frame k - 1 ended up to where frame k sets in.
    np.cumsum(np.angle(_smeared(latest[:-1] * before[1:].conj())), axis=0, out=turn[1:])
    # An onset is laid down as it is: else its partials would not begin together.
    level = np.abs(latest)
    is_loud = level > 1e-3 * level.max()
    rises = (is_loud & (level > 2 * np.abs(before))).sum(1) > 0.4 * is_loud.sum(1)
    rises[1:] &= ~rises[:-1]
    turn -= turn[np.maximum.accumulate(np.where(rises, np.arange(n_frames), 0))]
    phasor = np.empty_like(before)
    phasor.real, phasor.imag = np.cos(turn), np.sin(turn)
    spectrum *= phasor
    if warp != 1:
        spectrum *= _envelope_change(np.abs(spectrum).mean(0), rate, warp)
    pieces = scipy.fft.irfft(spectrum, n_fft) * window
    total = _overlapped(pieces, hop) / np.maximum(
        _overlapped(np.broadcast_to(window**2, (1, n_frames, n_fft)), hop), np.float32(1e-3)
    )
    return total[:, n_fft // 2 : n_fft // 2 + n_samples].astype(np.float32, copy=False)


def _overlapped(pieces: Signal, hop: int) -> Signal:
    """Sum ``(C, T)`` of pieces ``(C, N, 4 hop)``, each ``hop`` after the one before."""
    channels, n, _ = pieces.shape
    total = np.zeros((channels, n + 3, hop), np.float32)
    for q in range(4):
        total[:, q : q + n] += pieces[..., q * hop : (q + 1) * hop]
    return total.reshape(channels, -1)


def _smeared(spectrum: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Sums over five neighbouring bins, so that those of one partial turn as its peak does.

    Else each goes its own way at an onset, and what comes after it is blurred and softer.
    """
    wide = np.pad(spectrum, ((0, 0), (2, 2)))
    n = spectrum.shape[1]
    total = wide[:, :n].copy()
    for k in range(1, 5):
        total += wide[:, k : k + n]
    return total


def _envelope_change(magnitude: Signal, rate: int, warp: float) -> Signal:
    """``E(f warp) / E(f)`` for frames ``(N, F)``, by which resampling finds E where it was.

    The envelope E runs over the tops of the partials: the largest magnitude within 125 Hz, and of
    its cepstrum what lies below 2 ms.
    """
    n_bins = magnitude.shape[1]
    n_near = round(125 * 2 * (n_bins - 1) / rate)
    # Frames overlap by three quarters: every second one tells enough.
    tops = maximum_filter1d(magnitude[::2], 2 * n_near + 1, axis=1)
    floor = max(1e-4 * float(tops.max(initial=0)), 1e-12)
    q = np.arange(1, round(0.002 * rate) + 1)
    cepstrum = scipy.fft.irfft(np.log(np.maximum(tops, floor)))[:, q]
    here = np.arange(n_bins, dtype=np.float32) * np.float32(math.pi / (n_bins - 1))
    there = np.minimum(here * np.float32(warp), np.float32(math.pi))
    waves = q[:, None].astype(np.float32)
    change = cepstrum @ (2 * (np.cos(waves * there) - np.cos(waves * here)))
    ratio = np.exp(np.clip(change, -4, 4))  # within 35 dB
    return np.repeat(ratio, 2, axis=0)[: len(magnitude)]
