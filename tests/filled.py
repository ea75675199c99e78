"""Networks filled by a rule, so that their output can be compared with known values."""

import math

import torch
from torch import Tensor, nn


def fill(parameters):
    """Parameters that follow from their place alone: the number of each, and of a value in it."""
    with torch.no_grad():
        for k, parameter in enumerate(parameters):
            i = torch.arange(parameter.numel(), dtype=torch.int64)
            u = ((i * i + 3 * i * k + 7 * k) % 65521).double() / 65521 - 0.5
            if parameter.ndim > 1:
                u = u * math.sqrt(12 / (parameter.numel() / parameter.shape[0]))
            else:
                u = 0.1 * u
            parameter.copy_(u.reshape(parameter.shape))


def check_input(n_samples, channels=1):
    """A mixture ``(1, C, T)`` of two tones; the second channel is one of its own."""
    n = torch.arange(n_samples, dtype=torch.float64)
    first = 0.5 * torch.sin(0.05 * n) + 0.3 * torch.sin(0.7 * n + 1)
    return torch.stack([first, 0.4 * torch.sin(0.11 * n)][:channels])[None].float()


def sines(*shape: int) -> Tensor:
    """The check sequence sin(i^2), i = 1, 2, ..., in float64."""
    i = torch.arange(1, math.prod(shape) + 1, dtype=torch.float64)
    return torch.sin(i * i).reshape(shape)


def filled(network: nn.Module) -> nn.Module:
    """Every parameter set from `sines`, in float64, as the check values ask."""
    network = network.double()
    with torch.no_grad():
        for module in network.modules():
            for name, parameter in module.named_parameters(recurse=False):
                values = sines(*parameter.shape)
                if parameter.ndim == 1:
                    is_scale = (
                        isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) and name == "weight"
                    )
                    parameter.copy_(is_scale + 0.05 * values)
                else:
                    transposed = isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d))
                    fan_in = parameter.shape[0] if transposed else parameter[0].numel()
                    parameter.copy_(2 * values / math.sqrt(fan_in))
    return network
