"""HTDemucs: Hybrid Demucs with a transformer in the middle, as the package demucs has it.

S. Rouard, F. Massa, A. Defossez, "Hybrid transformers for music source separation", ICASSP 2023,
arXiv 2211.08553.

In:  mixture ``(B, C, T)``, 44.1 kHz stereo.   Out: estimates ``(B, J, C, T)``.

26 899 536 parameters for four sources.  Waveform and spectrogram each have a U-Net of four levels;
at the bottom, attention within and across the two.

Departures from the package
    * Inputs of any length are taken; the package fills shorter ones up to its training segment.
      ``zoo separate --chunk 7.8`` separates as it does, cross-faded.
    * Each input, in training too, is made alike loud, and its mean is shared out among the sources;
      the package's program does so for a whole song, and gives the mean to every source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, ClassVar

from zoo.compat import torchaudio
from zoo.errors import MissingPackage, RecipeError, check_least
from zoo.models import TABLE
from zoo.models.blocks import HybridSeparator


class HTDemucs(HybridSeparator):
    """demucs's ``HTDemucs``.

    Args:
        sources: names, in the order of the estimates.
        sample_rate: in Hz.
        channels: of the audio.
        width: maps of the first level; each has twice as many as the one before.
        n_fft: STFT window in samples.
        depth: levels of the U-Nets; a few bins must be left below them.
        bottom_width: maps between the U-Nets and the transformer, by layers of their own; 0: none.
        n_layers: of the transformer.
        n_heads: of its attention.
        network: further arguments of the package's class.
        segment_s: of a training example, in seconds.
    """

    architecture = "htdemucs"
    tiny: ClassVar = TABLE["htdemucs"]["tiny"]

    def __init__(
        self,
        sources: Sequence[str] = ("drums", "bass", "other", "vocals"),
        sample_rate: int = 44100,
        channels: int = 2,
        width: int = 48,
        n_fft: int = 4096,
        depth: int = 4,
        bottom_width: int = 0,
        n_layers: int = 5,
        n_heads: int = 8,
        network: Mapping[str, Any] | None = None,
        segment_s: float = 7.8,
    ) -> None:
        super().__init__(sources, sample_rate, channels, n_fft, segment_s)
        self.save_hyperparameters()
        check_least(1, depth=depth, n_layers=n_layers, n_heads=n_heads)
        check_least(8, width=width)  # what a residual branch divides it by
        check_least(0, bottom_width=bottom_width)
        more = dict(network or {})
        n_attended = bottom_width or width * more.get("growth", 2) ** (depth - 1)
        if n_attended % n_heads or n_attended % 4:
            raise RecipeError(
                f"n_heads is {n_heads}; the {n_attended} maps that the transformer sees are to be "
                "a multiple of it, and of 4. Change n_heads, width, depth or bottom_width."
            )
        if find_spec("demucs") is None:
            raise MissingPackage(
                "HTDemucs needs the package demucs: `pip install 'music-separation-zoo[demucs]'`."
            )
        torchaudio.load()  # which demucs imports
        from demucs.htdemucs import HTDemucs as Network

        try:
            self.network = Network(
                list(self.sources), channels, width, nfft=n_fft, depth=depth,
                bottom_channels=bottom_width, t_layers=n_layers, t_heads=n_heads,
                samplerate=sample_rate, segment=segment_s, use_train_segment=False, **more,
            )  # fmt: skip
        except (TypeError, ValueError, AssertionError) as error:
            raise RecipeError(f"demucs's HTDemucs takes no such arguments: {error}") from error
