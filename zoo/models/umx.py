"""Open-Unmix and X-UMX: a recurrent network per source, and four of them that talk to each other.

Frame by frame, magnitudes are squeezed into a few hundred numbers; three bidirectional LSTM layers
follow the song through them, and a mask for all bins is made of both.

Open-Unmix: F.-R. Stoeter, S. Uhlich, A. Liutkus, Y. Mitsufuji, "Open-Unmix - a reference
implementation for music source separation", JOSS 4(41), 2019.
X-UMX: R. Sawata, S. Uhlich, S. Takahashi, Y. Mitsufuji, "All for one and one for all: improving
music separation by bridging networks", ICASSP 2021, arXiv 2010.04228.

In:  mixture ``(B, C, T)``, 44.1 kHz stereo; STFT 4096 / 1024, of which bins up to 16 kHz are seen.
Out: estimates ``(B, J, C, T)``.   Inside: rows ``(N B, K)``, frame after frame.

    ==================================================================  =============
    layer (H = 512; UMX-L: 1024)                                        out
    ==================================================================  =============
    bins up to 16 kHz, (x + input_mean) input_scale                     C 1487
    dense without bias, batch normalisation, tanh                       H           c1
    three BLSTM layers of H / 2 cells per direction, dropout 0.4        H
    [both]                                                              2 H         c2
    dense without bias, batch normalisation, ReLU                       H
    dense without bias, batch normalisation                             C 2049
    output_scale x + output_mean, ReLU, times the mixture's magnitude   C 2049
    ==================================================================  =============

8 893 348 parameters per source (UMX-L: 28 257 188).  X-UMX has no more of them: at c1 and at c2 all
sources go on with the mean over the sources.

Loss of Open-Unmix: mean squared error of magnitudes.  Of X-UMX: that, plus ten times one plus the
weighted SDR of waveforms, both averaged over all sums of some, but not all, of the sources.

Departures from the papers
    * The Wiener filter's covariances are those of a chunk, or of the song (``covariance``); the
      published program filters stretches of 300 frames, with another regulariser.
    * The networks of several sources are trained side by side, each on its own loss, where the
      published program trains one after the other.
    * A signal counts as zero beyond its ends; the published program reflects it there.
    * The input is normalised by statistics of the first 32 batches of examples, augmented as they
      are, not of the training mixtures.

Inferred or unconfirmed
    * X-UMX, loss of sums: magnitudes of sources are added and compared with the added magnitudes of
      the references.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import ClassVar, Literal

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.dsp.stft import STFT
from zoo.errors import RecipeError, ReleaseError, check_least
from zoo.models import TABLE
from zoo.models.statistics import mixture_statistics
from zoo.models.targets import TargetNetworks
from zoo.separator import SHORTEST_S, Separator, masked_mean

log = logging.getLogger(__name__)


class OpenUnmix(TargetNetworks):
    """One recurrent network per target, joined by a multichannel Wiener filter.

    Args:
        sources, sample_rate, channels, targets: see `zoo.models.targets.TargetNetworks`.
        n_fft: STFT window in samples.
        hop: in samples.
        hidden_size: H, even.
        n_layers: of the LSTM.
        bandwidth_hz: bins above are not seen, but all are estimated.
        bridged: X-UMX: the networks share what they have found, twice.
        segment_s: of a training example, in seconds.
        wiener_iterations, wiener_reg, covariance: see `zoo.models.targets.TargetNetworks`.
    """

    architecture = "umx"
    tiny: ClassVar = TABLE["umx"]["tiny"]

    def __init__(
        self,
        sources: Sequence[str] = ("vocals", "drums", "bass", "other"),
        sample_rate: int = 44100,
        channels: int = 2,
        targets: Sequence[str] | None = None,
        n_fft: int = 4096,
        hop: int = 1024,
        hidden_size: int = 512,
        n_layers: int = 3,
        bandwidth_hz: float = 16000,
        bridged: bool = False,
        segment_s: float = 6.0,
        wiener_iterations: int = 1,
        wiener_reg: Literal["relative", "norbert", "pinv"] = "relative",
        covariance: Literal["chunk", "song"] = "chunk",
    ) -> None:
        super().__init__(
            sources, sample_rate, channels, targets, STFT(n_fft, hop),
            wiener_iterations, wiener_reg, covariance,
        )  # fmt: skip
        self.save_hyperparameters()
        check_least(1, hidden_size=hidden_size, n_layers=n_layers, bandwidth_hz=bandwidth_hz)
        check_least(SHORTEST_S, segment_s=segment_s)
        if hidden_size % 2:
            raise RecipeError(
                f"hidden_size is {hidden_size}; it must be even, half for each direction."
            )
        self.bridged, self.segment_s = bridged, segment_s
        seen = min(self.stft.n_bins, int(bandwidth_hz * n_fft / sample_rate) + 1)
        for target in self.targets:
            self.networks[target] = RecurrentNetwork(
                channels, self.stft.n_bins, seen, hidden_size, n_layers
            )

    @property
    def segment(self) -> int:
        """Samples of a training example."""
        return round(self.segment_s * self.sample_rate) if self.sample_rate else 0

    @property
    def _networks(self) -> list[RecurrentNetwork]:
        return list(self.networks.values())  # type: ignore[arg-type]

    def magnitudes(self, spectrum: Tensor) -> Tensor:
        """Magnitudes of the targets, ``(B, J, C, F, N)``, of a spectrum ``(B, C, F, N)``."""
        mixture = spectrum.abs()
        networks = self._networks
        encoded = [network.encode(mixture) for network in networks]
        if self.bridged:
            encoded = [torch.stack(encoded).mean(0)] * len(networks)
        followed = [
            torch.cat([code, network.follow(code)], -1)
            for code, network in zip(encoded, networks, strict=True)
        ]
        if self.bridged:
            followed = [torch.stack(followed).mean(0)] * len(networks)
        found = [
            network.decode(code, mixture) for code, network in zip(followed, networks, strict=True)
        ]
        return torch.stack(found, 1).to(mixture.dtype)

    def loss(self, mixture: Tensor, references: Tensor, known: Tensor) -> dict[str, Tensor]:
        """Squared error of magnitudes; X-UMX's of sums of sources, and of their waveforms."""
        if not self.bridged:
            return super().loss(mixture, references, known)
        columns = [self.sources.index(name) for name in self.targets]
        references, known = references[:, columns], known[:, columns]
        spectrum = self.stft(mixture)
        magnitudes = self.magnitudes(spectrum)
        true = self.stft(references).abs()
        phase = torch.polar(torch.ones_like(spectrum.real), spectrum.angle())
        signals = self.stft.inverse(magnitudes * phase[:, None], mixture.shape[-1])
        spectral, temporal = [], []
        n = len(columns)
        for size in range(1, max(n, 2)):
            for chosen in combinations(range(n), size):
                some = list(chosen)
                heard = known[:, some].all(1, keepdim=True)
                error = (magnitudes[:, some].sum(1) - true[:, some].sum(1)).square().mean((1, 2, 3))
                spectral.append(masked_mean(error[:, None], heard))
                sdr = weighted_sdr(signals[:, some].sum(1), references[:, some].sum(1), mixture)
                temporal.append(masked_mean((1 + sdr.mean(1))[:, None], heard))
        parts = {"spectral": torch.stack(spectral).mean(), "temporal": torch.stack(temporal).mean()}
        return {"loss": parts["spectral"] + 10 * parts["temporal"], **parts}

    def only(self, sources: Sequence[str]) -> tuple[Separator, str | None]:
        """Bridged networks need each other, so all are computed."""
        return (self, None) if self.bridged else super().only(sources)

    def on_fit_start(self) -> None:
        """Measure the training mixtures for the normalisation, unless a checkpoint brought it."""
        networks = self._networks
        if bool((networks[0].input_scale != 1).any()):
            return
        seen = len(networks[0].input_mean)
        measured = mixture_statistics(self, lambda mixture: self.stft(mixture).abs()[..., :seen, :])
        if measured is None:
            log.warning(
                "no zoo.SeparationData to measure the training mixtures on: the networks' input is "
                "not normalised."
            )
            return
        mean, std = measured
        for network in networks:
            network.input_mean.data.copy_(-mean)
            network.input_scale.data.copy_(1 / std.clamp(min=1e-4 * float(std.max())))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam at 1e-3 with decay, at 0.3 of the rate after 80 epochs without a better one."""
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-3, weight_decay=1e-5)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, "max", factor=0.3, patience=80
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": plateau, "monitor": "val/sdr", "strict": False},
        }


class RecurrentNetwork(nn.Module):
    """The network of one source, in three parts, since X-UMX bridges them.

    The names of its tensors are Open-Unmix's.
    """

    def __init__(
        self, n_channels: int, n_bins: int, n_seen: int, hidden_size: int, n_layers: int
    ) -> None:
        super().__init__()
        self.input_mean = nn.Parameter(torch.zeros(n_seen))  # added: minus the mean
        self.input_scale = nn.Parameter(torch.ones(n_seen))
        self.output_scale = nn.Parameter(torch.ones(n_bins))
        self.output_mean = nn.Parameter(torch.ones(n_bins))
        self.fc1 = nn.Linear(n_channels * n_seen, hidden_size, bias=False)
        self.bn1 = nn.BatchNorm1d(hidden_size)
        self.lstm = nn.LSTM(
            hidden_size, hidden_size // 2, n_layers,
            bidirectional=True, dropout=0.4 if n_layers > 1 else 0.0,
        )  # fmt: skip
        self.fc2 = nn.Linear(2 * hidden_size, hidden_size, bias=False)
        self.bn2 = nn.BatchNorm1d(hidden_size)
        self.fc3 = nn.Linear(hidden_size, n_channels * n_bins, bias=False)
        self.bn3 = nn.BatchNorm1d(n_channels * n_bins)

    def forward(self, mixture: Tensor) -> Tensor:
        """Magnitudes ``(B, C, F, N)`` of the source, of the mixture's."""
        code = self.encode(mixture)
        return self.decode(torch.cat([code, self.follow(code)], -1), mixture)

    def encode(self, mixture: Tensor) -> Tensor:
        """Each frame as H numbers, ``(N, B, H)``."""
        seen = mixture[:, :, : len(self.input_mean)].permute(3, 0, 1, 2)  # (N, B, C, F)
        scaled = (seen + self.input_mean) * self.input_scale
        rows = self.bn1(self.fc1(scaled.flatten(0, 1).flatten(1)))
        code: Tensor = rows.tanh().unflatten(0, seen.shape[:2])
        return code

    def follow(self, code: Tensor) -> Tensor:
        """What goes on in the song, ``(N, B, H)``."""
        found: Tensor = self.lstm(code)[0]
        return found

    def decode(self, code: Tensor, mixture: Tensor) -> Tensor:
        """Magnitudes ``(B, C, F, N)`` of ``(N, B, 2 H)``."""
        rows = F.relu(self.bn2(self.fc2(code.flatten(0, 1))))
        rows = self.bn3(self.fc3(rows))
        mask = rows.unflatten(1, mixture.shape[1:3]) * self.output_scale + self.output_mean
        return F.relu(mask.unflatten(0, code.shape[:2])).permute(1, 2, 3, 0) * mixture


def weighted_sdr(estimate: Tensor, reference: Tensor, mixture: Tensor) -> Tensor:
    """Minus the cosine between estimate and reference, and between what each leaves, ``(..., T)``.

    The two cosines weigh as the energies of the reference and of what it leaves; the best value is
    -1.

    Reference: Choi et al., "Phase-aware speech enhancement with deep complex U-Net", ICLR 2019.
    """
    rest, left = mixture - reference, mixture - estimate
    source_energy, rest_energy = reference.square().sum(-1), rest.square().sum(-1)
    share = source_energy / (source_energy + rest_energy + 1e-8)
    near = F.cosine_similarity(estimate, reference, -1)
    return -share * near - (1 - share) * F.cosine_similarity(left, rest, -1)


# ----------------------------------------------------------------- published weights


def from_open_unmix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a `RecurrentNetwork` from a published file of one source.

    Others are left out: older files hold a window and the sample rate.

    Raises:
        ReleaseError: one is missing.
    """
    wanted = RecurrentNetwork(1, 2, 2, 2, _n_layers(state)).state_dict()
    missing = [key for key in wanted if key not in state]
    if missing:
        raise ReleaseError(f"this is no Open-Unmix file: {', '.join(missing[:4])} missing.")
    return {key: state[key] for key in wanted}


def from_x_umx(state: Mapping[str, Tensor], sources: Sequence[str]) -> dict[str, Tensor]:
    """Tensors of a bridged `OpenUnmix` from a file of X-UMX as Asteroid writes them.

    Args:
        state: the file's ``state_dict``.
        sources: that it must hold.

    Raises:
        ReleaseError: a tensor is missing, or one is there of another kind of model or source.
    """
    dense = {"enc.0": "fc1", "enc.1": "bn1", "dec.0": "fc2", "dec.1": "bn2", "dec.3": "fc3",
             "dec.4": "bn3"}  # fmt: skip
    states: dict[str, dict[str, Tensor]] = {source: {} for source in sources}
    for key, value in state.items():
        match key.split("."):
            case ["mean_scale", name]:
                own, _, place = name.rpartition("_")
            case ["layer_lstm", place, *rest]:
                own = ".".join(["lstm", *(part for part in rest if part != "lstm")])
            case ["layer_enc" | "layer_dec", place, part, number, tensor]:
                own = f"{dense.get(f'{part}.{number}', '?')}.{tensor}"
            case ["encoder" | "decoder", *_]:
                continue  # windows
            case _:
                raise ReleaseError(f"this is no X-UMX file: it holds {key!r}.")
        if place not in states:
            raise ReleaseError(f"this is no X-UMX of {', '.join(sources)}: it has {key!r}.")
        states[place][own] = value
    return {
        f"networks.{source}.{key}": value
        for source, own_state in states.items()
        for key, value in from_open_unmix(own_state).items()
    }


def _n_layers(state: Mapping[str, Tensor]) -> int:
    layers = {key.removesuffix("_reverse") for key in state if key.startswith("lstm.weight_ih")}
    return max(1, len(layers))
