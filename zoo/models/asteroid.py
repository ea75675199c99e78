"""Asteroid's separators of waveforms, as the package has them: one adapter for all.

M. Pariente et al., "Asteroid: the PyTorch-based audio source separation toolkit for researchers",
Interspeech 2020; the networks' papers are named there.

In:  mixture ``(B, C, T)``; the networks are mono and take channel after channel.
Out: estimates ``(B, J, C, T)``; of a network with one source, the other is what it leaves.

    ======================  ==============================================
    ``model_name``          network
    ======================  ==============================================
    ``ConvTasNet``          masks on a learned transform
    ``DPRNNTasNet``         the same by recurrent layers on two scales
    ``DPTNet``              and with attention
    ``SuDORMRFNet``         strided convolutions and back, many times
    ``SuDORMRFImprovedNet`` the same, lighter
    ``LSTMTasNet``          the first of its kind, recurrent
    ``DCUNet``              a complex U-Net on the spectrogram; one source
    ======================  ==============================================

Two more classes of asteroid 0.7.0 cannot be made with current packages: ``DCCRNet`` and ``XUMX``
(which is `zoo.models.umx`).

Departures from the package
    * Its ``separate`` scales all estimates by one factor over the batch; here `forward` is used.
    * Sources are ordered, so losses need no permutation; silent references do not count.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.compat import asteroid
from zoo.errors import RecipeError, ReleaseError, check_choice, check_least
from zoo.models import TABLE
from zoo.separator import SHORTEST_S, Separator, State, masked_mean

NAMES = (
    "ConvTasNet", "DPRNNTasNet", "DPTNet", "SuDORMRFNet", "SuDORMRFImprovedNet", "LSTMTasNet",
    "DCUNet",
)  # fmt: skip
SHORTEST = 4096  # samples; some networks cannot take less
Criterion = Literal["neg_snr", "neg_sisdr", "neg_sdsdr", "mse"]


class AsteroidModel(Separator):
    """One network of asteroid.

    Args:
        sources: names, in the order of the network's outputs; the last one has none where the
            network gives one source.
        sample_rate: in Hz.
        channels: of the audio; each goes through the network alone.
        model_name: of asteroid's class; see the file.
        model_args: of that class, beside the number of sources and the rate.
        criterion: asteroid's loss of one source.
        segment_s: of a training example, in seconds.
    """

    channels: int
    architecture = "asteroid"
    tiny: ClassVar = TABLE["asteroid"]["tiny"]

    def __init__(
        self,
        sources: Sequence[str] = ("vocals", "drums", "bass", "other"),
        sample_rate: int = 44100,
        channels: int = 1,
        model_name: str = "ConvTasNet",
        model_args: Mapping[str, Any] | None = None,
        criterion: Criterion = "neg_snr",
        segment_s: float = 4.0,
    ) -> None:
        super().__init__(sources, sample_rate, channels)
        self.save_hyperparameters()
        check_least(SHORTEST_S, segment_s=segment_s)
        check_choice("model_name", model_name, NAMES)
        check_choice("criterion", criterion, ("neg_snr", "neg_sisdr", "neg_sdsdr", "mse"))
        self.criterion, self._segment = criterion, round(segment_s * sample_rate)
        gives_one = model_name == "DCUNet"
        if gives_one and len(self.sources) != 2:
            raise RecipeError(
                f"{model_name} gives one source, so it is for two, not {len(self.sources)}: "
                f"{', '.join(self.sources)}."
            )
        arguments: dict[str, Any] = {"sample_rate": sample_rate, **(model_args or {})}
        if gives_one:
            arguments = {"architecture": "DCUNet-10", "fix_length_mode": "pad", **arguments}
        else:
            arguments["n_src"] = len(self.sources)
        cls = getattr(asteroid.load().models, model_name)
        try:
            self.network: nn.Module = cls(**arguments)
        except TypeError as error:
            raise RecipeError(f"model_args of {model_name}: {error}.") from error
        if model_name == "ConvTasNet" and self.network.masker.skip_chan:
            # All but the skip of the last block is lost; strategy ddp would wait for its gradient.
            self.network.masker.TCN[-1].res_conv.requires_grad_(False)

    @property
    def segment(self) -> int:
        """Samples of a training example."""
        return self._segment

    def forward(self, mixture: Tensor, state: State = None) -> Tensor:
        """Estimates ``(B, J, C, T)`` of a mixture ``(B, C, T)``."""
        n_samples = mixture.shape[-1]
        mono = F.pad(mixture.flatten(0, 1), (0, max(0, SHORTEST - n_samples)))
        found = self.network(mono[:, None])[..., :n_samples]  # (B C, J, T)
        estimates: Tensor = found.unflatten(0, mixture.shape[:2]).transpose(1, 2)
        if estimates.shape[1] < len(self.sources):
            estimates = torch.cat([estimates, mixture[:, None] - estimates], 1)
        return estimates

    def loss(self, mixture: Tensor, references: Tensor, known: Tensor) -> dict[str, Tensor]:
        """Asteroid's loss of each source, over the channels in which it sounds."""
        # Looked up here: a model that holds a package can neither be copied nor pickled.
        single = getattr(asteroid.load().losses, f"singlesrc_{self.criterion}")
        estimates = self(mixture)
        parts = {}
        for j, source in enumerate(self.sources):
            true = references[:, j].flatten(0, 1)
            sounds = known[:, j].repeat_interleave(self.channels) & (true != 0).any(-1)
            values = single(estimates[:, j].flatten(0, 1), true)
            parts[source] = masked_mean(values.masked_fill(~sounds, 0), sounds)
        return {"loss": torch.stack(list(parts.values())).mean(), **parts}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam at 1e-3."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def from_checkpoint(path: str | os.PathLike[str], sources: Sequence[str]) -> AsteroidModel:
    """A model from a file that asteroid wrote; no code of the file is run.

    Args:
        path: of the file.
        sources: names of its outputs.

    Raises:
        ReleaseError: it is no such file, or of a class that is not known here.
    """
    try:
        with torch.serialization.safe_globals([torch.torch_version.TorchVersion]):
            content = torch.load(path, map_location="cpu", weights_only=True)
        name, arguments = content["model_name"], dict(content["model_args"])
        state = dict(content["state_dict"])
        rate = int(arguments.pop("sample_rate", None) or 8000)  # asteroid's own default
    except Exception as error:  # whatever an odd file makes of the unpickler
        raise ReleaseError(
            f"{path} is no checkpoint of asteroid, or holds something that could run code."
        ) from error
    if name not in NAMES:
        raise ReleaseError(f"{path} holds a {name}; known are {', '.join(NAMES)}.")
    n_sources = arguments.pop("n_src", 1)
    if name != "DCUNet" and n_sources != len(sources):
        raise ReleaseError(f"{path} gives {n_sources} sources; name as many, not {list(sources)}.")
    model = AsteroidModel(sources, rate, 1, name, arguments)
    try:
        model.network.load_state_dict(state)
    except RuntimeError as error:
        raise ReleaseError(f"{path}: {str(error).splitlines()[0]}") from error
    return model.eval()
