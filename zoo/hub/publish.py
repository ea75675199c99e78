"""From a finished run to a release on the Hub, and back, to see that it arrived.

A release folder is built and checked as a stranger would: its weights are loaded again by their
keys, the golden pair is repeated, and what it gives is compared with what the checkpoint gave.
Then it is uploaded in one commit, tagged, downloaded into an empty cache, and compared hash by
hash. Everything can be repeated: an upload that was cut goes on, and one that changes nothing makes
no commit.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

import zoo
from zoo.authors import NOT_STATED
from zoo.errors import ChecksumError, LicenceError, ReleaseError, ZooError
from zoo.hub import facts
from zoo.hub.cards import card, draw, eval_results
from zoo.release import RECORD, Release, locate, read_release, sha256_of
from zoo.separator import Separator
from zoo.weights import from_pretrained, verify, write_release

log = logging.getLogger(__name__)

FURTHEST = 0.01  # dB of SDR that stored precision may cost, with the checkpoint as the truth


@dataclass
class Published:
    """What was built, and what became of it.

    Attributes:
        release: in its folder.
        repo: on the Hub; None for a dry run.
        commit: its hash there.
        tag: of that commit.
        url: of the commit.
        files: name -> bytes.
    """

    release: Release
    repo: str | None = None
    commit: str | None = None
    tag: str | None = None
    url: str | None = None
    files: dict[str, int] = field(default_factory=dict)


def build(
    source: str | os.PathLike[str] | Separator,
    folder: str | os.PathLike[str],
    *,
    name: str,
    licence: Mapping[str, str] | None,
    trained_on: str | None,
    provenance: Mapping[str, Any] | None = None,
    scores: str | os.PathLike[str] | None = None,
    precision: str = "float16",
    stand_in_for: str | None = None,
    benchmark: str | None = None,
) -> Release:
    """A release folder of a run, a checkpoint or a model, checked.

    Args:
        source: folder of a run, a checkpoint, or a model.
        folder: must not exist.
        name: ``<architecture>-<data set>[-<variant>]``.
        licence: of ``code``, ``weights`` and ``data``.
        trained_on: one sentence.
        provenance: what is to be said beside that which checkpoint and scores say themselves, or
            instead of it; plain JSON values.
        scores: folder of score files.
        precision: ``"float16"`` or ``"float32"``.
        stand_in_for: release that this one replaces for now.
        benchmark: data set of the Hub, ``org/name``, whose leaderboard is to show the scores; they
            are written into ``.eval_results/`` for it.

    Raises:
        LicenceError: a licence is not stated.
        ReleaseError: no training data are stated, or what was written is not what was given.
    """
    if not (trained_on or "").strip():
        raise ReleaseError("what the weights learned from is not stated; say it in a sentence.")
    model, checkpoint = _model_and_checkpoint(source)
    told: dict[str, Any] = facts.of_checkpoint(checkpoint, name) if checkpoint else {}
    if scores is not None:
        told["scores"] = facts.of_scores(scores)
    recipe = _recipe(checkpoint) if checkpoint else None
    release = write_release(
        folder, model, name=name, licence=dict(licence or {}), trained_on=str(trained_on),
        provenance={**told, **(provenance or {})}, precision=precision, stand_in_for=stand_in_for,
        recipe=recipe, scores=scores, card=partial(_card, benchmark=benchmark),
    )  # fmt: skip
    check(release, model)
    return release


def check(release: Release, model: Separator | None = None) -> None:
    """Read a release as a stranger would.

    Args:
        release: in its folder.
        model: that it was made of; what both give of a second of music is compared.

    Raises:
        ReleaseError: a file is missing or does not hold what it should, or the stored precision
            changes what the model gives by more than 0.01 dB of SDR.
        ChecksumError: a file is not the one of the record.
    """
    assert release.folder is not None
    read_release(release.folder)
    again = from_pretrained(release.folder, device="cpu")
    verify(again)
    if model is None:
        return
    signal = _music(model)
    with torch.inference_mode():
        before, after = model.on("cpu")(signal), again(signal)
    error = float((after - before).square().sum())
    energy = float(before.square().sum())
    loss = 10 * torch.log10(torch.tensor(1 + error / max(energy, 1e-20)))
    if float(loss) > FURTHEST:
        raise ReleaseError(
            f"stored as {release.precision}, the weights give estimates that differ by "
            f"{float(loss):.3f} dB from those of the checkpoint; take --precision float32."
        )


def publish(
    release: Release,
    repo: str,
    *,
    tag: str | None = None,
    private: bool = False,
    token: str | None = None,
    endpoint: str | None = None,
) -> Published:
    """Upload a release, tag it, and compare what comes back.

    Args:
        release: in its folder.
        repo: ``org/name``, made when missing.
        tag: of the commit; by default ``v`` and the package's version.
        private: for a repository that is made.
        token: of the Hub; else what ``huggingface-cli login`` or ``HF_TOKEN`` has left.
        endpoint: another Hub than ``HF_ENDPOINT``'s.

    Raises:
        LicenceError: no licence of the weights is stated.
        ReleaseError: the Hub refuses or does not answer; what is there stays, and a second call
            goes on.
        ChecksumError: what comes back is not what was sent.
    """
    import huggingface_hub as hub
    from huggingface_hub import errors

    assert release.folder is not None
    if release.licence["weights"] == NOT_STATED:
        raise LicenceError(
            f"{release.name}: no licence of its weights is stated, so they are not to be given on."
        )
    tag = tag or f"v{zoo.__version__}"
    api = hub.HfApi(endpoint=endpoint, token=token)
    base: type[Exception] = errors.HfHubHTTPError.__bases__[0]
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        info = api.upload_folder(
            folder_path=release.folder, repo_id=repo,
            commit_message=f"{release.name}, made by zoo {zoo.__version__}",
        )  # fmt: skip
        refs = {ref.name: ref.target_commit for ref in api.list_repo_refs(repo).tags}
        if refs.get(tag, info.oid) != info.oid:
            raise ReleaseError(
                f"{repo} has a tag {tag} of another commit, {refs[tag][:12]}; take another --tag."
            )
        api.create_tag(repo, tag=tag, revision=info.oid, exist_ok=True)
        _compare(api, release, repo, tag)
    except errors.HFValidationError as error:
        raise ReleaseError(f"{repo} is no name of a repository: {error}") from error
    except (OSError, base) as error:
        if isinstance(error, ZooError):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ReleaseError(
            f"{repo}: the Hub refuses or does not answer: {reason}\n"
            f"{release.folder} is complete; the same command goes on with it."
        ) from error
    return Published(release, repo, info.oid, tag, info.commit_url, files_of(release))


def push(
    model: Separator,
    repo: str,
    *,
    tag: str | None = None,
    private: bool = False,
    token: str | None = None,
    endpoint: str | None = None,
    **said: Any,
) -> Published:
    """`build` in a folder that does not stay, and `publish`; arguments as they have them.

    The release's name is the repository's, unless ``name`` says another.
    """
    with tempfile.TemporaryDirectory(prefix="zoo-push-") as draft:
        name = said.pop("name", repo.partition("/")[2])
        release = build(model, Path(draft) / name, name=name, **said)
        return publish(release, repo, tag=tag, private=private, token=token, endpoint=endpoint)


def files_of(release: Release) -> dict[str, int]:
    """Every file of a release and its bytes."""
    assert release.folder is not None
    return {
        path.relative_to(release.folder).as_posix(): path.stat().st_size
        for path in sorted(release.folder.rglob("*"))
        if path.is_file()
    }


def _compare(api: Any, release: Release, repo: str, tag: str) -> None:
    """Download a tag into an empty cache, and compare."""
    assert release.folder is not None
    with tempfile.TemporaryDirectory(prefix="zoo-publish-") as cache:
        back = Path(api.snapshot_download(repo, revision=tag, cache_dir=cache))
        for name in files_of(release):
            there = back / name
            if not there.is_file() or sha256_of(there) != sha256_of(release.folder / name):
                raise ChecksumError(
                    f"{repo}@{tag}: {name} came back as another file than was sent; publish again."
                )


def _card(release: Release, benchmark: str | None) -> str:
    """The README, with what lies beside it: its picture, and the results for a benchmark."""
    assert release.folder is not None
    if benchmark is not None:
        place = release.folder / ".eval_results" / f"{benchmark.rpartition('/')[2]}.yaml"
        place.parent.mkdir()
        place.write_text(eval_results(release, benchmark), encoding="utf-8")
    draw(release, release.folder)
    return card(release)


def _model_and_checkpoint(
    source: str | os.PathLike[str] | Separator,
) -> tuple[Separator, Path | None]:
    if isinstance(source, Separator):
        return source.eval(), None
    path = Path(os.path.expanduser(source))
    if path.is_dir() and not (path / RECORD).is_file():
        places = [path / "checkpoints" / name for name in ("best.ckpt", "last.ckpt")]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise ReleaseError(f"{path} holds no checkpoint; name a run or a checkpoint.")
        path = found
    path = locate(path).path
    return from_pretrained(path, device="cpu"), path if path.is_file() else None


def _recipe(checkpoint: Path) -> Path | None:
    """The resolved recipe that lies beside a checkpoint, or in its run."""
    places = [checkpoint.parent / "config.yaml", checkpoint.parent.parent / "config.yaml"]
    return next((place for place in places if place.is_file()), None)


def _music(model: Separator) -> torch.Tensor:
    """Two seconds of generated music, as the model takes it: ``(1, C, T)``."""
    from zoo.audio import resample
    from zoo.data import open_dataset

    track = open_dataset("generated", seconds=3.0, n_train=0, n_valid=0, n_test=1).tracks("test")[0]
    signal = track.read("mixture")
    if model.sample_rate and model.sample_rate != track.rate:
        signal = resample(signal, track.rate, model.sample_rate)
    if model.channels == 1:
        signal = signal.mean(0, keepdims=True)
    return torch.from_numpy(signal)[None]
