"""Two channels as a sum of Gaussian images with covariances ``v_j R_j``: what lgm and mnmf share.

All matrices are two by two and Hermitian, held as four real fields, 11, 22, Re 12, Im 12, and
inverted in closed form.  Axes: F bins, J objects, N frames; bins come first, so that sums over
objects and fields are batched products.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.dsp.locate import along

LEAST = 1e-10  # power, where the song's mean is 1


def spatial(steered: Tensor, floor: float) -> Tensor:
    """``a a^H + floor I`` of places ``(J, 2, F)``, as fields ``(F, J, 4)``."""
    left, right = steered[:, 0], steered[:, 1]
    cross = left * right.conj()
    fields = [left.abs().square() + floor, right.abs().square() + floor, cross.real, cross.imag]
    return torch.stack(fields, -1).transpose(0, 1).contiguous()


def initial_powers(spectrum: Tensor, steered: Tensor) -> Tensor:
    """The bin's power, shared out by how well each place explains it: ``(F, J, N)``."""
    seen = along(steered, spectrum).abs().square()
    power = spectrum.abs().square().sum(0)
    part = (seen / (power + LEAST)).clamp(max=1) ** 8
    return (power * part / (part.sum(0) + LEAST)).transpose(0, 1).clamp(min=LEAST)


class Mixture:
    """A spectrum and the covariances of its objects.

    Args:
        spectrum: ``(2, F, N)``.
        covariances: fields ``(F, J, 4)``.
    """

    def __init__(self, spectrum: Tensor, covariances: Tensor) -> None:
        self.left, self.right = spectrum
        self.covariances = covariances
        double = covariances.new_tensor([1, 1, 2, 2])
        self._weights = covariances * double  # for sums over all four entries
        # tr(R C^-1) takes the other diagonal entry of C.
        self._adjugate = covariances[..., [1, 0, 2, 3]] * covariances.new_tensor([1, 1, -2, -2])

    def covariance(self, powers: Tensor) -> Tensor:
        """Of the mixture, fields ``(F, 4, N)``, given powers ``(F, J, N)``."""
        covariance: Tensor = self.covariances.transpose(1, 2) @ powers
        return covariance

    def whitened(self, covariance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``C^-1 x``, two of ``(F, N)``, and the determinant."""
        c11, c22, real, imaginary = covariance.unbind(1)
        determinant = c11 * c22 - real.square() - imaginary.square()
        determinant = determinant.clamp(min=LEAST**2 * 1e-6)
        c12 = torch.complex(real, imaginary)
        first = (c22 * self.left - c12 * self.right) / determinant
        second = (c11 * self.right - c12.conj() * self.left) / determinant
        return first, second, determinant

    def sums(self, powers: Tensor) -> tuple[Tensor, Tensor]:
        """``x^H C^-1 R_j C^-1 x`` and ``tr(R_j C^-1)``, each ``(F, J, N)``."""
        covariance = self.covariance(powers)
        first, second, determinant = self.whitened(covariance)
        cross = first * second.conj()
        outer = torch.stack(
            [first.abs().square(), second.abs().square(), cross.real, cross.imag], 1
        )
        return self._weights @ outer, self._adjugate @ (covariance / determinant[:, None])

    def updated(self, powers: Tensor) -> Tensor:
        """Powers after one multiplicative update, which never raises the cost."""
        given, expected = self.sums(powers)
        return (powers * (given / expected.clamp(min=1e-20)).clamp(min=0).sqrt()).clamp(min=LEAST)

    def cost(self, powers: Tensor) -> Tensor:
        """``x^H C^-1 x + log det C``, summed over bins and frames."""
        first, second, determinant = self.whitened(self.covariance(powers))
        fit = (self.left.conj() * first + self.right.conj() * second).real
        cost: Tensor = (fit + determinant.log()).sum()
        return cost

    def images(self, powers: Tensor) -> Tensor:
        """``v_j R_j C^-1 x``: ``(J, 2, F, N)``."""
        first, second, _ = self.whitened(self.covariance(powers))
        r11, r22, real, imaginary = self.covariances.transpose(0, 1)[..., None].unbind(2)
        r12 = torch.complex(real, imaginary)
        powers = powers.transpose(0, 1)
        left = powers * (r11 * first + r12 * second)
        right = powers * (r12.conj() * first + r22 * second)
        return torch.stack([left, right], 1)
