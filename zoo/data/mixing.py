"""The mixing desk of virtual songs: parts in, stems out, and the mixture is exactly their sum.

Each part has its filters, drive, compressor and place; each stem its share of one room.  What is
sent to the room comes back in the stem that sent it, as in MUSDB18.  Stems are balanced by how
loud they are where they sound.  The limiter's gain is computed on the sum and applied to all
stems alike, and samples are rounded to multiples of 2^-22, so that float32 sums of stems that
peak at 1 or less are exact in any order.

Ranges are defaults chosen by ear.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter, oaconvolve, sosfilt

from zoo.data.composer import STEMS, SongConfig
from zoo.dsp.biquads import high_pass, peak, shelf

Signal = NDArray[np.float32]

# Level of a stem where it sounds, in dB beside the vocals.
_BALANCE_DB = {"vocals": (0, 0), "drums": (-3, 3), "bass": (-6, 2), "other": (-6, 3)}
_DRIVEN = ("bass", "guitar", "clavinet", "lead")
_CENTRED = ("bass", "voice", "lead", "kit")
_GRID = np.float32(2.0**22)
_FAINT = np.float32(1e-18)
_CEILING = 0.97
_BLOCK = 64  # samples between two points of a gain curve


def mix(
    parts: Sequence[tuple[str, str, Signal]],
    config: SongConfig,
    rng: np.random.Generator,
    noise: np.random.Generator,
) -> dict[str, Signal]:
    """The four stems of a song.

    Args:
        parts: (stem, instrument, signal); signals ``(1, T)`` or ``(C, T)``.
        config: channels, rate, loudness, and whether there are effects at all.
        rng: draws the settings of the desk.
        noise: draws the noise floor, which half of the songs have.

    Returns:
        Stem -> ``(C, T)`` float32, for each of `STEMS`; a stem without parts is zeros.  The sum
        and each stem peak at 1 or less.
    """
    shape = (config.channels, config.samples)
    stems = {stem: np.zeros(shape, np.float32) for stem in STEMS}
    sends = {stem: np.zeros(config.samples, np.float32) for stem in STEMS}
    for stem, instrument, signal in parts:
        if config.mixes:
            signal = _strip(signal, stem, instrument, config.sample_rate, rng)
        placed = _place(signal, stem, instrument, config, rng)
        gain = _db(rng.uniform(-3, 3)) / max(_active_rms(placed), 1e-6)
        placed *= np.float32(gain)
        stems[stem] += placed
        wet = 10 ** rng.uniform(-1.6, -0.5) * (0.3 if stem == "bass" else 1.0)
        if config.mixes:
            sends[stem] += np.float32(wet) * placed.mean(axis=0)
    if config.mixes:
        _add_room(stems, sends, config, rng)
    _balance(stems, rng)
    stems = _master(stems, config, rng)
    _add_noise_floor(stems, config, rng, noise)
    return _seal(stems)


# One part


def _strip(
    signal: Signal, stem: str, instrument: str, rate: int, rng: np.random.Generator
) -> Signal:
    """Drive, then filters, which take off the constant that drive adds, then a compressor."""
    low = 25.0 if stem in ("bass", "drums") else rng.uniform(60, 140)
    gains = rng.uniform(-6, 6, 3)
    centre = 10 ** rng.uniform(np.log10(400), np.log10(3000))
    sections = [
        high_pass(low, rate),
        shelf(150.0, gains[0], rate, is_high=False),
        peak(centre, gains[1], rate),
        shelf(5000.0, gains[2], rate, is_high=True),
    ]
    drive_db, squeezes = rng.uniform(0, 12), rng.random() < 0.6
    ratio, attack, release = rng.uniform(2, 6), rng.uniform(0.005, 0.03), rng.uniform(0.06, 0.3)
    if not signal.any():
        return signal
    if any(word in instrument for word in _DRIVEN):
        signal = _drive(signal, drive_db + (12 if "driven" in instrument else 0))
    # In silence the filters would run down to denormal numbers, which take thirty times as long.
    signal = signal + _FAINT
    signal = sosfilt(np.asarray(sections, np.float32), signal).astype(np.float32, copy=False)
    if squeezes:
        signal = signal * _compressor_gain(signal, ratio, attack, release, rate)
    return signal


def _drive(signal: Signal, drive_db: float) -> Signal:
    """Soft clipping, at a level that does not depend on the signal's."""
    gain = np.float32(_db(drive_db - 9) / max(_active_rms(signal), 1e-6))
    driven: Signal = np.tanh(signal * gain)
    return driven


def _compressor_gain(
    signal: Signal, ratio: float, attack_s: float, release_s: float, rate: int
) -> Signal:
    """Gain curve ``(T,)`` from the level in blocks, 4 dB above which it turns down.

    The threshold is relative to the part's own level: parts come at any.
    """
    block = 4 * _BLOCK
    level = 20 * np.log10(np.maximum(_block_rms(signal, block), 1e-6))
    threshold = 20 * math.log10(max(_active_rms(signal), 1e-6)) - 2
    wanted = np.maximum(level - threshold, 0) * (1 - 1 / ratio)
    fall = math.exp(-block / rate / attack_s)
    rise = math.exp(-block / rate / release_s)
    state, curve = 0.0, []
    for value in wanted.tolist():
        keep = fall if value > state else rise
        state = value + keep * (state - value)
        curve.append(state)
    return _stretch(10 ** (np.asarray(curve) / -20), block, signal.shape[1])


def _place(
    signal: Signal, stem: str, instrument: str, config: SongConfig, rng: np.random.Generator
) -> Signal:
    """Constant-power pan; one part in five is widened by a short delay on one side.

    Drums have their places already.
    """
    near = any(word in instrument for word in _CENTRED)
    pan = rng.uniform(-0.12, 0.12) if near else rng.uniform(-0.9, 0.9)
    widens, delay_s = rng.random() < 0.2, rng.uniform(0.005, 0.020)
    if config.channels == 1 or (stem == "drums" and len(signal) == 2):
        return signal.copy()
    angle = (1 + pan) * math.pi / 4
    placed = np.empty((2, signal.shape[1]), np.float32)
    np.multiply(signal[0], np.float32(math.sqrt(2) * math.cos(angle)), out=placed[0])
    np.multiply(signal[-1], np.float32(math.sqrt(2) * math.sin(angle)), out=placed[1])
    if widens and not near:
        late = min(int(delay_s * config.sample_rate), signal.shape[1])
        placed[1, late:] = placed[1, : placed.shape[1] - late].copy()
        placed[1, :late] = 0
    return placed


# All stems


def _add_room(
    stems: dict[str, Signal],
    sends: Mapping[str, Signal],
    config: SongConfig,
    rng: np.random.Generator,
) -> None:
    """One room for the song, and an echo for the vocals of one song in four."""
    room = _room(config, rng)
    echoes, echo_s, feedback = rng.random() < 0.25, rng.uniform(0.18, 0.45), rng.uniform(0.2, 0.45)
    for stem, send in sends.items():
        if not send.any():
            continue
        if echoes and stem == "vocals":
            send = _echo(send, int(echo_s * config.sample_rate), feedback)
            stems[stem] += np.float32(0.5) * send
        wet = oaconvolve(send[None], room, axes=-1)[:, : config.samples]
        stems[stem] += wet.astype(np.float32, copy=False)


def _room(config: SongConfig, rng: np.random.Generator) -> Signal:
    """Impulse response ``(C, n)``: a pause, then noise that decays and darkens; energy 1."""
    rt60_s = 0.2 * (2.5 / 0.2) ** rng.random()
    pause = int(rng.uniform(0, 0.04) * config.sample_rate)
    cutoff = rng.uniform(2500, 7000)
    # Cut at -40 dB: what follows is below the dry signal's own tail.
    n = max(int(rt60_s * 2 / 3 * config.sample_rate), 16)
    noise = rng.standard_normal((config.channels, n), dtype=np.float32)
    keep = np.float32(math.exp(-2 * math.pi * min(cutoff / config.sample_rate, 0.4)))
    noise = lfilter([1 - keep], [1, -keep], noise).astype(np.float32)
    noise *= np.exp(np.linspace(0, -math.log(1000) * 2 / 3, n, dtype=np.float32))
    noise[:, -n // 8 :] *= np.linspace(1, 0, len(noise[0, -n // 8 :]), dtype=np.float32)
    noise /= np.sqrt(np.sum(noise * noise, axis=1, keepdims=True))
    return np.pad(noise, ((0, 0), (pause, 0)))


def _echo(send: Signal, delay: int, feedback: float) -> Signal:
    out = send.copy()
    for repeat in (1, 2, 3):
        if repeat * delay < len(send):
            out[repeat * delay :] += np.float32(feedback**repeat) * send[: -repeat * delay]
    return out


def _balance(stems: dict[str, Signal], rng: np.random.Generator) -> None:
    for stem, (low, high) in _BALANCE_DB.items():
        wanted = _db(rng.uniform(low, high))
        level = _active_rms(stems[stem])
        if level > 0:
            stems[stem] *= np.float32(0.1 * wanted / level)


def _add_noise_floor(
    stems: dict[str, Signal],
    config: SongConfig,
    rng: np.random.Generator,
    noise: np.random.Generator,
) -> None:
    """Noise on every stem of half of the songs, adding up to -80 to -70 dB of full scale.

    Digital silence between notes is a cue that recordings do not give.
    """
    has_floor, floor_db = rng.random() < 0.5, rng.uniform(-80, -70)
    if not has_floor:
        return
    # A loop of six seconds, entered elsewhere by each channel: nobody hears it come round.
    loop = noise.standard_normal(min(6 * config.sample_rate, config.samples), dtype=np.float32)
    for signal in stems.values():
        for channel in signal:
            start = int(noise.integers(len(loop)))
            channel += np.float32(_db(floor_db - 6)) * np.resize(
                np.roll(loop, -start), len(channel)
            )


def _master(
    stems: dict[str, Signal], config: SongConfig, rng: np.random.Generator
) -> dict[str, Signal]:
    """Brings the sum to its loudness and all peaks under 1, with one gain curve for all stems."""
    wanted = _db(rng.uniform(*config.loudness_db))
    total = _total(stems)
    rms = float(np.sqrt(np.mean(np.square(total), dtype=np.float64)))
    if rms == 0:
        return stems
    peaks = _block_peaks([total, *stems.values()])
    # Six dB of limiting are enough: drums alone would otherwise be squashed to noise.
    gain = min(wanted / rms, 2.0 / float(peaks.max()))
    curve = _limiter_gain(peaks * gain, config.samples)
    curve *= np.float32(gain)
    return {stem: signal * curve for stem, signal in stems.items()}


def _seal(stems: dict[str, Signal]) -> dict[str, Signal]:
    """Makes sure of the peaks, and rounds so that sums are exact."""
    peak = max(float(np.abs(s).max()) for s in (_total(stems), *stems.values()))
    trim = np.float32(0.995 / peak if peak > 0.995 else 1.0)
    for signal in stems.values():
        signal *= trim * _GRID
        np.rint(signal, out=signal)
        signal /= _GRID
    return stems


def _limiter_gain(peaks: NDArray[np.float32], samples: int) -> Signal:
    """Gain ``(T,)`` that keeps blocks under the ceiling and moves over 16 blocks at a time."""
    reach = 8
    if float(peaks.max()) <= _CEILING:
        return np.ones(samples, np.float32)
    gains = np.minimum(1, _CEILING / np.maximum(peaks, 1e-9))
    padded = np.pad(gains, 2 * reach, mode="edge")
    lowest = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).min(axis=1)
    window = np.hanning(2 * reach + 1)
    smooth = np.convolve(lowest, window / window.sum(), mode="valid")
    return _stretch(smooth, _BLOCK, samples)


# Measures


def _total(stems: Mapping[str, Signal]) -> Signal:
    first, *rest = stems.values()
    total = first.copy()
    for signal in rest:
        total += signal
    return total


def _block_rms(signal: Signal, block: int) -> NDArray[np.float32]:
    """RMS over all channels in consecutive blocks; the last may be padded."""
    power = np.zeros(-(-signal.shape[1] // block), np.float32)
    for channel in signal:
        blocks = _blocks(channel, block)
        power += np.einsum("nt,nt->n", blocks, blocks)
    return np.sqrt(power / np.float32(block * len(signal)))


def _block_peaks(signals: Sequence[Signal]) -> NDArray[np.float32]:
    n = -(-signals[0].shape[1] // _BLOCK)
    peaks = np.zeros(n, np.float32)
    for signal in signals:
        for channel in signal:
            blocks = _blocks(channel, _BLOCK)
            np.maximum(peaks, blocks.max(axis=1), out=peaks)
            np.maximum(peaks, -blocks.min(axis=1), out=peaks)
    return peaks


def _blocks(channel: Signal, block: int) -> Signal:
    missing = -len(channel) % block
    return (np.pad(channel, (0, missing)) if missing else channel).reshape(-1, block)


def _active_rms(signal: Signal) -> float:
    """RMS over the blocks within 30 dB of the loudest; 0 for silence."""
    levels = _block_rms(signal, 16 * _BLOCK)
    loudest = float(levels.max(initial=0))
    if loudest == 0:
        return 0.0
    return float(np.sqrt(np.mean(np.square(levels[levels > 0.0316 * loudest]))))


def _stretch(curve: NDArray[np.float64], block: int, samples: int) -> Signal:
    """A curve given at the middle of each block, at every sample."""
    at = np.arange(samples, dtype=np.float64)
    middles = (np.arange(len(curve)) + 0.5) * block
    return np.interp(at, middles, curve).astype(np.float32)


def _db(decibels: float) -> float:
    return float(10 ** (decibels / 20))
