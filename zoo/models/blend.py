"""BLEND: a weighted mean of what several systems give, before anything is made of it.

S. Uhlich et al., "Improving music source separation based on deep neural networks through data
augmentation and network blending", ICASSP 2017, pp. 261-265: the raw magnitudes of FNN and BLSTM
are averaged, and the multichannel Wiener filter takes its spectra and covariances from the mean.

In:  mixture ``(B, C, T)``.   Out: estimates ``(B, J, C, T)``.

    ``S_j = sum over members k of w_jk S_jk``

of magnitudes on one STFT grid (``domain="magnitude"``) or of waveforms (``"waveform"``, for any
members).  Weights are one for each member, or one for each source and member; `fitted` finds those
that are best on given songs.

Departures from the paper
    * Any members and weights; the paper blends FNN and BLSTM.
    * A member on another grid than the first is brought there by way of a signal with the mixture's
      phase.
    * The filter's covariances are those of a chunk, or of the song (``covariance="song"``).
    * Members that are trained inside a blend learn side by side, each by its own loss.

Inferred or unconfirmed
    * The weights 0.25 and 0.75 are recalled; that the blend comes before the filter is documented.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from tempfile import TemporaryFile
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from scipy.optimize import nnls
from torch import Tensor, nn

from zoo import catalog
from zoo.dsp.stft import STFT
from zoo.dsp.wiener import initial_estimates, spatial_covariances, spatial_statistics, wiener
from zoo.errors import RecipeError, check_choice, check_least
from zoo.models import TABLE
from zoo.models.targets import TargetNetworks, song_covariances
from zoo.separator import Separator, State

Weights = Mapping[str, Any]  # member -> weight, or source -> member -> weight

PAPER: dict[str, Any] = {  # on BLSTM's grid
    "fnn": {"architecture": "fnn", "arguments": {"n_fft": 4096}},
    "blstm": {"architecture": "blstm"},
}
PAPER_WEIGHTS = {"fnn": 0.25, "blstm": 0.75}  # recalled


class Blend(Separator):
    """Several systems as one.

    Args:
        sources: of all members, unless their arguments say otherwise; names, in the order of the
            estimates.
        sample_rate: likewise, in Hz.
        channels: likewise.
        members: name -> ``architecture``, of the catalog, and ``arguments``; None: the paper's.
        weights: name -> weight, or source -> name -> weight; None: equal ones, or the paper's.
        domain: ``"magnitude"`` or ``"waveform"``.
        wiener_iterations, wiener_reg, covariance: of the filter after a blend of magnitudes, see
            `zoo.models.targets.TargetNetworks`.
    """

    channels: int
    architecture = "blend"
    tiny: ClassVar = TABLE["blend"]["tiny"]

    def __init__(
        self,
        sources: Sequence[str] = ("bass", "drums", "other", "vocals"),
        sample_rate: int = 44100,
        channels: int = 2,
        members: Mapping[str, Mapping[str, Any]] | None = None,
        weights: Weights | None = None,
        domain: Literal["magnitude", "waveform"] = "magnitude",
        wiener_iterations: int = 1,
        wiener_reg: Literal["relative", "norbert", "pinv"] = "relative",
        covariance: Literal["chunk", "song"] = "chunk",
    ) -> None:
        check_choice("domain", domain, ("magnitude", "waveform"))
        check_least(0, wiener_iterations=wiener_iterations)
        check_choice("wiener_reg", wiener_reg, ("relative", "norbert", "pinv"))
        check_choice("covariance", covariance, ("chunk", "song"))
        if members is None:
            members, weights = PAPER, weights or PAPER_WEIGHTS
        if not members:
            raise RecipeError("a blend has no members; name some, each with its architecture.")
        given = {"sources": sources, "sample_rate": sample_rate, "channels": channels}
        built = {name: _member(name, facts, given) for name, facts in members.items()}
        super().__init__(sources, sample_rate, channels)
        self.save_hyperparameters()
        for name, member in built.items():
            _check_alike(name, member, self)
            if domain == "magnitude" and not isinstance(member, TargetNetworks):
                raise RecipeError(
                    f"member {name!r} ({member.architecture}) gives no magnitudes; blend with "
                    "domain 'waveform'."
                )
        self.members = nn.ModuleDict(built)
        self.domain, self.covariance = domain, covariance
        self.wiener_iterations, self.wiener_reg = wiener_iterations, wiener_reg
        self.register_buffer("weights", _table(weights, list(built), self.sources))

    weights: Tensor

    @property
    def _list(self) -> list[Separator]:
        return list(self.members.values())  # type: ignore[arg-type]

    @property
    def segment(self) -> int:
        """The longest of the members'."""
        return max(member.segment for member in self._list)

    @property
    def grid(self) -> int:
        """A multiple of every member's."""
        return int(np.lcm.reduce([member.grid for member in self._list]))

    @property
    def context(self) -> int | None:
        """The longest of the members'; None where one of them, or the filter, has none."""
        changes = self.wiener_reg != "relative" or (self.channels > 1 and not self.surveys)
        if self.domain == "magnitude" and self.wiener_iterations and changes:
            return None
        reaches = [self._reach(member) for member in self._list]
        known = [reach for reach in reaches if reach is not None]
        return max(known) if len(known) == len(reaches) else None

    def _reach(self, member: Separator) -> int | None:
        """Samples on each side that what is taken of a member depends on."""
        if self.domain == "waveform":
            return member.context
        assert isinstance(member, TargetNetworks)
        if member.context_frames is None:
            return None
        # the windows of its own grid, and of the first member's, to which it is brought
        return member.context_frames * member.stft.hop + member.stft.n_fft + self._grid.n_fft

    @property
    def surveys(self) -> bool:
        """Whether a member, or the filter, has to see the whole song first."""
        if self.domain == "waveform":
            return any(member.surveys for member in self._list)
        return bool(self.wiener_iterations) and self.channels > 1 and self.covariance == "song"

    def forward(self, mixture: Tensor, state: State = None) -> Tensor:
        """Estimates ``(B, J, C, T)`` of a mixture ``(B, C, T)``."""
        if self.domain == "waveform":
            weights = self.weights.to(mixture.dtype)
            return torch.einsum("jk,kbjct->bjct", weights, self.separately(mixture, state))
        spectrum, magnitudes = self._grid(mixture), self.magnitudes(mixture)
        covariances = state["covariances"] if state else None
        if covariances is None and self.surveys:
            initial = initial_estimates(magnitudes, spectrum)
            covariances = spatial_covariances(*spatial_statistics(initial))
        estimates = wiener(
            magnitudes,
            spectrum,
            iterations=self.wiener_iterations,
            reg=self.wiener_reg,
            covariances=covariances,
        )
        signals: Tensor = self._grid.inverse(estimates, mixture.shape[-1])
        return signals

    def survey(self, chunks: Iterable[tuple[Tensor, slice]]) -> State:
        """The covariances of a blend of magnitudes; of waveforms, what each member finds."""
        if self.domain == "magnitude":
            return {"covariances": song_covariances(chunks, self._grid, self._initial)}
        with TemporaryFile() as file:  # each member wants the song, which can be read but once
            keeps = []
            for mixture, keep in chunks:
                np.save(file, mixture.cpu().numpy())
                keeps.append(keep)

            def again() -> Iterator[tuple[Tensor, slice]]:
                file.seek(0)
                for keep in keeps:
                    yield torch.from_numpy(np.load(file)).to(self.device), keep

            return {
                f"{name}.{key}": value
                for name, member in zip(self.members, self._list, strict=True)
                if member.surveys
                for key, value in (member.survey(again()) or {}).items()
            }

    def separately(self, mixture: Tensor, state: State = None) -> Tensor:
        """What each member gives, ``(K, B, J, C, T)``, in the order of the blend's sources."""
        found = []
        for name, member in zip(self.members, self._list, strict=True):
            own = {
                key.removeprefix(f"{name}."): value
                for key, value in (state or {}).items()
                if key.startswith(f"{name}.")
            }
            estimates = member(mixture, own or None)
            found.append(estimates[:, [member.sources.index(source) for source in self.sources]])
        return torch.stack(found)

    def magnitudes(self, mixture: Tensor) -> Tensor:
        """The mean of the members' magnitudes ``(B, J, C, F, N)``, of a mixture ``(B, C, T)``."""
        found = torch.stack([self._magnitudes(member, mixture) for member in self._list])
        return torch.einsum("jk,kbjcfn->bjcfn", self.weights.to(mixture.dtype), found)

    def _initial(self, mixture: Tensor) -> Tensor:
        return initial_estimates(self.magnitudes(mixture), self._grid(mixture))

    @property
    def _grid(self) -> STFT:
        first = self._list[0]
        assert isinstance(first, TargetNetworks)
        return first.stft

    def _magnitudes(self, member: Separator, mixture: Tensor) -> Tensor:
        """Raw magnitudes ``(B, J, C, F, N)`` of a member, on the grid of the first."""
        assert isinstance(member, TargetNetworks)
        first = self._grid
        spectrum = member.stft(mixture)
        raw = member.magnitudes(spectrum)
        named = dict(zip(member.targets, raw.unbind(1), strict=True))
        if member.derived:
            named[member.derived] = (spectrum.abs() - raw.sum(1)).clamp(min=0)
        ordered = torch.stack([named[source] for source in self.sources], 1)
        if (member.stft.n_fft, member.stft.hop) == (first.n_fft, first.hop):
            return ordered
        phase = torch.polar(torch.ones_like(spectrum.real), spectrum.angle())[:, None]
        signals = member.stft.inverse(ordered * phase, mixture.shape[-1])
        moved: Tensor = first(signals).abs()
        return moved

    def loss(self, mixture: Tensor, references: Tensor, known: Tensor) -> dict[str, Tensor]:
        """The sum of the members' losses; each learns from its own."""
        parts = {}
        for name, member in zip(self.members, self._list, strict=True):
            order = [self.sources.index(source) for source in member.sources]
            found = member.loss(mixture, references[:, order], known[:, order])
            parts[name] = found["loss"]
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    # Lightning calls the hooks of the outermost module alone.

    def on_fit_start(self) -> None:
        """The members prepare themselves."""
        for member in self._list:
            member.trainer = self.trainer
            member.on_fit_start()

    def on_train_start(self) -> None:  # noqa: D102
        super().on_train_start()
        for member in self._list:
            member.on_train_start()

    def on_train_epoch_start(self) -> None:  # noqa: D102
        for member in self._list:
            member.on_train_epoch_start()

    def on_after_backward(self) -> None:  # noqa: D102
        for member in self._list:
            member.on_after_backward()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam at 1e-3."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def of(
    models: Mapping[str, Separator],
    weights: Weights | None = None,
    domain: Literal["magnitude", "waveform"] = "waveform",
    wiener_iterations: int = 1,
    wiener_reg: Literal["relative", "norbert", "pinv"] = "relative",
    covariance: Literal["chunk", "song"] = "chunk",
) -> Blend:
    """A blend of models that are there, with their weights.

    Args:
        models: name, without dots -> model.
        weights: see `Blend`.
        domain: see `Blend`.
        wiener_iterations: of the filter after a blend of magnitudes.
        wiener_reg: of that filter.
        covariance: of that filter.

    Raises:
        RecipeError: the models disagree in sources, rate or channels.
    """
    named = dict(models)
    first = next(iter(named.values()))
    members = {
        name: {"architecture": model.architecture, "arguments": model.arguments}
        for name, model in named.items()
    }
    assert first.sample_rate is not None and first.channels is not None
    blend = Blend(
        first.sources, first.sample_rate, first.channels, members, weights, domain,
        wiener_iterations, wiener_reg, covariance,
    )  # fmt: skip
    for name, model in named.items():
        blend.members[name].load_state_dict(model.state_dict())
    return blend.eval()


def fitted(blend: Blend, songs: Iterable[tuple[Tensor, Tensor]]) -> dict[str, dict[str, float]]:
    """The weights, none below zero, whose blend of waveforms comes nearest to the references.

    Args:
        blend: whose members are weighed; it is not changed.
        songs: to validate on: mixtures ``(C, T)`` with references ``(J, C, T)``.

    Returns:
        Source -> member -> weight, as `Blend` takes them.
    """
    n_members, n_sources = len(blend.members), len(blend.sources)
    gram = torch.zeros(n_sources, n_members, n_members, dtype=torch.float64)
    cross = torch.zeros(n_sources, n_members, dtype=torch.float64)
    for mixture, references in songs:
        with torch.inference_mode():
            found = blend.eval().separately(mixture[None])[:, 0].double()
        rows = found.transpose(0, 1).flatten(2)  # (J, K, C T)
        gram += rows @ rows.mT
        cross += (rows @ references.double().flatten(1)[..., None])[..., 0]
    weights = {}
    for j, source in enumerate(blend.sources):
        # |A w - s|^2 with A'A = L L' is |L' w - L^-1 A's|^2 and a constant.
        size = float(gram[j].trace()) / n_members
        factor = torch.linalg.cholesky(gram[j] + 1e-9 * size * torch.eye(n_members).double())
        target = torch.linalg.solve_triangular(factor, cross[j][:, None], upper=False)[:, 0]
        best, _ = nnls(factor.mT.numpy(), target.numpy())
        weights[source] = {n: float(w) for n, w in zip(blend.members, best, strict=True)}
    return weights


def _member(name: str, facts: Mapping[str, Any], given: Mapping[str, Any]) -> Separator:
    if "architecture" not in facts or set(facts) - {"architecture", "arguments"}:
        raise RecipeError(
            f"member {name!r} is {dict(facts)}; expected architecture, and arguments if need be."
        )
    if "." in name:
        raise RecipeError(f"member {name!r} has a dot in its name; choose another.")
    return catalog.create(facts["architecture"], **{**given, **(facts.get("arguments") or {})})


def _check_alike(name: str, member: Separator, first: Separator) -> None:
    for what, mine, theirs in (
        ("sources", sorted(member.sources), sorted(first.sources)),
        ("rate", member.sample_rate, first.sample_rate),
        ("channels", member.channels, first.channels),
    ):
        if mine != theirs:
            raise RecipeError(
                f"members of a blend must agree, and {name!r} has {what} {mine}, not {theirs}."
            )


def _table(weights: Weights | None, names: Sequence[str], sources: Sequence[str]) -> Tensor:
    """``(J, K)``: a weight for each source and member."""
    if weights is None:
        return torch.full((len(sources), len(names)), 1 / len(names))
    is_by_source = all(isinstance(value, Mapping) for value in weights.values())
    rows = weights if is_by_source else dict.fromkeys(sources, weights)
    if set(rows) != set(sources) or any(set(row) != set(names) for row in rows.values()):
        raise RecipeError(
            f"weights {dict(weights)} do not fit; expected one for each of {', '.join(names)}, or "
            f"for each source ({', '.join(sources)}) one for each of them."
        )
    table = [[float(rows[source][name]) for name in names] for source in sources]
    if not all(0 <= weight < math.inf for row in table for weight in row):
        raise RecipeError(f"weights {dict(weights)}; they must be finite, none below zero.")
    return torch.tensor(table)
