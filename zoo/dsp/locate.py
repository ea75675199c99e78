"""Where the objects of a stereo mixture are: their pans and delays.

An object at pan ``phi`` (0 left only, 45 degrees centre, 90 right only) whose right channel comes
``tau`` samples late puts ``a s`` into a bin of frequency w, with ``a = (cos phi, sin phi
exp(-i w tau))``.  Bins in which one object plays alone lie close to their ``a``; they are found by
the rank of the local covariance, and candidate places are picked one after the other, each time the
one that explains most of what no earlier one does.  Peaks of a histogram would merge weak objects
into strong neighbours and let one object's bins vote for several places.

`Zones` gathers such bins from a song of any length, in constant memory and whatever pieces it
comes in; `cover` picks.  This way of locating is ours; what the papers do instead is in the files
of their systems.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

WIDTH = 0.003  # of the kernels, as a share of a bin's energy
N_FRAMES = 5  # that a local covariance is the mean of
BLOCK = 256  # frames whose bins compete for being kept
BEFORE = 8  # frames that an onset rises out of
SHARE, SHARE_DELAYS = 0.05, 0.02  # of them that are kept
MOST, MOST_DELAYS = 30_000, 12_000  # bins of a song; beyond, every second one is dropped
LOWEST = 2  # bin that counts
APART = (5.0, 1.5)  # degrees and samples: closer places are one
LEAST = 0.03  # share of the weight that an object covers; of less, it may be none
EPS = 1e-20


def frequencies(n_bins: int, like: Tensor) -> Tensor:
    """Of the bins, in radians per sample, in the type and place of a real tensor: ``(F,)``."""
    return torch.arange(n_bins, device=like.device, dtype=like.dtype) * (math.pi / (n_bins - 1))


def steering(pan: Tensor, delay: Tensor, n_bins: int) -> Tensor:
    """What places put into the channels, unit vectors ``(..., 2, F)``.

    Args:
        pan: ``(...)``, in degrees.
        delay: ``(...)``, of the right channel, in samples.
        n_bins: F.
    """
    angle = torch.deg2rad(pan)[..., None]
    turn = -delay[..., None] * frequencies(n_bins, pan)
    left, right = angle.cos().expand_as(turn), angle.sin()
    return torch.stack(
        [torch.complex(left, torch.zeros_like(turn)), torch.polar(right.expand_as(turn), turn)], -2
    )


def along(steered: Tensor, spectrum: Tensor) -> Tensor:
    """``a^H x``: spectra ``(2, F, N)`` seen from places ``(J, 2, F)``, as ``(J, F, N)``."""
    left, right = steered.conj()[..., None].unbind(-3)
    return left * spectrum[0] + right * spectrum[1]


# ----------------------------------------------------------------- bins of a song


@dataclass
class Bins:
    """Single bins of a song, n of them.

    Attributes:
        weight: ``(n,)``.
        share: ``(n,)``, the left channel's of the energy.
        cross: ``(n,)``, ``|mean x1* x2|`` as a share of the energy.
        phase: ``(n,)``, of ``mean x1* x2``.
        frequency: ``(n,)``, in radians per sample.
        slack: ``(n,)``, the share of the energy that is not the strongest object's.
    """

    weight: Tensor
    share: Tensor
    cross: Tensor
    phase: Tensor
    frequency: Tensor
    slack: Tensor

    def closeness(self, pan: Tensor, delay: Tensor) -> Tensor:
        """How well places explain the bins, 0 to 1: pans ``(P,)`` and delays ``(D,)``.

        Returns:
            ``(P, D, n)``.
        """
        angle = torch.deg2rad(pan)[:, None, None]
        aligned = self.cross * torch.cos(self.phase + delay[:, None] * self.frequency)  # (D, n)
        found = angle.sin().square() + self.share * (2 * angle).cos() + (2 * angle).sin() * aligned
        return torch.exp(-(1 - found - self.slack).clamp(min=0) / WIDTH)


class Zones:
    """The bins of a song in which one object plays alone, gathered piece by piece.

    Args:
        n_bins: F.
        with_delays: whiten the frequencies, since delays are read from all of them.
        onsets: only bins that rise out of what came before, which rooms have not yet blurred.
    """

    def __init__(self, n_bins: int, with_delays: bool = False, onsets: bool = False) -> None:
        self.n_bins, self.with_delays, self.onsets = n_bins, with_delays, onsets
        self._before = N_FRAMES // 2 + (BEFORE if onsets else 0)
        self._waiting: Tensor | None = None  # fields (4, F, n) of frames that are not judged yet
        self._kept: list[Tensor] = []
        self._stride, self._n_seen = 1, 0

    def push(self, spectrum: Tensor) -> None:
        """The next frames, ``(2, F, n)``."""
        left, right = spectrum
        cross = left.conj() * right
        fields = torch.stack(
            [left.abs().square(), right.abs().square(), cross.real, cross.imag]
        )  # (4, F, n)
        if self._waiting is None:
            self._waiting = F.pad(fields, (self._before, 0))
        else:
            self._waiting = torch.cat([self._waiting, fields], -1)
        length = self._before + BLOCK + N_FRAMES // 2
        while self._waiting.shape[-1] >= length + BLOCK // 2:
            self._judge(self._waiting[..., :length])
            self._waiting = self._waiting[..., BLOCK:]

    def finish(self) -> Bins:
        """All that was kept."""
        assert self._waiting is not None, "a song has at least one frame"
        self._judge(F.pad(self._waiting, (0, N_FRAMES // 2)))
        return Bins(*torch.cat(self._kept, -1))

    def _judge(self, fields: Tensor) -> None:
        """Keep the best bins of a block of frames, whose neighbours are at its ends."""
        smooth = F.avg_pool1d(fields, N_FRAMES, 1)
        if self.onsets:
            rises = _rises(smooth[0] + smooth[1])
            smooth = smooth[..., BEFORE:]
        left, right, real, imaginary = smooth
        energy = left + right
        cross = torch.hypot(real, imaginary)
        spread = torch.hypot(left - right, 2 * cross)
        # The covariance's second eigenvalue over its first: 0 where one object plays alone.
        rank = (energy - spread).clamp(min=0) / (energy + spread + EPS)
        weight = energy.sqrt() * torch.exp(-rank / WIDTH)
        if self.onsets:
            weight = weight * rises
        if self.with_delays:
            weight = weight / (weight.mean(-1, keepdim=True).sqrt() + EPS)
        weight[:LOWEST] = 0
        share = SHARE_DELAYS if self.with_delays else SHARE
        n_kept = max(1, round(share * weight.numel()))
        # In the order of the song, so that thinning spreads over it.
        index = weight.T.flatten().topk(n_kept).indices.sort().values
        if self.with_delays or self.onsets:
            index = index[weight.T.flatten()[index] > 0]
        rows = index % self.n_bins
        total = energy.T.flatten()[index] + EPS
        bins = torch.stack([
            weight.T.flatten()[index],
            left.T.flatten()[index] / total,
            cross.T.flatten()[index] / total,
            torch.atan2(imaginary, real).T.flatten()[index],
            frequencies(self.n_bins, weight)[rows],
            (rank / (1 + rank)).T.flatten()[index],
        ])  # fmt: skip
        first = -self._n_seen % self._stride
        self._n_seen += bins.shape[1]
        self._kept.append(bins[:, first :: self._stride])
        most = MOST_DELAYS if self.with_delays else MOST
        if sum(part.shape[1] for part in self._kept) > 2 * most:
            self._kept = [torch.cat(self._kept, -1)[:, ::2]]
            self._stride *= 2


def _rises(energy: Tensor) -> Tensor:
    """Whether bins ``(F, BEFORE + n)`` double the most of the frames before, ``(F, n)``."""
    return energy[:, BEFORE:] > 2 * F.max_pool1d(energy, BEFORE, 1)[:, :-1]


# ----------------------------------------------------------------- places


@dataclass(frozen=True)
class Places:
    """Objects, from left to right and then by delay.

    Attributes:
        pan: ``(J,)``, in degrees.
        delay: ``(J,)``, of the right channel, in samples.
        confidence: ``(J,)``, share of the song's single-object bins that each explains.
    """

    pan: Tensor
    delay: Tensor
    confidence: Tensor

    def __len__(self) -> int:
        return len(self.pan)

    def sorted(self) -> Places:
        """From left to right, equal pans by delay."""
        order = sorted(range(len(self)), key=lambda j: (float(self.pan[j]), float(self.delay[j])))
        return Places(self.pan[order], self.delay[order], self.confidence[order])


def cover(bins: Bins, n_objects: int | None, max_delay: float = 0, most: int = 8) -> Places:
    """The places that explain most of the bins, picked one after the other.

    Args:
        bins: of the whole song.
        n_objects: how many; None: as many as explain a share of `LEAST` of the song each.
        max_delay: in samples, of either channel; 0 for level differences alone.
        most: of them, where their number is not given.
    """
    device = bins.weight.device
    reach = math.ceil(max_delay)
    pans = torch.linspace(0, 90, 46 if reach else 91, device=device)
    delays = torch.linspace(-max_delay, max_delay, 2 * reach + 1, device=device)
    is_free = torch.ones(len(pans), len(delays), dtype=torch.bool, device=device)
    total, weight = bins.weight.sum() + EPS, bins.weight
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    while len(found) < (n_objects or most):
        score = torch.cat([bins.closeness(pans, d[None]) @ weight for d in delays], 1)  # (P, D)
        best = int(torch.where(is_free, score, -1).argmax())
        p, d = divmod(best, len(delays))
        pan, delay = _refined(bins, weight, pans, delays, p, d)
        close = bins.closeness(pan[None], delay[None])[0, 0]
        covered = (close @ weight) / total
        if bool(is_free.any()) and any(_are_one(pan - x, delay - y) for x, y, _ in found):
            # A slope of what was found: what it explains is no object's.
            weight = weight * (1 - close)
            is_free &= ~_are_one((pans - pans[p])[:, None], delays - delays[d])
            continue
        if n_objects is None and found and covered < LEAST:
            break
        found.append((pan, delay, covered))
        weight = weight * (1 - close)
        is_free &= ~_are_one((pans - pan)[:, None], delays - delay)
    return Places(*(torch.stack(x) for x in zip(*found, strict=True))).sorted()


def _are_one(pan: Tensor, delay: Tensor) -> Tensor:
    """Whether places that differ by so much are one."""
    return (pan.abs() < APART[0]) & (delay.abs() < APART[1])


def _refined(
    bins: Bins, weight: Tensor, pans: Tensor, delays: Tensor, p: int, d: int
) -> tuple[Tensor, Tensor]:
    """The best place around a point of the grid, on one that is eight times as fine."""
    steps = torch.linspace(-1, 1, 17, device=weight.device)
    fine = (pans[p] + steps * (pans[1] - pans[0])).clamp(0, 90)
    late = delays[d : d + 1]
    if len(delays) > 1:
        late = late + steps * (delays[1] - delays[0])
    score = torch.cat([bins.closeness(fine, x[None]) @ weight for x in late], 1)
    i, k = divmod(int(score.argmax()), len(late))
    return fine[i], late[k]
