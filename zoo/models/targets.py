"""What networks that estimate the magnitude of one source each have in common.

Every target has a network, all networks see the mixture's magnitudes, and a multichannel Wiener
filter makes estimates that fit together of what they give.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from zoo.dsp.stft import STFT
from zoo.dsp.wiener import initial_estimates, spatial_covariances, spatial_statistics, wiener
from zoo.errors import RecipeError, check_choice, check_least
from zoo.separator import Separator, State, mean_losses


class TargetNetworks(Separator):
    """One network per target, joined by a multichannel Wiener filter.

    A system fills ``networks``, target -> network, and gives `magnitudes` and `context_frames`.

    Args:
        sources: names, in the order of the estimates.
        sample_rate: in Hz.
        channels: of the audio.
        targets: sources that have a network; the one other source, if there is one, is the mixture
            minus them. All by default.
        stft: of the mixture.
        wiener_iterations: of the multichannel Wiener filter; 0 leaves the magnitudes as they are,
            with the mixture's phase.
        wiener_reg: ``"relative"``, ``"norbert"`` or ``"pinv"``; see `zoo.dsp.wiener`.
        covariance: ``"chunk"`` estimates the sources' spatial covariances anew in each chunk, in
            one pass; ``"song"`` over the whole song, as the papers, in two.
    """

    channels: int  # the networks are built for a number of them
    objective: Literal["magnitude", "spectrum"] = "magnitude"  # what `loss` compares

    def __init__(
        self,
        sources: Sequence[str],
        sample_rate: int,
        channels: int,
        targets: Sequence[str] | None,
        stft: STFT,
        wiener_iterations: int,
        wiener_reg: Literal["relative", "norbert", "pinv"],
        covariance: Literal["chunk", "song"],
    ) -> None:
        super().__init__(sources, sample_rate, channels)
        self.targets = tuple(self.sources if targets is None else targets)
        unknown = set(self.targets) - set(self.sources)
        n_distinct, n_sources = len(set(self.targets)), len(self.sources)
        if unknown or not self.targets or not len(self.targets) == n_distinct >= n_sources - 1:
            raise RecipeError(
                f"targets {list(self.targets)} of sources {list(self.sources)}; expected all of "
                "them, or all but one, which is the mixture minus the others."
            )
        check_least(0, wiener_iterations=wiener_iterations)
        check_choice("covariance", covariance, ("chunk", "song"))
        check_choice("wiener_reg", wiener_reg, ("relative", "norbert", "pinv"))
        self.wiener_iterations, self.wiener_reg = wiener_iterations, wiener_reg
        self.covariance = covariance
        # A source without a network takes part in the Wiener filter as what the others leave.
        self._has_residual = self.derived is not None
        self.stft = stft
        self.networks = nn.ModuleDict()

    def magnitudes(self, spectrum: Tensor) -> Tensor:
        """Magnitudes of the targets, ``(B, J, C, F, N)``, of a spectrum ``(B, C, F, N)``."""
        raise NotImplementedError

    @property
    def context_frames(self) -> int | None:
        """Frames on each side that a network reads; None: all of them."""
        return None

    @property
    def context(self) -> int | None:
        """Frames that the networks read on each side, and the windows around them.

        None where that is all of them, and where the Wiener filter's covariances change with the
        chunk (with one channel they do not), or its regulariser, which the rules but ``"relative"``
        take from the loudest bin.
        """
        changes = self.wiener_reg != "relative" or (self.channels > 1 and not self.surveys)
        if self.context_frames is None or (self.wiener_iterations and changes):
            return None
        return self.context_frames * self.stft.hop + self.stft.n_fft

    @property
    def grid(self) -> int:
        """Frames of a chunk are frames of the song."""
        return self.stft.hop

    @property
    def surveys(self) -> bool:
        """Whether the covariances come from the whole song."""
        return bool(self.wiener_iterations) and self.channels > 1 and self.covariance == "song"

    @property
    def derived(self) -> str | None:
        """The source without a network of its own."""
        return next((name for name in self.sources if name not in self.targets), None)

    def forward(self, mixture: Tensor, state: State = None) -> Tensor:
        """Estimates ``(B, J, C, T)`` of a mixture ``(B, C, T)``."""
        spectrum = self.stft(mixture)
        magnitudes = self.magnitudes(spectrum)
        covariances = state["covariances"] if state else None
        if covariances is None and self.surveys:
            initial = self._initial(magnitudes, spectrum)
            covariances = spatial_covariances(*spatial_statistics(initial))
        estimates = wiener(
            magnitudes,
            spectrum,
            iterations=self.wiener_iterations,
            reg=self.wiener_reg,
            residual=self._has_residual,
            covariances=covariances,
        )
        signals = self.stft.inverse(estimates[:, : len(self.targets)], mixture.shape[-1])
        named = dict(zip(self.targets, signals.unbind(1), strict=True))
        if self.derived:
            named[self.derived] = mixture - signals.sum(1)
        return torch.stack([named[name] for name in self.sources], dim=1)

    def survey(self, chunks: Iterable[tuple[Tensor, slice]]) -> State:
        """The spatial covariances ``(B, J, F, C, C)`` of each source over the whole song."""

        def initial(mixture: Tensor) -> Tensor:
            spectrum = self.stft(mixture)
            return self._initial(self.magnitudes(spectrum), spectrum)

        return {"covariances": song_covariances(chunks, self.stft, initial)}

    def _initial(self, magnitudes: Tensor, spectrum: Tensor) -> Tensor:
        return initial_estimates(magnitudes, spectrum, residual=self._has_residual)

    def loss(self, mixture: Tensor, references: Tensor, known: Tensor) -> dict[str, Tensor]:
        """Squared error between the magnitudes of estimates and references.

        With the objective ``"spectrum"``, between their spectra; an estimate has the phase of the
        mixture.
        """
        columns = [self.sources.index(name) for name in self.targets]
        true, spectrum = self.stft(references[:, columns]), self.stft(mixture)
        found = self.magnitudes(spectrum)
        if self.objective == "spectrum":
            # Its part that is out of phase is lost to every magnitude, and has no gradient.
            in_phase = torch.polar(torch.ones_like(spectrum.real), -spectrum.angle())[:, None]
            difference = torch.view_as_real(found - true * in_phase)
            errors = difference.square().sum(-1).mean((2, 3, 4))  # (B, J)
        else:
            errors = (found - true.abs()).square().mean((2, 3, 4))
        return mean_losses(errors, known[:, columns], self.targets)

    def only(self, sources: Sequence[str]) -> tuple[Separator, str | None]:
        """A view of this model with the networks that ``sources`` need, sharing the weights."""
        targets = [name for name in self.targets if name in sources]
        if self.derived in sources or len(targets) == len(self.targets):
            return self, None
        view = copy.copy(self)
        view.__dict__["_modules"] = dict(self._modules)
        view.networks = nn.ModuleDict({name: self.networks[name] for name in targets})
        view.sources = view.targets = tuple(targets)
        view._has_residual = True
        if not self.wiener_iterations:
            return view, None
        return view, (
            f"only {', '.join(targets)} computed: the Wiener filter weighs against all the rest as "
            "one source, so the result differs a little from that of the whole model"
        )


def song_covariances(
    chunks: Iterable[tuple[Tensor, slice]], stft: STFT, initial: Callable[[Tensor], Tensor]
) -> Tensor:
    """The spatial covariances ``(B, J, F, C, C)`` of each source over a whole song.

    Args:
        chunks: of the song, as `Separator.survey` has them.
        stft: of the estimates.
        initial: mixtures ``(B, C, n)`` -> estimates ``(B, J, C, F, N)`` before the Wiener filter.
    """
    totals: tuple[Tensor, Tensor] | None = None
    for mixture, keep in chunks:
        ends = keep.stop >= mixture.shape[-1]
        frames = slice(-(-keep.start // stft.hop), None if ends else -(-keep.stop // stft.hop))
        part = spatial_statistics(initial(mixture)[..., frames])
        totals = part if totals is None else (totals[0] + part[0], totals[1] + part[1])
    assert totals is not None
    return spatial_covariances(*totals)
