"""DeepNMF: iterations of non-negative matrix factorisation as layers of a network.

Multiplicative updates find how much of each basis spectrum is in a frame.  Their last ones, and
the reconstruction, get bases of their own, which are trained to separate; a back-propagation that
carries gradients as two non-negative parts keeps them non-negative.

J. Le Roux, J. R. Hershey, F. Weninger, "Deep NMF for speech separation", ICASSP 2015, pp. 66-70.

In:  mixture ``(B, C, T)``, 44.1 kHz; every frame of every channel is a column of its own.
Out: estimates ``(B, J, C, T)``.   Inside: ``(F, N)`` with N columns, bases ``(F, R)``.

    ==================  ===========================================================
    step                what it does
    ==================  ===========================================================
    H                   ones ``(R, N)``
    layer 1 .. K        ``H <- H (W' (M / W H)) / (W' 1 + mu)``
    reconstruction      ``S_j = M  (U_j H_j) / (U H)``, where j names bases of source j
    ==================  ===========================================================

The W of the first K - C layers are one, learned beforehand by sparse factorisation of each source
alone, with columns of norm one.  Each target has a network: the W of the last C layers and U.
1 230 000 trained parameters per target for C = 2, four sources of 100 bases and 1025 bins.

Loss: squared error of the target's magnitudes.  Update of the two parts P - Q of a gradient:
``W <- W (Q / P) ** eta``, then columns get norm one again.

Departures from the paper
    * It was proposed for speech.  What the row of this name in tables of music separation used is
      not known; sizes here are a choice, K = 25 and mu = 5 are recalled from the speech system.
    * A multichannel Wiener filter joins the targets, as in the other rows of those tables.
    * eta is 0.5, for steps on batches (1 is recalled of the paper).
    * ``parametrisation="softplus"``: bases are the softplus of free parameters, for any optimiser.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from zoo.dsp.stft import STFT
from zoo.errors import RecipeError, check_choice, check_least
from zoo.models import TABLE
from zoo.models.targets import TargetNetworks

FLOOR = 1e-12
N_BATCHES = 32  # of training examples, to learn the first bases from
MOST_FRAMES = 4000  # of each source
N_ITERATIONS = 100  # of the factorisation

log = logging.getLogger(__name__)


class DeepNMF(TargetNetworks):
    """Unfolded factorisation, with trained bases for each target.

    Args:
        sources, sample_rate, channels, targets: see `zoo.models.targets.TargetNetworks`.
        n_fft: STFT window in samples.
        hop: in samples.
        n_bases: of each source.
        n_layers: K.
        n_untied: C, the last layers with trained bases.
        sparsity: mu, the weight of the sum of H.
        parametrisation: ``"multiplicative"``, trained by `NonNegative`, or ``"softplus"``.
        segment_frames: frames of a training example.
        wiener_iterations, wiener_reg, covariance: see `zoo.models.targets.TargetNetworks`.
    """

    architecture = "deepnmf"
    tiny: ClassVar = TABLE["deepnmf"]["tiny"]
    tied: Tensor
    is_measured: Tensor

    def __init__(
        self,
        sources: Sequence[str] = ("bass", "drums", "other", "vocals"),
        sample_rate: int = 44100,
        channels: int = 2,
        targets: Sequence[str] | None = None,
        n_fft: int = 2048,
        hop: int = 1024,
        n_bases: int = 100,
        n_layers: int = 25,
        n_untied: int = 2,
        sparsity: float = 5.0,
        parametrisation: Literal["multiplicative", "softplus"] = "multiplicative",
        segment_frames: int = 64,
        wiener_iterations: int = 1,
        wiener_reg: Literal["relative", "norbert", "pinv"] = "relative",
        covariance: Literal["chunk", "song"] = "chunk",
    ) -> None:
        super().__init__(
            sources, sample_rate, channels, targets, STFT(n_fft, hop),
            wiener_iterations, wiener_reg, covariance,
        )  # fmt: skip
        self.save_hyperparameters()
        check_least(1, n_bases=n_bases, n_layers=n_layers, segment_frames=segment_frames)
        check_least(0, sparsity=sparsity)
        check_choice("parametrisation", parametrisation, ("multiplicative", "softplus"))
        if not 0 <= n_untied <= n_layers:
            raise RecipeError(f"n_untied is {n_untied}; of {n_layers} layers it can be 0 to all.")
        self.n_tied, self.sparsity = n_layers - n_untied, sparsity
        self.segment_frames, self.is_softplus = segment_frames, parametrisation == "softplus"
        self.groups = [slice(j * n_bases, (j + 1) * n_bases) for j in range(len(self.sources))]
        bases = normalised(torch.rand(self.stft.n_bins, n_bases * len(self.sources)) + 0.1)
        self.register_buffer("tied", bases)
        self.register_buffer("is_measured", torch.zeros((), dtype=torch.bool))
        for target in self.targets:
            self.networks[target] = Bases(bases, n_untied, self.is_softplus)

    @property
    def segment(self) -> int:
        """Samples of a training example: ``segment_frames`` frames."""
        return (self.segment_frames - 1) * self.stft.hop

    @property
    def context_frames(self) -> int:
        """Frames are independent of each other."""
        return 0

    def magnitudes(self, spectrum: Tensor) -> Tensor:
        """Magnitudes of the targets, ``(B, J, C, F, N)``, of a spectrum ``(B, C, F, N)``."""
        mixture = columns_of(spectrum.abs())
        start = self._after_tied(mixture)
        found = []
        for target, bases in zip(self.targets, self._networks, strict=True):
            untied, final = bases.weights()
            group = self.groups[self.sources.index(target)]
            found.append(separated(mixture, start, untied, final, group, self.sparsity))
        # (J, F, B C N)
        shape = (*spectrum.shape[:2], spectrum.shape[-1])
        stacked: Tensor = torch.stack(found).unflatten(-1, shape).permute(2, 0, 3, 1, 4)
        return stacked

    def loss(self, mixture: Tensor, references: Tensor, known: Tensor) -> dict[str, Tensor]:
        """Mean squared error of each target's magnitudes."""
        magnitudes = self.stft(mixture).abs()
        heard = known[:, None, :, None].expand(-1, self.channels, -1, magnitudes.shape[-1])
        all_columns = columns_of(magnitudes)
        parts: dict[str, Tensor] = {}
        for target, bases in zip(self.targets, self._networks, strict=True):
            j = self.sources.index(target)
            # (F, B C N), the columns in which the target is known
            chosen = heard[:, :, j].flatten()
            m = all_columns[:, chosen]
            true = columns_of(self.stft(references[:, j]).abs())[:, chosen]
            if not m.shape[1]:
                # Processes of a run have to find a gradient, zero, at every parameter.
                parts[target] = 0.0 * torch.stack([w.sum() for w in bases.parameters()]).sum()
                continue
            start = self._after_tied(m)
            untied, final = bases.weights()
            group, scale = self.groups[j], 2 / m.numel()
            if self.is_softplus or not torch.is_grad_enabled():
                found = separated(m, start, untied, final, group, self.sparsity)
                parts[target] = (found - true).square().sum() / m.numel()
            else:
                parameters = [*bases.untied, bases.final]
                value = NonNegativeLoss.apply(  # type: ignore[no-untyped-call]
                    m, true, start, group, self.sparsity, parameters, *parameters
                )
                parts[target] = value * scale
        return {"loss": torch.stack(list(parts.values())).mean(), **parts}

    def _after_tied(self, mixture: Tensor) -> Tensor:
        """H after the layers that are not trained."""
        h = mixture.new_ones(self.tied.shape[1], mixture.shape[1])
        with torch.no_grad():
            for _ in range(self.n_tied):
                h = updated(h, mixture, self.tied.to(mixture.dtype), self.sparsity)
        return h

    @property
    def _networks(self) -> list[Bases]:
        return list(self.networks.values())  # type: ignore[arg-type]

    @torch.no_grad()
    def on_fit_start(self) -> None:
        """Learn the bases of each source alone, unless a checkpoint brought them."""
        data = getattr(self.trainer, "datamodule", None)
        if bool(self.is_measured):
            return
        batches = getattr(data, "statistics_batches", None)
        if batches is None:
            log.warning("no zoo.SeparationData to learn the first bases from: they are random.")
            return
        frames: list[list[Tensor]] = [[] for _ in self.sources]
        for batch in batches(N_BATCHES):
            for j, kept in enumerate(frames):
                references = batch["references"][batch["known"][:, j], j].to(self.device)
                if not len(references):
                    continue
                columns = columns_of(self.stft(references).abs())
                loud = columns.norm(dim=0) > 1e-2 * columns.norm(dim=0).max().clamp(min=FLOOR)
                kept.append(columns[:, loud])
        for group, kept in zip(self.groups, frames, strict=True):
            if any(columns.shape[1] for columns in kept):
                some = torch.cat(kept, 1)[:, :MOST_FRAMES]
                self.tied[:, group] = factorised(some, self.tied[:, group], self.sparsity)
        for bases in self._networks:
            bases.begin(self.tied)
        self.is_measured.fill_(True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """`NonNegative`, or Adam at 1e-3 for free parameters."""
        if self.is_softplus:
            return torch.optim.Adam(self.parameters(), lr=1e-3)
        return NonNegative(self.parameters())


class Bases(nn.Module):
    """The trained bases of a target: those of the last layers, and of the reconstruction."""

    def __init__(self, bases: Tensor, n_untied: int, is_softplus: bool) -> None:
        super().__init__()
        self.is_softplus = is_softplus
        self.untied = nn.ParameterList(torch.empty_like(bases) for _ in range(n_untied))
        self.final = nn.Parameter(torch.empty_like(bases))
        self.begin(bases)

    @torch.no_grad()
    def begin(self, bases: Tensor) -> None:
        """Start from these bases."""
        for parameter in self.parameters():
            # Below it, softplus is all but its argument's exponential.
            free = torch.log(torch.expm1(bases.clamp(min=1e-6)))
            parameter.copy_(free if self.is_softplus else bases)

    def weights(self) -> tuple[list[Tensor], Tensor]:
        """Bases ``(F, R)`` of each layer, and of the reconstruction, none below zero."""
        if self.is_softplus:
            return [normalised(F.softplus(w)) for w in self.untied], F.softplus(self.final)
        return [w.clamp(min=FLOOR) for w in self.untied], self.final.clamp(min=FLOOR)


# ----------------------------------------------------------------- the network on columns


def columns_of(magnitudes: Tensor) -> Tensor:
    """``(B, C, F, N)`` -> ``(F, B C N)``."""
    return magnitudes.permute(2, 0, 1, 3).flatten(1)


def normalised(bases: Tensor) -> Tensor:
    """Columns of norm one."""
    found: Tensor = bases / bases.norm(dim=0, keepdim=True).clamp(min=FLOOR)
    return found


def updated(h: Tensor, m: Tensor, w: Tensor, mu: float) -> Tensor:
    """One multiplicative update of H ``(R, N)`` for M ``(F, N)``."""
    return h * (w.T @ (m / (w @ h).clamp(min=FLOOR))) / (w.sum(0)[:, None] + mu)


def separated(
    m: Tensor, h: Tensor, untied: Iterable[Tensor], final: Tensor, group: slice, mu: float
) -> Tensor:
    """Magnitudes ``(F, N)`` of the source with the bases ``group``, given H before the layers."""
    for w in untied:
        h = updated(h, m, w, mu)
    return m * (final[:, group] @ h[group]) / (final @ h).clamp(min=FLOOR)


def factorised(s: Tensor, w: Tensor, mu: float, n_iterations: int = N_ITERATIONS) -> Tensor:
    """Bases of one source, by sparse factorisation of its magnitudes ``(F, N)``.

    The updates take into account that columns have norm one, without which the sum of H would
    mean nothing.

    Reference: Le Roux, Weninger, Hershey, "Sparse NMF - half-baked or well done?", MERL TR2015-023.
    """
    w = normalised(w)
    h = torch.ones(w.shape[1], s.shape[1]).to(s) * s.mean()
    for _ in range(n_iterations):
        h = updated(h, s, w, mu)
        toward = (s / (w @ h).clamp(min=FLOOR)) @ h.T
        away = h.sum(1).expand_as(w)
        up = toward + w * (away * w).sum(0)
        down = away + w * (toward * w).sum(0)
        w = normalised((w * up / down.clamp(min=FLOOR)).clamp(min=FLOOR))
    return w


# ----------------------------------------------------------------- training


class NonNegativeLoss(torch.autograd.Function):
    """``|S_target - true|^2 / 2``, whose gradient comes in two non-negative parts.

    They are added to ``parts`` of the parameters, where `NonNegative` finds them; the difference is
    the gradient as any optimiser knows it.
    """

    @staticmethod
    def forward(
        ctx: Any, m: Tensor, true: Tensor, h: Tensor, group: slice, mu: float,
        parameters: list[nn.Parameter], *weights: Tensor,
    ) -> Tensor:  # fmt: skip
        """The loss of columns ``m`` and ``true`` ``(F, N)``, H given before the trained layers."""
        *untied, final = (w.clamp(min=FLOOR) for w in weights)
        kept = [h]
        for w in untied:
            kept.append(updated(kept[-1], m, w, mu))
        ctx.group, ctx.mu, ctx.parameters, ctx.n_untied = group, mu, parameters, len(untied)
        ctx.save_for_backward(m, true, final, *untied, *kept)
        found = m * (final[:, group] @ kept[-1][group]) / (final @ kept[-1]).clamp(min=FLOOR)
        return 0.5 * (found - true).square().sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        """The two parts, layer by layer from the last."""
        m, true, final, *rest = ctx.saved_tensors
        untied, kept = rest[: ctx.n_untied], rest[ctx.n_untied :]
        pairs, below = _final_parts(m, true, final, kept[-1], ctx.group)
        found = [pairs]
        for w, h in zip(reversed(untied), reversed(kept[:-1]), strict=True):
            pairs, below = _layer_parts(m, w, h, below, ctx.mu)
            found.append(pairs)
        for parameter, (plus, minus) in zip(ctx.parameters, reversed(found), strict=True):
            before = getattr(parameter, "parts", None) or (0.0, 0.0)
            parameter.parts = (before[0] + plus * gradient, before[1] + minus * gradient)
        signed = [(plus - minus) * gradient for plus, minus in reversed(found)]
        return None, None, None, None, None, None, *signed


Pair = tuple[Tensor, Tensor]


def _final_parts(m: Tensor, true: Tensor, u: Tensor, h: Tensor, group: slice) -> tuple[Pair, Pair]:
    """Parts of the gradient at the reconstruction's bases and at H."""
    mine = torch.zeros(u.shape[1], 1).to(u)
    mine[group] = 1
    total = (u @ h).clamp(min=FLOOR)
    target = u[:, group] @ h[group]
    others = (total - target).clamp(min=0)
    found = m * target / total
    share = m / total.square()
    # At the target's part of the reconstruction, and at that of the others.
    plus, minus = found * share * others, true * share * others
    other_plus, other_minus = true * share * target, found * share * target
    toward_u = (
        plus @ (h * mine).T + other_plus @ (h * (1 - mine)).T,
        minus @ (h * mine).T + other_minus @ (h * (1 - mine)).T,
    )
    toward_h = (
        mine * (u.T @ plus) + (1 - mine) * (u.T @ other_plus),
        mine * (u.T @ minus) + (1 - mine) * (u.T @ other_minus),
    )
    return toward_u, toward_h


def _layer_parts(m: Tensor, w: Tensor, h: Tensor, above: Pair, mu: float) -> tuple[Pair, Pair]:
    """Parts of the gradient at a layer's bases and at the H that it is given."""
    v = (w @ h).clamp(min=FLOOR)
    n, d = w.T @ (m / v), w.sum(0)[:, None] + mu
    a, b = h / d, h * n / d.square()
    plus, minus = above
    inner_plus, inner_minus = w @ (plus * a), w @ (minus * a)
    v_plus, v_minus = m / v.square() * inner_minus, m / v.square() * inner_plus
    ratio = m / v

    def at_bases(own: Tensor, other: Tensor, at_v: Tensor) -> Tensor:
        return ratio @ (own * a).T + (other * b).sum(1) + at_v @ h.T

    toward_w = (at_bases(plus, minus, v_plus), at_bases(minus, plus, v_minus))
    toward_h = (plus * n / d + w.T @ v_plus, minus * n / d + w.T @ v_minus)
    return toward_w, toward_h


class NonNegative(torch.optim.Optimizer):
    """Multiplies parameters by the ratio of the two parts of their gradient, to the power eta.

    It reads the parts that `NonNegativeLoss` leaves at each parameter, of all processes of a run;
    parameters without are left alone.  Columns of a matrix have norm one afterwards.

    Args:
        params: non-negative matrices.
        lr: eta, above 0 and at most 1.
    """

    def __init__(self, params: Iterable[Any], lr: float = 0.5) -> None:
        if not 0 < lr <= 1:
            raise RecipeError(f"lr is {lr}; the exponent of a ratio is to be above 0, at most 1.")
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of all parameters."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                parts = _parts_everywhere(parameter)
                if parts is None:
                    continue
                ratio = parts[1].clamp(min=FLOOR) / parts[0].clamp(min=FLOOR)
                parameter.mul_(ratio ** group["lr"]).clamp_(min=FLOOR)
                parameter.copy_(normalised(parameter))
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget gradients and their parts."""
        super().zero_grad(set_to_none)
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.parts = None


def _parts_everywhere(parameter: Tensor) -> Pair | None:
    """The parts of a parameter's gradient, summed over the processes of a run."""
    parts: Pair | None = getattr(parameter, "parts", None)
    if not (distributed.is_available() and distributed.is_initialized()):
        return parts
    # A process in whose examples the source is unknown has none, and must take part.
    total = torch.stack(parts or (torch.zeros_like(parameter), torch.zeros_like(parameter)))
    distributed.all_reduce(total)
    return (total[0], total[1]) if bool(total.any()) else None
