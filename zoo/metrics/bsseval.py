"""BSS Eval version 3 for sources: SDR, SIR and SAR of a clip with 512-tap distortion filters.

Of each estimate, what a filter of the true source can explain is target, what filters of all true
sources can explain beyond that is interference, and the rest is artefacts.

Reference: E. Vincent, R. Gribonval, C. Fevotte, "Performance measurement in blind audio source
separation", IEEE TASLP 14(4), 2006.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.linalg import cho_factor, cho_solve

N_TAPS = 512

Array = NDArray[np.float64]


def bss_eval_sources(
    references: Array,
    estimates: Array,
    owners: Sequence[int] | None = None,
    n_taps: int = N_TAPS,
) -> tuple[Array, Array, Array]:
    """SDR, SIR and SAR in dB, each ``(E,)``.

    Args:
        references: mono signals ``(J, T)``, none of them all zero.
        estimates: ``(E, T)``; of several systems, if you like: they share the work.
        owners: the reference of each estimate; by default estimate j belongs to reference j.
        n_taps: length L of the filters.

    Notes:
        Both projections are orthogonal, so energies follow from the correlations alone:
        ``|p|^2 = g . d`` for a filter g that solves ``G g = d``.
    """
    n_sources, n_samples = references.shape
    length = next_fast_len(n_samples + n_taps - 1, real=True)
    spectra = rfft(references.astype(np.float64), length)
    # r[a, b, k]: sum over t of reference a at t times signal b at t + k.
    lags = np.arange(n_taps)
    auto = irfft(spectra[:, None].conj() * spectra[None], length)
    cross = irfft(
        spectra[:, None].conj() * rfft(estimates.astype(np.float64), length)[None], length
    )
    offset = lags[:, None] - lags[None]  # Gram[(a, k), (b, l)] = r_ab[k - l]
    gram = auto[:, :, offset].transpose(0, 2, 1, 3).reshape(n_sources * n_taps, -1)
    right = cross[:, :, :n_taps].transpose(0, 2, 1).reshape(n_sources * n_taps, -1)
    ridge = np.finfo(np.float64).eps * np.trace(gram) / len(gram) * np.eye(len(gram))
    explained = np.sum(right * cho_solve(cho_factor(gram + ridge), right), axis=0)
    energy = np.sum(np.square(estimates, dtype=np.float64), axis=1)
    owner = np.arange(n_sources) if owners is None else np.asarray(owners)
    target = np.empty(len(estimates))
    for j in range(n_sources):
        own, mine = slice(j * n_taps, (j + 1) * n_taps), owner == j
        projected = cho_solve(cho_factor(gram[own, own] + ridge[own, own]), right[own, mine])
        target[mine] = np.sum(right[own, mine] * projected, axis=0)
    return (
        _decibel(target, energy - target),
        _decibel(target, explained - target),
        _decibel(explained, energy - explained),
    )


def _decibel(signal: Array, noise: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Array = 10 * np.log10(np.maximum(signal, 0) / np.maximum(noise, 0))
    return ratio
