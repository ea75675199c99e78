"""Systems: whatever gives estimates of a track, piece by piece, and what is known of it.

========================  ===============  ================================================
written as                kind
========================  ===============  ================================================
name of a release, or     release          weights of the zoo
its folder
``runs/x/last.ckpt``      checkpoint       weights of `zoo fit`
``projet``,               system           one that needs no training, with its arguments; its
``duet:max_delay=10``                      objects are matched to the references by the best
                                           permutation
folder of estimates       estimates        ``<folder>/<track>/<source>.wav``, as `zoo separate`
                                           and `zoo predict` write them
``oracle:irm1``...        oracle           see `zoo.evaluation.oracles`
``mixture``               mixture          the mixture, shared out equally
========================  ===============  ================================================

``NAME=`` before one of these is what boards call it.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from zoo import catalog
from zoo.audio import SUFFIXES, open_audio
from zoo.data.scenes import SceneTrack, StoredScene
from zoo.data.songs import TrackSignal
from zoo.data.track import Split, Track
from zoo.errors import AudioFileError, DatasetError, UnknownModel, ZooError, sentence
from zoo.evaluation.oracles import ORACLES
from zoo.release import RECORD, from_pretrained
from zoo.separator import Separator
from zoo.streaming import Separation, complement
from zoo.training.identity import called, identity

SILENT = 1e-9  # energy: silence against silence is no error
SEED = 0  # of systems that draw random numbers, before each track
_BLOCK = 1 << 18
_NAMED = re.compile(r"(?P<name>[\w.-]+)=(?P<what>.+)")


@dataclass(frozen=True)
class System(ABC):
    """Something that gives estimates.

    Attributes:
        name: shown on boards.
        given: the sources that it has estimates of; None: all that a track has.
        derived: those that follow from them and the mixture.
    """

    name: str
    given: tuple[str, ...] | None = None
    derived: tuple[str, ...] = ()

    kind = ""
    is_trusted = True  # its estimates cannot but be aligned and named right

    @abstractmethod
    def facts(self, track: Track) -> dict[str, Any]:
        """What identifies the estimates of a track: release, sha256, arguments, seed."""

    @abstractmethod
    def pieces(self, track: Track, sources: Sequence[str]) -> Iterator[Tensor]:
        """Estimates in order, ``(J, C, n)``, at the track's rate."""

    def measures(self) -> dict[str, Any]:
        """Further facts: parameters, and the device of what separates."""
        return {}


@dataclass(frozen=True)
class ModelSystem(System):
    """A `Separator`.

    Attributes:
        model: itself, or how to get it.
        kind: release, checkpoint or system.
        device: as `Separator.on` has it.
        identity: as `zoo.training.identity` has it.
    """

    model: Separator | str = ""
    kind: str = "system"
    device: str = "cpu"
    identity: dict[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, name: str | None, model: Separator | str, device: str) -> ModelSystem:
        """A model, which is loaded once in each process."""
        loaded = _loaded(model, device)
        own = tuple(loaded.sources)
        derived = tuple(complement(s) for s in own if complement(s) not in own)
        facts = identity(loaded)
        return cls(name or called(loaded), own, derived, model, facts["kind"], device, facts)

    def facts(self, track: Track) -> dict[str, Any]:  # noqa: D102
        return {**self.identity, "seed": SEED}

    def measures(self) -> dict[str, Any]:  # noqa: D102
        model = _loaded(self.model, self.device)
        n = sum(p.numel() for p in model.parameters())
        return {"parameters": n, "device": model.device.type}

    def pieces(self, track: Track, sources: Sequence[str]) -> Iterator[Tensor]:  # noqa: D102
        model = _loaded(self.model, self.device)
        pieces = iter(Separation(model, TrackSignal(track), sources))
        devices = [torch.cuda.current_device()] if model.device.type == "cuda" else []
        states = None
        while True:
            # Systems take turns, and each draws what it would alone.
            with torch.random.fork_rng(devices):
                _set_random(states, devices)
                _, estimates = next(pieces, (None, None))
                states = _random(devices)
            if estimates is None:
                return
            yield estimates


@dataclass(frozen=True)
class ObjectSystem(System):
    """A system that finds as many objects as there are sources, and cannot tell which is which.

    Of a scene it is told how many objects there are and how large their delays may be, unless its
    text says so.

    Attributes:
        text: as `zoo.catalog.untrained` takes it.
        device: as `Separator.on` has it.
    """

    text: str = ""
    device: str = "cpu"

    kind = "system"

    def facts(self, track: Track) -> dict[str, Any]:  # noqa: D102
        facts = identity(self._model({}))
        told = {"n_objects": len(track.sources), **self._reach(track)}
        return {**facts, "seed": SEED, "matched": "best permutation", "told": told}

    def measures(self) -> dict[str, Any]:  # noqa: D102
        return {"parameters": 0, "device": self._model({}).device.type}

    def pieces(self, track: Track, sources: Sequence[str]) -> Iterator[Tensor]:  # noqa: D102
        with torch.random.fork_rng([]):
            torch.manual_seed(SEED)
            told = {"n_objects": len(sources), **self._reach(track)}
            separation = Separation(self._model(told), TrackSignal(track))
            found = torch.cat([estimates for _, estimates in separation], -1)
        references = torch.stack([torch.from_numpy(track.read(s)) for s in sources])
        if bool(found.isfinite().all()):  # else what is wrong is said where it is measured
            found = found[best_permutation(references, found)]
        yield found

    def _reach(self, track: Track) -> dict[str, Any]:
        """The delays that are looked for in a scene."""
        model = self._model({})
        if not isinstance(track, SceneTrack | StoredScene) or "max_delay" not in model.hparams:
            return {}
        return {} if "max_delay" in self.text else {"max_delay": track.max_delay}

    def _model(self, arguments: dict[str, Any]) -> Separator:
        model = catalog.untrained(self.text, arguments)
        assert model is not None
        return model.on(self.device)


def best_permutation(references: Tensor, estimates: Tensor) -> list[int]:
    """Which estimate stands for each reference: those whose SDRs, summed, are highest.

    Args:
        references: ``(J, C, T)``.
        estimates: ``(J, C, T)``.
    """
    energy = references.flatten(1).square().sum(1)
    error = torch.stack([(estimates - r).flatten(1).square().sum(1) for r in references])
    sdr = 10 * torch.log10((energy[:, None] + SILENT) / (error + SILENT))
    order: list[int] = linear_sum_assignment(sdr.double().numpy(), maximize=True)[1].tolist()
    return order


@dataclass(frozen=True)
class OracleSystem(System):
    """Estimates made of the references, or of the mixture alone."""

    oracle: str = "mixture"

    @property
    def kind(self) -> str:  # type: ignore[override]  # noqa: D102
        return "mixture" if self.oracle == "mixture" else "oracle"

    def facts(self, track: Track) -> dict[str, Any]:  # noqa: D102
        return {
            "release": None, "sha256": None, "arguments": {"oracle": self.oracle}, "seed": None,
        }  # fmt: skip

    def measures(self) -> dict[str, Any]:  # noqa: D102
        return {"parameters": 0}

    def pieces(self, track: Track, sources: Sequence[str]) -> Iterator[Tensor]:  # noqa: D102
        return ORACLES[self.oracle](track, sources)


@dataclass(frozen=True)
class FolderSystem(System):
    """Stems on disk.

    Attributes:
        folder: holds ``<track>/<source>.<ext>``, perhaps below ``test``.
        split: of the data set.
    """

    folder: Path = Path()
    split: Split = "test"

    kind = "estimates"
    is_trusted = False

    @classmethod
    def of(
        cls, name: str | None, folder: Path, tracks: Sequence[str], split: Split
    ) -> FolderSystem:
        """A folder; it gives whatever it has of any track.

        Raises:
            DatasetError: it has nothing of none.
        """
        system = cls(name or folder.resolve().name, (), (), folder, split)
        given: dict[str, None] = {}
        faults: list[OSError] = []
        for track in tracks:
            try:
                given |= {p.stem.lower(): None for p in system._found(track)}
            except OSError as error:
                faults.append(error)
        if faults and not given:
            raise DatasetError(sentence(faults[0])) from faults[0]
        if not given:
            raise DatasetError(
                f"{folder} holds no estimates of these tracks: expected <track>/<source>.wav, such "
                f"as {_folder_name(tracks[0])}/vocals.wav. Name the folder that "
                "`zoo separate` or `zoo predict` wrote to."
            )
        return cls(system.name, tuple(given), (), folder, split)

    def facts(self, track: Track) -> dict[str, Any]:  # noqa: D102
        digest = hashlib.sha256()
        for source, path in sorted(self._files(track.name).items()):
            with path.open("rb") as file:
                digest.update(
                    f"{source} {hashlib.file_digest(file, 'sha256').hexdigest()}".encode()
                )
        return {"release": None, "sha256": digest.hexdigest(), "arguments": {}, "seed": None}

    def pieces(self, track: Track, sources: Sequence[str]) -> Iterator[Tensor]:  # noqa: D102
        files = self._files(track.name)
        if absent := [s for s in sources if s not in files]:
            beside = f", only {', '.join(sorted(files))}" if files else ""
            raise DatasetError(
                f"{self.name} has no estimate of {', '.join(absent)}{beside}; add "
                f"{self._place(track.name) / absent[0]}.wav."
            )
        for source in sources:
            _check(files[source], track)
        readers = [open_audio(files[s]) for s in sources]
        try:
            for start in range(0, track.samples, _BLOCK):
                n = min(_BLOCK, track.samples - start)
                blocks = [_exactly(reader.read, n, reader.path) for reader in readers]
                yield torch.stack(blocks)
            for reader in readers:
                if more := reader.read(1 << 30).shape[1]:
                    raise _wrong_length(reader.path, track.samples + more, track)
        finally:
            for reader in readers:
                reader.close()

    def _place(self, track: str) -> Path:
        # Names that look alike may be composed of letters or of letters and their marks.
        forms = [track, *(unicodedata.normalize(form, track) for form in ("NFC", "NFD"))]
        names = dict.fromkeys(made(form) for made in (_folder_name, file_name) for form in forms)
        places = [folder / n for n in names for folder in (self.folder, self.folder / self.split)]
        return next((place for place in places if place.is_dir()), places[0])

    def _files(self, track: str) -> dict[str, Path]:
        """Source -> file.

        Raises:
            DatasetError: a source has several.
        """
        files: dict[str, Path] = {}
        for path in self._found(track):
            if (first := files.setdefault(path.stem.lower(), path)) is not path:
                raise DatasetError(
                    f"{track}: {first} and {path} are both estimates of {path.stem.lower()}; "
                    "remove one of them."
                )
        return files

    def _found(self, track: str) -> list[Path]:
        place = self._place(track)
        return [
            path
            for path in (sorted(place.iterdir()) if place.is_dir() else [])
            if path.suffix.lower() in SUFFIXES
            and not path.name.startswith(".")
            and path.stem.lower() not in ("mixture", "residual")
        ]


def resolve(
    text: str | Separator, tracks: Sequence[str], split: Split, device: str = "cpu"
) -> System:
    """The system that a word stands for.

    Args:
        text: as above, or a model.
        tracks: names of those that are to be scored.
        split: that they are of.
        device: for models.

    Raises:
        ZooError: it stands for none, or for an architecture without weights.
    """
    if isinstance(text, Separator):
        return ModelSystem.of(None, text, device)
    name, what = None, text
    if (match := _NAMED.fullmatch(text)) and not os.path.lexists(text):
        name, what = match["name"], match["what"]
    kind, _, oracle = what.partition(":")
    if what == "mixture" or kind == "oracle":
        oracle = "mixture" if what == "mixture" else oracle
        if oracle not in ORACLES:
            known = ", ".join(f"oracle:{o}" for o in ORACLES if o != "mixture")
            raise UnknownModel(f"no oracle {what!r}; there are {known} and mixture.")
        return OracleSystem(name or what, oracle=oracle)
    path = Path(os.path.expanduser(what))
    if path.is_dir() and not (path / RECORD).is_file():
        return FolderSystem.of(name, path, tracks, split)
    if not path.exists() and what.partition(":")[0] in catalog.list_models():
        if catalog.untrained(what) is None:
            raise ZooError(
                f"{what!r} is an architecture without weights, which has no scores; name one of "
                "its releases (`zoo list`) or a checkpoint."
            )
        plain = re.sub(r"[^\w.-]+", "-", what)
        return ObjectSystem(name or plain, text=what, device=device)
    return ModelSystem.of(name, what, device)


def choose(system: System, track: Track) -> tuple[list[str], bool]:
    """The sources to score on a track, and whether they are all of it.

    All of the track's, if the system has them and nothing of it is unknown; else vocals and
    accompaniment, if these are known; else what is left.  An accompaniment that a system has beside
    all stems comes last.
    """
    given = track.sources if system.given is None else system.given
    have = {*given, *system.derived}
    stems = [s for s in track.sources if s in have and track.knows(s)]
    if len(stems) == len(track.sources):
        has_more = "accompaniment" in given and "accompaniment" not in stems
        is_pair = "vocals" in stems and len(stems) > 2
        return [*stems, *(["accompaniment"] if has_more and is_pair else [])], True
    pair = ["vocals", "accompaniment"]
    if (have >= set(pair) or system.given is None) and all(map(track.knows, pair)):
        return pair, True
    return stems, False


def _folder_name(track: str) -> str:
    return track.replace(os.sep, "_")


def file_name(name: str) -> str:
    """A name that is one part of a path everywhere."""
    if not name.strip("."):  # "..", which is another folder
        name = "_" * len(name)
    return _folder_name(name).replace(":", "-")


def _random(devices: Sequence[int]) -> list[Tensor]:
    """The states of the generators of random numbers."""
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state(d) for d in devices)]


def _set_random(states: Sequence[Tensor] | None, devices: Sequence[int]) -> None:
    """What `_random` gave, or the start."""
    if states is None:
        torch.manual_seed(SEED)
        return
    torch.set_rng_state(states[0])
    for state, device in zip(states[1:], devices, strict=True):
        torch.cuda.set_rng_state(state, device)


@lru_cache(maxsize=4)
def _named(name: str, device: str) -> Separator:
    return from_pretrained(name, device=device)


def _loaded(model: Separator | str, device: str) -> Separator:
    return _named(model, device) if isinstance(model, str) else model.on(device)


def _check(path: Path, track: Track) -> None:
    """Refuse estimates that cannot be laid over the references."""
    with open_audio(path) as reader:
        if reader.rate != track.rate:
            raise DatasetError(
                f"{path} is at {reader.rate} Hz, the references at {track.rate} Hz; nothing is "
                "resampled here, as that would change the scores. Convert it."
            )
        if reader.channels != track.channels:
            raise DatasetError(
                f"{path} has {reader.channels} channel(s), the references {track.channels}; write "
                "estimates with the channels of their mixture."
            )
        if reader.samples not in (None, track.samples):
            raise _wrong_length(path, reader.samples, track)


def _wrong_length(path: Path, samples: int | None, track: Track) -> DatasetError:
    return DatasetError(
        f"{path} has {samples} samples, the references {track.samples}; nothing is cut or padded "
        "here, as nobody knows at which end. Make it as long as its mixture."
    )


def _exactly(read: Any, n: int, path: Path) -> Tensor:
    pieces, left = [], n
    while left:
        piece = read(left)
        if not piece.shape[1]:
            raise AudioFileError(
                f"{path} ends {left} samples before the references; write it anew."
            )
        pieces.append(torch.from_numpy(piece))
        left -= piece.shape[1]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, -1)


__all__ = ["FolderSystem", "ModelSystem", "OracleSystem", "System", "choose", "resolve"]
