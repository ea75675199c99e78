"""Small separators whose right answer is known, for tests of everything around a model."""

import torch
from torch import Tensor

from zoo.separator import Separator


class Halves(Separator):
    """Splits a mixture into fixed shares: what goes in comes out, whatever the chunks.

    ``shares=[1.0]`` is the identity.
    """

    architecture = "halves"

    def __init__(
        self,
        sources=("vocals", "other"),
        shares=(0.75, 0.25),
        sample_rate=16000,
        channels=1,
        context=0,
        grid=1,
    ):
        super().__init__(sources, sample_rate, channels)
        self.save_hyperparameters()
        self.shares, self._context, self._grid = shares, context, grid
        self.lengths = []

    @property
    def context(self):
        return self._context

    @property
    def grid(self):
        return self._grid

    @property
    def segment(self):
        return 4000

    def forward(self, mixture, state=None):
        self.lengths.append(mixture.shape[-1])
        return torch.stack([mixture * share for share in self.shares], dim=1)


class Smoother(Halves):
    """A moving average over ``2 * reach + 1`` samples, aligned to a grid: context is exact."""

    def __init__(self, reach=37, grid=8):
        super().__init__(("smooth",), (1.0,), 16000, 1, reach, grid)
        self.kernel = torch.hann_window(2 * reach + 1, periodic=False)[None, None]

    def forward(self, mixture, state=None):
        self.lengths.append(mixture.shape[-1])
        flat = mixture.flatten(0, 1)[:, None]
        smooth = torch.nn.functional.conv1d(flat, self.kernel, padding=self._context)
        # Depends on the position within the grid, as pooling does.
        weight = 1 + torch.arange(mixture.shape[-1]) % self._grid
        return (smooth[:, 0] * weight).view(mixture.shape)[:, None]


class Loudness(Halves):
    """Divides by the peak of the whole song, which only a survey can know."""

    def __init__(self, sample_rate=16000, channels=1):
        super().__init__(("loud",), (1.0,), sample_rate, channels)

    @property
    def surveys(self):
        return True

    def survey(self, chunks):
        peaks = [mixture[..., keep].abs().amax((1, 2)) for mixture, keep in chunks]
        return {"peak": torch.stack(peaks).amax(0)}

    def forward(self, mixture, state=None):
        state = state or self.survey([(mixture, slice(None))])
        return (mixture / state["peak"][:, None, None])[:, None]


class Disagreeing(Halves):
    """Gives the n-th chunk the constant n: neighbours disagree as much as they can."""

    def __init__(self):
        super().__init__(("level",), (1.0,), 16000, 1, None)

    def forward(self, mixture, state=None) -> Tensor:
        self.lengths.append(mixture.shape[-1])
        return torch.full_like(mixture, float(len(self.lengths) % 2))[:, None]


class Forgetful(Halves):
    """Runs out of memory above a number of samples in one call."""

    def __init__(self, limit, context=0, grid=1):
        super().__init__(("vocals",), (1.0,), 16000, 1, context, grid)
        self.limit = limit

    def forward(self, mixture, state=None):
        if mixture.shape[0] * mixture.shape[-1] > self.limit:
            raise torch.OutOfMemoryError("out of memory")
        return super().forward(mixture, state)
