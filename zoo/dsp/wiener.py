"""The multichannel Wiener filter: estimates that share one mixture, sharpened by where sources lie.

Each source j is modelled in every bin as Gaussian with power v_j(f,n) and spatial covariance R_j(f)
(C x C, one for the whole length). One iteration of the simplified-weighted scheme is

    v_j(f,n) = mean over channels of |y_j|^2
    R_j(f)   = sum_n y_j y_j^H / (sum_n v_j + floor)
    M(f,n)   = sum_j v_j R_j + regulariser
    y_j      = v_j R_j M^-1 x

with x the mixture and y_j the estimates, which then sum to x up to the regulariser. Axes: B batch,
J sources, C channels, F bins, N frames.

`plain_wiener` is these equations as they stand, with memory for everything at once; `wiener` gives
the same, a few bins at a time and in real arithmetic. For a song too long for memory, sum the
`spatial_statistics` of the `initial_estimates` of its parts, take `spatial_covariances` of the
sums, and hand them to `wiener` with each part.

Departures:
    * Not exact EM: R_j leaves out the posterior covariance (I - v_j R_j M^-1) v_j R_j, as the
      public package norbert does.
    * The default regulariser is relative to M, so quiet passages of a loud song keep their energy
      and the result scales with the input; norbert adds a constant.
    * ``"pinv"`` (the filter of Sony's public d3net): its threshold is relative to M here and
      absolute there; the floor of v_j is that of the initial estimates, and stays out of R_j.

Reference:
    Nugraha, Liutkus, Vincent, "Multichannel music separation with deep neural networks",
    EUSIPCO 2016; the public package norbert, whose rule is ``reg="norbert"``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from zoo.errors import ShapeError

Init = Literal["phase", "mask"]
Regulariser = Literal["relative", "norbert", "pinv"]

# Keeps 0 / 0 finite; far below any power that a signal has, and a normal number in float32.
TINY = 1e-30
# Working memory of one block of bins. Measured on a CPU with F = 1025, N = 300, J = 4: under 10 MiB
# the calls cost more than the arithmetic. An accelerator wants few, large kernels.
CPU_BLOCK_BYTES = 32 * 2**20
ACCELERATOR_BLOCK_BYTES = 512 * 2**20


def wiener(
    magnitudes: Tensor,
    mixture: Tensor,
    *,
    iterations: int = 1,
    init: Init = "phase",
    reg: Regulariser = "relative",
    residual: bool = False,
    covariances: Tensor | None = None,
    delta: float | None = None,
    eps: float | None = None,
    g_always: bool = False,
    block: int | None = None,
) -> Tensor:
    """Estimates of all sources in all channels, from their magnitudes and the mixture.

    Args:
        magnitudes: ``(B, J, C, F, N)`` or ``(B, J, 1, F, N)``, >= 0; magnitudes, not powers. Any
            real dtype (half precision saves memory): each block is converted to the mixture's.
        mixture: complex ``(B, C, F, N)``; never written to.
        iterations: 0 gives the initial estimates, which need not sum to the mixture.
        init: see `initial_estimates`.
        reg: ``"relative"`` adds ``delta * tr(M) / C`` to the diagonal of M, so the result scales
            with the input. ``"norbert"`` reproduces that package: a constant ``sqrt(eps)`` after
            division by ``g = max(1, max|x| / 10)`` (of each batch item), so bins far below the peak
            fade. ``"pinv"`` adds nothing to M, but 1e-10 of its maximum to each v_j, and takes a
            pseudo-inverse where M is singular.
        residual: adds the source ``mixture - sum of the initial estimates``, returned last.
        covariances: complex ``(B, J, F, C, C)`` (J + 1 with ``residual``), as gathered over a whole
            song. They hold in every iteration, which then updates v_j alone, so with ``"relative"``
            a part of a song gives exactly what it gives within the whole. The other rules look at
            the loudest bin of what they are given; for ``"norbert"``, divide song and magnitudes by
            the song's g beforehand.
        delta: relative regulariser; by default 1e-8 in complex128 and 1e-4 in complex64, where less
            drowns in rounding when all sources lie on one pan. With ``"pinv"``: M counts as
            singular where the determinant of M / (tr M / C) is below it; 1e-10 and 1e-6.
        eps: of ``"norbert"``; by default the machine epsilon.
        g_always: ``"norbert"`` with ``g = max|x| / 10`` even below one.
        block: bins at a time; by default bounded by working memory.

    Returns:
        ``(B, J, C, F, N)``, with ``residual`` ``(B, J + 1, C, F, N)``, of the mixture's dtype.

    Raises:
        ShapeError: the shapes do not fit together.
        TypeError: the mixture is not complex.

    Notes:
        A silent source stays exactly 0, a silent bin gives 0. NaN in magnitudes spoil, through R_j,
        all frames of their bin in that batch item; they are not hidden, for a network that gives
        them is broken.

        Differentiable in magnitudes and mixture. The gradient holds an R_j estimated here constant
        (as if it came in ``covariances``), else it explodes in bins that are nearly dead. While
        gradients are recorded, memory is not bounded.

        Bins are independent, so blocks change nothing; blocks over frames would.
    """
    _check(magnitudes, mixture, residual, covariances)
    if iterations < 0:
        raise ValueError(f"iterations is {iterations}; 0 or more are expected")
    n_sources = magnitudes.shape[1] + residual
    if iterations == 0 or mixture.numel() == 0 or n_sources == 0:
        mask_eps = _mask_eps(reg, eps, mixture)
        return initial_estimates(magnitudes, mixture, init=init, residual=residual, eps=mask_eps)
    block = block or _bins_at_a_time(mixture, n_sources)
    # Autocast would run the small matrix products in half precision.
    with torch.autocast(mixture.device.type, enabled=False):
        rule = _rule(reg, magnitudes, mixture, init, residual, delta, eps, g_always, block)
        blocks = (
            _filter_bins(v, x, r, iterations, init, residual, rule)
            for v, x, r in _blocks(magnitudes, mixture, covariances, block)
        )
        if _records_gradient(magnitudes, mixture, covariances):
            y = torch.cat(list(blocks), dim=3)
            return torch.complex(y[..., 0, :], y[..., 1, :])
        estimates = mixture.new_empty((len(mixture), n_sources, *mixture.shape[1:]))
        parts = torch.view_as_real(estimates)
        for start, y in zip(range(0, mixture.shape[2], block), blocks, strict=True):
            for part in (0, 1):
                parts[:, :, :, start : start + block, :, part] = y[..., part, :]
        return estimates


def plain_wiener(
    magnitudes: Tensor,
    mixture: Tensor,
    *,
    iterations: int = 1,
    init: Init = "phase",
    reg: Regulariser = "relative",
    residual: bool = False,
    covariances: Tensor | None = None,
    delta: float | None = None,
    eps: float | None = None,
    g_always: bool = False,
) -> Tensor:
    """`wiener` without blocks, closed forms or real arithmetic: the equations to compare with."""
    _check(magnitudes, mixture, residual, covariances)
    block = mixture.shape[2]
    rule = _rule(reg, magnitudes, mixture, init, residual, delta, eps, g_always, block)
    estimates = initial_estimates(
        magnitudes, mixture, init=init, residual=residual, eps=rule.mask_eps
    )
    for _ in range(iterations):
        estimates = _iterate(estimates, mixture, covariances, rule)
    return estimates


def refine(
    estimates: Tensor,
    mixture: Tensor,
    covariances: Tensor | None = None,
    *,
    delta: float | None = None,
) -> Tensor:
    """One iteration (``"relative"``) from any estimates: ``(B, J, C, F, N)`` -> the same.

    With the ``covariances`` of a whole song, iteration after iteration can be made part by part.
    The equations are evaluated as they stand, so give it a few bins or frames at a time.
    """
    _check(estimates.real, mixture, False, covariances)
    rule = _Rule(False, _default(delta, mixture, 1e-8, 1e-4))
    return _iterate(estimates, mixture, covariances, rule)


def initial_estimates(
    magnitudes: Tensor,
    mixture: Tensor,
    *,
    init: Init = "phase",
    residual: bool = False,
    eps: float = TINY,
) -> Tensor:
    """Estimates before any iteration: ``(B, J or J + 1, C, F, N)``.

    ``"phase"`` gives the magnitudes the mixture's phase (0 where the mixture is 0), so the sum is
    not the mixture; meant for magnitudes from a network. ``"mask"`` is the soft mask
    ``x * V_j / (eps + sum_j V_j)``. ``residual`` appends the mixture minus their sum.
    Arguments as in `wiener`.
    """
    _check(magnitudes, mixture, False, None)
    gains = _gains(magnitudes.to(mixture.real.dtype), mixture.abs(), init, residual, eps)
    return gains * _carrier(mixture, mixture.abs())[:, None]


def spatial_statistics(estimates: Tensor) -> tuple[Tensor, Tensor]:
    """What `spatial_covariances` needs of one part of a song; add up over the parts.

    Args:
        estimates: complex ``(B, J, C, F, N)``.

    Returns:
        ``sum_n y_j y_j^H``, complex ``(B, J, F, C, C)``, and ``sum_n v_j``, real ``(B, J, F)``.
    """
    y = estimates.transpose(2, 3)  # (B, J, F, C, N)
    numerator = y @ y.mH
    return numerator, numerator.diagonal(dim1=-2, dim2=-1).real.mean(-1)


def spatial_covariances(
    numerator: Tensor, denominator: Tensor, floor: float | Tensor = TINY
) -> Tensor:
    """R_j of summed `spatial_statistics`, complex ``(B, J, F, C, C)``; 0 for a silent source.

    ``floor`` is the ``"norbert"`` rule's ``eps * g**2`` where that is wanted.
    """
    return numerator / (denominator + floor)[..., None, None]


# ---- the rules ----


@dataclass(frozen=True)
class _Rule:
    """How M is kept invertible, with everything that depends on more than one bin."""

    pseudo: bool
    delta: float  # relative diagonal; with ``pseudo`` the threshold of singularity
    diagonal: float | Tensor = TINY  # added to the diagonal of M, float or (B, 1, 1)
    floor: float | Tensor = TINY  # added to sum_n v_j, float or (B, 1, 1)
    power: Tensor | None = None  # added to v_j, (B, J, 1, 1)
    mask_eps: float = TINY


def _rule(
    reg: Regulariser,
    magnitudes: Tensor,
    mixture: Tensor,
    init: Init,
    residual: bool,
    delta: float | None,
    eps: float | None,
    g_always: bool,
    block: int,
) -> _Rule:
    if reg == "relative":
        return _Rule(False, _default(delta, mixture, 1e-8, 1e-4))
    if reg == "norbert":
        eps = _mask_eps(reg, eps, mixture)
        peaks = [x.abs().amax((1, 2, 3)) for x in torch.split(mixture.detach(), block, 2)]
        g = torch.stack(peaks).amax(0).reshape(-1, 1, 1) / 10
        g = g.clamp(min=TINY**0.5) if g_always else g.clamp(min=1)
        # Dividing x and y by g and multiplying the result is the same as constants times g^2.
        return _Rule(False, 0.0, eps**0.5 * g**2, eps * g**2, mask_eps=eps)
    if reg != "pinv":
        raise ValueError(f"reg is {reg!r}; choose 'relative', 'norbert' or 'pinv'")
    powers = [
        _gains(v, x.abs(), init, residual, TINY).square().mean(2).amax((2, 3))
        for v, x, _ in _blocks(magnitudes.detach(), mixture.detach(), None, block)
    ]
    power = 1e-10 * torch.stack(powers).amax(0)[..., None, None]
    return _Rule(True, _default(delta, mixture, 1e-10, 1e-6), 0.0, power=power)


def _mask_eps(reg: Regulariser, eps: float | None, mixture: Tensor) -> float:
    if reg != "norbert":
        return TINY
    return torch.finfo(mixture.dtype).eps if eps is None else eps


def _default(value: float | None, mixture: Tensor, double: float, single: float) -> float:
    if value is not None:
        return value
    return double if mixture.dtype == torch.complex128 else single


# ---- the plain form ----


def _iterate(estimates: Tensor, mixture: Tensor, covariances: Tensor | None, rule: _Rule) -> Tensor:
    if covariances is None:
        numerator, denominator = spatial_statistics(estimates.detach())
        covariances = spatial_covariances(numerator, denominator, rule.floor)
    power = (estimates.real.square() + estimates.imag.square()).mean(2)  # (B, J, F, N)
    if rule.power is not None:
        power = power + rule.power
    covariances = covariances.to(mixture.dtype)
    model = torch.einsum("bjfn,bjfcd->bfncd", power.to(mixture.dtype), covariances)
    inverse, level = _inverse_times(model, mixture.permute(0, 2, 3, 1), rule)
    share = power / level[:, None]
    return torch.einsum("bjfn,bjfcd,bfnd->bjcfn", share.to(mixture.dtype), covariances, inverse)


def _inverse_times(model: Tensor, x: Tensor, rule: _Rule) -> tuple[Tensor, Tensor]:
    """``(B, F, N, C, C), (B, F, N, C)`` -> (level * M^-1 x, level), the level being tr(M) / C.

    Dividing M by its level first keeps determinants near one, however quiet the bin.
    """
    n_channels = x.shape[-1]
    trace = model.diagonal(dim1=-2, dim2=-1).real.mean(-1)
    eye = torch.eye(n_channels, dtype=model.dtype, device=model.device)
    if rule.pseudo:
        level = _pseudo_level(trace)
        unit = model / level[..., None, None]
        return _pseudo_inverse_times(unit, x, rule.delta), level
    diagonal = rule.delta * trace + rule.diagonal
    level = trace + diagonal
    unit = (model + diagonal[..., None, None] * eye) / level[..., None, None]
    solution: Tensor = torch.linalg.solve(unit, x)
    return solution, level


def _pseudo_level(trace: Tensor) -> Tensor:
    return torch.where(trace > TINY, trace, 1)  # dead bins stay 0, with finite gradients


def _pseudo_inverse_times(unit: Tensor, x: Tensor, threshold: float) -> Tensor:
    if unit.shape[-1] > 2:
        # As a tensor, for a plain number becomes float64.
        rtol = torch.full((), threshold, dtype=unit.real.dtype, device=unit.device)
        inverse: Tensor = torch.linalg.pinv(unit, hermitian=True, rtol=rtol)
        return (inverse @ x[..., None])[..., 0]
    singular = (torch.linalg.det(unit).real < threshold)[..., None]
    eye = torch.eye(unit.shape[-1], dtype=unit.dtype, device=unit.device)
    solved = torch.linalg.solve(torch.where(singular[..., None], eye, unit), x)
    # The pseudo-inverse of a matrix of rank one is its adjoint over its squared norm.
    energy = (unit.real.square() + unit.imag.square()).sum((-2, -1)) + TINY
    return torch.where(singular, (unit.mH @ x[..., None])[..., 0] / energy[..., None], solved)


# ---- the fast form: a block of bins, real and imaginary parts as separate planes ----


def _filter_bins(
    magnitudes: Tensor,
    mixture: Tensor,
    covariances: Tensor | None,
    iterations: int,
    init: Init,
    residual: bool,
    rule: _Rule,
) -> Tensor:
    """One or more iterations on some bins: planes ``(B, J, C, f, 2, N)``."""
    modulus = mixture.abs()
    carrier = _carrier(mixture, modulus)
    gains = _gains(magnitudes, modulus, init, residual, rule.mask_eps)
    # All initial estimates are real gains on one carrier, so the first iteration never forms them.
    power = gains.square().mean(2).transpose(1, 2)  # (B, f, J, N)
    x = _planes(mixture)
    held = covariances
    if covariances is None:
        covariances = _covariances(_gain_numerator(gains.detach(), carrier.detach()), rule)
    y = _expectation(power, x, covariances, rule)
    for _ in range(iterations - 1):
        power = y.square().sum((3, 4)) / y.shape[3]
        covariances = _covariances(_numerator(y.detach()), rule) if held is None else held
        y = _expectation(power, x, covariances, rule)
    return y.permute(0, 2, 3, 1, 4, 5)


def _expectation(power: Tensor, x: Tensor, covariances: Tensor, rule: _Rule) -> Tensor:
    """v_j R_j M^-1 x in planes.

    ``power (B, f, J, N), x (B, f, C, 2, N), covariances (B, f, J, C, C)``; gives
    ``(B, f, J, C, 2, N)``.
    """
    n_batch, n_bins, n_sources, n_frames = power.shape
    n_channels = x.shape[2]
    if rule.power is not None:
        power = power + rule.power.transpose(1, 2)
    if n_channels <= 2:
        z, level = _closed_form(_model_rows(power, covariances), x, rule)
    else:
        z, level = _solved(power, x, covariances, rule)
    real, imag = covariances.real, covariances.imag
    # A complex matrix as a real one: rows (j, c, part), columns (c, part).
    matrix = torch.stack((torch.stack((real, -imag), -1), torch.stack((imag, real), -1)), -3)
    y = torch.bmm(
        matrix.reshape(-1, n_sources * n_channels * 2, n_channels * 2),
        z.reshape(-1, n_channels * 2, n_frames),
    ).reshape(n_batch, n_bins, n_sources, n_channels, 2, n_frames)
    share = (power / level[:, :, None])[:, :, :, None, None]
    return y * share if y.requires_grad or share.requires_grad else y.mul_(share)


def _model_rows(power: Tensor, covariances: Tensor) -> Tensor:
    """sum_j v_j R_j as real rows ``(B, f, k, N)``: M_00, and for two channels M_11, Re, Im M_01."""
    rows = [covariances[..., c, c].real for c in range(covariances.shape[-1])]
    if len(rows) == 2:
        rows += [covariances[..., 0, 1].real, covariances[..., 0, 1].imag]
    return torch.stack(rows, 2) @ power


def _closed_form(rows: Tensor, x: Tensor, rule: _Rule) -> tuple[Tensor, Tensor]:
    """`_inverse_times` for one or two channels: ``(B, f, C, 2, N)`` and ``(B, f, N)``."""
    n_channels = x.shape[2]
    trace = rows[:, :, 0] if n_channels == 1 else (rows[:, :, 0] + rows[:, :, 1]) / 2
    diagonal = torch.zeros_like(trace) if rule.pseudo else rule.delta * trace + rule.diagonal
    level = _pseudo_level(trace) if rule.pseudo else trace + diagonal
    if n_channels == 1:
        if not rule.pseudo:
            return x, level
        unit = (rows / level[:, :, None])[:, :, :, None]
        return torch.where(unit < rule.delta, 0, x / unit.clamp(min=rule.delta)), level
    # Divided, not multiplied by 1 / level: the gradient of that overflows float32 in dead bins.
    diagonals = ((rows[:, :, :2] + diagonal[:, :, None]) / level[:, :, None])[:, :, :, None]
    real, imag = (rows[:, :, 2:] / level[:, :, None])[:, :, :, None, None].unbind(2)
    determinant = diagonals[:, :, :1] * diagonals[:, :, 1:] - (real.square() + imag.square())
    # M_01 x_1 = real * x_1 + imag * (i x_1), M_10 x_0 = real * x_0 + imag * (-i x_0)
    (a, b), (c, d) = (x[:, :, channel].unbind(2) for channel in (0, 1))
    turned = torch.stack((-d, c, b, -a), 2).reshape(x.shape)
    coupled = real * x.flip(2) + imag * turned
    if not rule.pseudo:
        return (diagonals.flip(2) * x - coupled) / determinant, level
    singular = determinant < rule.delta
    z = (diagonals.flip(2) * x - coupled) / determinant.masked_fill(singular, 1)
    energy = diagonals.square().sum(2, keepdim=True) + 2 * (real**2 + imag**2) + TINY
    return torch.where(singular, (diagonals * x + coupled) / energy, z), level


def _solved(power: Tensor, x: Tensor, covariances: Tensor, rule: _Rule) -> tuple[Tensor, Tensor]:
    """`_inverse_times` for more channels, in planes."""
    flat = torch.view_as_real(covariances.resolve_conj()).flatten(-3)  # (B, f, J, C * C * 2)
    n_channels = x.shape[2]
    model = (power.mT @ flat).reshape(*power.shape[:2], -1, n_channels, n_channels, 2)
    mixture = torch.complex(x[:, :, :, 0], x[:, :, :, 1]).mT  # (B, f, N, C)
    z, level = _inverse_times(torch.view_as_complex(model), mixture, rule)
    return torch.view_as_real(z).permute(0, 1, 3, 4, 2), level


def _covariances(numerator: Tensor, rule: _Rule) -> Tensor:
    """`spatial_covariances` of ``(B, f, J, C, C)``."""
    denominator = numerator.diagonal(dim1=-2, dim2=-1).real.mean(-1)
    return spatial_covariances(numerator, denominator, rule.floor)


def _gain_numerator(gains: Tensor, carrier: Tensor) -> Tensor:
    """sum_n y_j y_j^H of gains ``(B, J, C, f, N)`` on carriers ``(B, C, f, N)`` of modulus one."""
    n_batch, n_sources, n_channels, n_bins, _ = gains.shape
    shape = (n_batch, n_bins, n_sources, n_channels, n_channels)
    numerator = torch.empty(shape, dtype=carrier.dtype, device=carrier.device)
    for c in range(n_channels):
        for d in range(c + 1):
            products = (gains[:, :, c] * gains[:, :, d]).transpose(1, 2)  # (B, f, J, N)
            if c == d:
                numerator[..., c, c] = products.sum(-1)
                continue
            phases = torch.view_as_real(carrier[:, c] * carrier[:, d].conj())
            sums = torch.view_as_complex(products @ phases)
            numerator[..., c, d], numerator[..., d, c] = sums, sums.conj()
    return numerator


def _numerator(y: Tensor) -> Tensor:
    """sum_n y_j y_j^H of planes ``(B, f, J, C, 2, N)``."""
    n_channels, n_frames = y.shape[3], y.shape[5]
    flat = y.reshape(-1, n_channels * 2, n_frames)
    gram = (flat @ flat.mT).reshape(*y.shape[:3], n_channels, 2, n_channels, 2)
    (rr, ri), (ir, ii) = (gram.select(4, part).unbind(-1) for part in (0, 1))
    return torch.complex(rr + ii, ir - ri)


def _gains(magnitudes: Tensor, modulus: Tensor, init: Init, residual: bool, eps: float) -> Tensor:
    """Initial estimates over the mixture's phase, real ``(B, J, C, F, N)``."""
    modulus = modulus[:, None]
    gains = magnitudes.expand(-1, -1, modulus.shape[2], -1, -1)
    if init == "mask":
        gains = modulus * (magnitudes / (eps + magnitudes.sum(1, keepdim=True)))
    elif init != "phase":
        raise ValueError(f"init is {init!r}; choose 'phase' or 'mask'")
    if residual:
        gains = torch.cat((gains, modulus - gains.sum(1, keepdim=True)), 1)
    return gains


def _carrier(mixture: Tensor, modulus: Tensor) -> Tensor:
    """The mixture over its modulus; 1, the angle 0, where it is 0."""
    silent = modulus == 0
    return (mixture / modulus.masked_fill(silent, 1)).masked_fill(silent, 1)


def _planes(spectrum: Tensor) -> Tensor:
    """Complex ``(B, C, f, N)`` -> real ``(B, f, C, 2, N)``."""
    return torch.stack((spectrum.real, spectrum.imag), 2).permute(0, 3, 1, 2, 4).contiguous()


def _blocks(
    magnitudes: Tensor, mixture: Tensor, covariances: Tensor | None, block: int
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Bins by the block: magnitudes, mixture, covariances ``(B, f, J, C, C)``, of one precision."""
    for start in range(0, mixture.shape[2], block):
        bins = slice(start, start + block)
        r = None if covariances is None else covariances[:, :, bins].transpose(1, 2)
        yield (
            magnitudes[:, :, :, bins].to(mixture.real.dtype),
            mixture[:, :, bins],
            None if r is None else r.to(mixture.dtype),
        )


def _bins_at_a_time(mixture: Tensor, n_sources: int) -> int:
    n_batch, n_channels, n_bins, n_frames = mixture.shape
    limit = CPU_BLOCK_BYTES if mixture.device.type == "cpu" else ACCELERATOR_BLOCK_BYTES
    reals = 6 * n_channels * (n_sources + 2) + 4 * n_channels**2  # live at once, per bin and frame
    one_bin = n_batch * n_frames * reals * mixture.element_size() // 2
    return max(1, min(n_bins, limit // one_bin))


def _records_gradient(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def _check(magnitudes: Tensor, mixture: Tensor, residual: bool, covariances: Tensor | None) -> None:
    if not mixture.is_complex():
        raise TypeError(f"mixture is {mixture.dtype}; a complex spectrum is expected")
    n_batch, n_channels, n_bins, n_frames = mixture.shape if mixture.ndim == 4 else (-1,) * 4
    n_sources = magnitudes.shape[1] if magnitudes.ndim == 5 else -1
    if magnitudes.shape not in (
        (n_batch, n_sources, n_channels, n_bins, n_frames),
        (n_batch, n_sources, 1, n_bins, n_frames),
    ):
        raise ShapeError(
            f"magnitudes are {tuple(magnitudes.shape)} and the mixture is {tuple(mixture.shape)}; "
            "expected (B, J, C or 1, F, N) and (B, C, F, N) with equal B, C, F, N."
        )
    expected = (n_batch, n_sources + residual, n_bins, n_channels, n_channels)
    if covariances is not None and covariances.shape != expected:
        raise ShapeError(
            f"covariances are {tuple(covariances.shape)}; expected {expected}: (B, J, F, C, C), "
            "the residual counting as a source."
        )
