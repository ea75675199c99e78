"""FNN: rectified layers that grow one by one, each begun by least squares; one network per source.

All layers are as wide as the output, so that a new one can be the best linear map from what the
earlier ones give to the source; then all are trained together, and the next is added.

S. Uhlich, F. Giron, Y. Mitsufuji, "Deep neural network based instrument extraction from music",
ICASSP 2015, pp. 2135-2139; as FNN in Uhlich et al., ICASSP 2017 (see BLSTM).

In:  mixture ``(B, C, T)``, 44.1 kHz; the network is mono and takes channel after channel.
Out: estimates ``(B, J, C, T)``.   Inside: rows, one for each frame.

    ============================================================  ========  ==========
    step                                                          out       parameters
    ============================================================  ========  ==========
    magnitudes of 17 frames, STFT 2048 / 1024, over their loudness  17 1025
    principal components                                          1025
    four dense layers, ReLU                                       1025      4 206 600
    times the loudness: the magnitude of the middle frame         1025
    ============================================================  ========  ==========

The loudness of a frame is the mean norm of the 17, so a louder mixture gives louder estimates and
nothing else.  Loss: squared error of what has not been multiplied by it.

Departures from the paper
    * The published row learned from solo recordings, MedleyDB stems and SiSEC's songs, ten million
      frames and more; the recipe here has DSD100 alone, which is another experiment.
    * Layers are trained by Adam on batches; recalled of the paper is L-BFGS on all frames at once.
    * Principal components come of at most 8192 frames of the first batches, by way of the frames'
      own products: a covariance of 17 425 features would take 2.4 GB.

Inferred or unconfirmed
    * Four layers, ReLU, their widths, PCA and the final Wiener filter are documented; the number
      of neighbouring frames, of components, the STFT, the normalisation by loudness, the loss and
      the growing schedule are recalled or ours.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.dsp.stft import STFT
from zoo.errors import RecipeError, check_least
from zoo.models import TABLE
from zoo.models.blocks import PrincipalComponents, with_neighbours
from zoo.models.targets import TargetNetworks
from zoo.separator import mean_losses

N_BATCHES = 32  # of training examples, for principal components and least squares
MOST_FRAMES = 8192  # for principal components
RIDGE = 1e-6
EPS = 1e-8

log = logging.getLogger(__name__)


class FNN(TargetNetworks):
    """One feed-forward network per target, joined by a multichannel Wiener filter.

    Args:
        sources, sample_rate, channels, targets: see `zoo.models.targets.TargetNetworks`.
        n_fft: STFT window in samples.
        hop: in samples.
        n_neighbours: frames on each side that a frame is seen with.
        n_components: principal components; None: as many as bins; 0: all features as they are.
        n_layers: dense layers.
        growth_epochs: a further layer joins after so many epochs; 0: all are there at once.
        segment_frames: frames of a training example.
        wiener_iterations, wiener_reg, covariance: see `zoo.models.targets.TargetNetworks`.
    """

    architecture = "fnn"
    tiny: ClassVar = TABLE["fnn"]["tiny"]

    def __init__(
        self,
        sources: Sequence[str] = ("bass", "drums", "other", "vocals"),
        sample_rate: int = 44100,
        channels: int = 2,
        targets: Sequence[str] | None = None,
        n_fft: int = 2048,
        hop: int = 1024,
        n_neighbours: int = 8,
        n_components: int | None = None,
        n_layers: int = 4,
        growth_epochs: int = 5,
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
        check_least(1, n_layers=n_layers, segment_frames=segment_frames)
        check_least(
            0, n_neighbours=n_neighbours, n_components=n_components, growth_epochs=growth_epochs
        )
        self.growth_epochs, self.segment_frames = growth_epochs, segment_frames
        n_bins = self.stft.n_bins
        n_components = n_bins if n_components is None else n_components
        if n_components > (most := n_bins * (2 * n_neighbours + 1)):
            raise RecipeError(f"n_components is {n_components}; {most} features have no more.")
        self.features = Features(n_bins, n_neighbours, n_components)
        for target in self.targets:
            n_inputs = n_components or n_bins * (2 * n_neighbours + 1)
            self.networks[target] = RectifiedLayers(n_inputs, n_bins, n_layers)

    @property
    def segment(self) -> int:
        """Samples of a training example: ``segment_frames`` frames."""
        return (self.segment_frames - 1) * self.stft.hop

    @property
    def context_frames(self) -> int:
        """Frames on each side that a frame is seen with."""
        return self.features.n_neighbours

    def magnitudes(self, spectrum: Tensor) -> Tensor:
        """Magnitudes of the targets, ``(B, J, C, F, N)``, of a spectrum ``(B, C, F, N)``."""
        mixture = spectrum.abs()
        rows = mixture.flatten(0, 1)  # (B C, F, N)
        found = []
        for z, loudness in self.features(rows):  # stretches of frames
            drawn = [self.networks[name](z) * loudness for name in self.targets]
            found.append(torch.stack(drawn, 1))  # (B C, J, n, F)
        joined = torch.cat(found, 2).to(mixture.dtype).unflatten(0, mixture.shape[:2])
        magnitudes: Tensor = joined.permute(0, 2, 1, 4, 3)
        return magnitudes

    def loss(self, mixture: Tensor, references: Tensor, known: Tensor) -> dict[str, Tensor]:
        """Squared error of magnitudes over the loudness of their frame."""
        columns = [self.sources.index(name) for name in self.targets]
        spectrum = self.stft(mixture)
        true = self.stft(references[:, columns]).abs()
        loudness = self.features.loudness(spectrum.abs().flatten(0, 1))  # (B C, N)
        loudness = loudness.unflatten(0, spectrum.shape[:2])[:, None, :, None]
        errors = ((self.magnitudes(spectrum) - true) / loudness).square().mean((2, 3, 4))
        losses = mean_losses(errors, known[:, columns], self.targets)
        # Processes of a run have to find a gradient, zero, at the layers that are still to join.
        waiting = [p.sum() for network in self._networks for p in network.waiting()]
        return {**losses, "loss": losses["loss"] + 0 * sum(waiting)}

    def on_fit_start(self) -> None:
        """Find the principal components and begin the first layer, unless weights were loaded."""
        self._find_components()
        if self._n_active:
            return
        if self.growth_epochs:
            self._add_layer()
        else:
            for network in self._networks:
                network.n_active.fill_(len(network.layers))

    def on_train_epoch_start(self) -> None:
        """Add a layer when its time has come."""
        if not self.growth_epochs:
            return
        wanted = 1 + self.current_epoch // self.growth_epochs
        if self._n_active < min(wanted, len(self._networks[0].layers)):
            self._add_layer()

    def on_after_backward(self) -> None:
        """No step, and no momentum, for layers that are still to join."""
        for network in self._networks:
            for parameter in network.waiting():
                parameter.grad = None

    def _find_components(self) -> None:
        components = self.features.components
        if components is None or bool(components.is_measured):
            return
        rows, n_rows = [], 0
        for references, _ in self._batches():
            mixture = self.stft(references.sum(1)).abs().flatten(0, 1)
            found = torch.cat([x for x, _ in self.features.raw(mixture)], 1).flatten(0, 1)
            rows.append(found[: MOST_FRAMES - n_rows].cpu())
            n_rows += len(rows[-1])
            if n_rows == MOST_FRAMES:
                break
        if n_rows > len(components.components):
            components.measure(torch.cat(rows))
        else:
            log.warning("no zoo.SeparationData to find principal components with: there are none.")

    def _add_layer(self) -> None:
        for network in self._networks:
            network.n_active += 1
        self.begin_layer(self._n_active - 1)

    @torch.no_grad()
    def begin_layer(self, k: int) -> None:
        """Least squares for layer k of each network, of what the earlier ones give."""
        for name, network in zip(self.targets, self._networks, strict=True):
            squares, j = LeastSquares(), self.sources.index(name)
            for references, known in self._batches():
                heard = references[known[:, j]]
                if not len(heard):
                    continue
                mixture = self.stft(heard.sum(1)).abs().flatten(0, 1)
                true = self.stft(heard[:, j]).abs().flatten(0, 1)
                start = 0
                for z, loudness in self.features(mixture):
                    wanted = true[..., start : start + z.shape[1]].transpose(1, 2) / loudness
                    squares.push(network.before(k, z).flatten(0, 1), wanted.flatten(0, 1))
                    start += z.shape[1]
            if squares.count:
                layer = network.layers[k]
                assert isinstance(layer, nn.Linear)
                weight, bias = squares.solve()
                layer.weight.copy_(weight)
                layer.bias.copy_(bias)

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """References ``(B, J, C, T)`` of training examples, and which of them are known."""
        data = getattr(self.trainer, "datamodule", None)
        for batch in getattr(data, "statistics_batches", lambda n: ())(N_BATCHES):
            yield batch["references"].to(self.device), batch["known"].to(self.device)

    @property
    def _networks(self) -> list[RectifiedLayers]:
        return list(self.networks.values())  # type: ignore[arg-type]

    @property
    def _n_active(self) -> int:
        """Layers in use, of every network; 0 before any training."""
        return int(self._networks[0].n_active)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam at 1e-3."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class Features(nn.Module):
    """What a network sees of each frame: it and its neighbours, over their loudness.

    Args:
        n_bins: F.
        n_neighbours: on each side.
        n_components: 0 leaves the features as they are.
    """

    def __init__(self, n_bins: int, n_neighbours: int, n_components: int) -> None:
        super().__init__()
        self.n_neighbours, self.width = n_neighbours, 2 * n_neighbours + 1
        middle = n_neighbours * n_bins  # until they are measured, components are the middle frame
        self.components = (
            PrincipalComponents(self.width * n_bins, n_components, middle) if n_components else None
        )

    def loudness(self, mixture: Tensor) -> Tensor:
        """Mean norm of a frame and its neighbours, ``(B, N)``, of magnitudes ``(B, F, N)``."""
        norms = F.pad(mixture.norm(dim=1), (self.n_neighbours,) * 2)
        return norms.unfold(-1, self.width, 1).mean(-1) + EPS

    def raw(self, mixture: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Stretches of frames: features ``(B, n, width F)`` and loudness ``(B, n, 1)``."""
        loudness = self.loudness(mixture)[..., None]
        for place, features in with_neighbours(mixture, self.n_neighbours):
            yield features / loudness[:, place], loudness[:, place]

    def forward(self, mixture: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """As `raw`, with the features' principal components in their place."""
        for features, loudness in self.raw(mixture):
            yield features if self.components is None else self.components(features), loudness


class RectifiedLayers(nn.Module):
    """Dense layers with ReLU, of which the first ones are in use: ``(..., D)`` -> ``(..., F)``.

    ``n_active`` says how many; before any training it is 0, and all are.
    """

    n_active: Tensor

    def __init__(self, n_inputs: int, n_bins: int, n_layers: int) -> None:
        super().__init__()
        widths = [n_inputs, *[n_bins] * n_layers]
        self.layers = nn.ModuleList(
            nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False)
        )
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        self.register_buffer("n_active", torch.tensor(0))

    def forward(self, z: Tensor) -> Tensor:
        """See the class."""
        return self.before(int(self.n_active) or len(self.layers), z)

    def before(self, k: int, z: Tensor) -> Tensor:
        """What layer k is given."""
        for layer in self.layers[:k]:
            z = F.relu(layer(z))
        return z

    def waiting(self) -> Iterator[nn.Parameter]:
        """Parameters of layers that are not in use yet."""
        for layer in self.layers[int(self.n_active) or len(self.layers) :]:
            yield from layer.parameters()


class LeastSquares:
    """The best linear map, gathered from rows in batches: ``s = W z + b``."""

    def __init__(self) -> None:
        self.count = 0
        self._z = self._s = self._zz = self._sz = torch.zeros(())

    def push(self, z: Tensor, s: Tensor) -> None:
        """Rows ``(P, D)`` and what is wanted of them ``(P, F)``."""
        # summed on the CPU, since Apple's GPUs have no double precision
        z, s = z.cpu().double(), s.cpu().double()
        self.count += len(z)
        self._z, self._s = self._z + z.sum(0), self._s + s.sum(0)
        self._zz, self._sz = self._zz + z.T @ z, self._sz + s.T @ z

    def solve(self) -> tuple[Tensor, Tensor]:
        """W ``(F, D)`` and b ``(F,)``; a small ridge holds where rows are alike."""
        z, s = self._z / self.count, self._s / self.count
        zz = self._zz / self.count - torch.outer(z, z)
        sz = self._sz / self.count - torch.outer(s, z)
        ridge = RIDGE * float(zz.trace()) / len(zz) + math.ulp(0.0)
        weight = torch.linalg.solve(zz + ridge * torch.eye(len(zz)).to(zz), sz.T).T
        return weight.float(), (s - weight @ z).float()
