"""Two-by-two matrices in closed form: no LAPACK call for each of a million bins."""

import torch
from torch import Tensor


def inverse(matrix: Tensor) -> Tensor:
    """Of ``(..., 2, 2)``; a determinant of zero gives infinities."""
    a, b, c, d = matrix.flatten(-2).unbind(-1)
    adjugate = torch.stack([d, -b, -c, a], -1).unflatten(-1, (2, 2))
    inverted: Tensor = adjugate / (a * d - b * c)[..., None, None]
    return inverted
