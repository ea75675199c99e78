"""Releases on a Hub: published, compared, loaded; cards; the list of them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from fake_wandb import ENTITY, KEY, FakeWandb, no_account
from huggingface_hub import HfApi

import zoo
from zoo.cli import main
from zoo.errors import ChecksumError, LicenceError, ReleaseError, UnknownModel
from zoo.hub.cards import PICTURE, card
from zoo.hub.publish import build, check, publish
from zoo.release import bundled, read_release, recorded
from zoo.testing.hub import Fault, LocalHub
from zoo.training import loggers

LICENCE = {"code": "MIT", "weights": "CC0 1.0", "data": "CC0 1.0"}
FACTS = {"licence": LICENCE, "trained_on": "noise, to see that it works"}
SMALL = {
    "sources": ["vocals", "accompaniment"], "sample_rate": 8000, "channels": 1, "n_fft": 256,
    "hop": 64, "hidden_size": 8, "n_layers": 1,
}  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A cache of the Hub of the test's own."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def hub():
    with LocalHub() as server:
        yield server


@pytest.fixture
def model():
    torch.manual_seed(0)
    return zoo.create("umx", **SMALL).eval()


@pytest.fixture
def release(model, tmp_path):
    return build(model, tmp_path / "umx-noise", name="umx-noise", **FACTS)


def api(hub, token="secret"):
    return HfApi(endpoint=hub.url, token=token)


def sent(release, hub, **options):
    return publish(release, "org/umx-noise", token="secret", endpoint=hub.url, **options)


# ----------------------------------------------------------------- building


def test_a_release_is_built_checked_and_has_a_card(release, model):
    assert {"README.md", "model.safetensors", "golden.safetensors"} <= set(release.sha256)
    check(release, model)
    text = (release.folder / "README.md").read_text("utf-8")
    front = yaml.safe_load(text.split("---")[1])
    assert front["license"] == "cc0-1.0" and front["pipeline_tag"] == "audio-to-audio"
    assert "Not measured." in text and "noise, to see that it works" in text


def test_without_licences_or_training_data_nothing_is_built(model, tmp_path):
    with pytest.raises(LicenceError):
        build(model, tmp_path / "r", name="umx-x", licence={"code": "MIT"}, trained_on="noise")
    with pytest.raises(ReleaseError, match="learned from is not stated"):
        build(model, tmp_path / "r", name="umx-x", licence=LICENCE, trained_on=" ")
    assert not (tmp_path / "r").exists()


def test_weights_that_half_precision_spoils_are_refused(model, tmp_path):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1e-6)  # below what sixteen bits can hold well
        model.networks["vocals"].fc1.weight.mul_(1e-3)
    try:
        found = build(model, tmp_path / "r", name="umx-x", **FACTS)
    except ReleaseError as error:
        assert "precision" in str(error) or "dB" in str(error)
    else:
        check(found, model)


def test_a_changed_file_is_found(release):
    path = release.folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ChecksumError):
        check(release)


def test_the_methods_of_a_model_are_the_same_code(model, hub, tmp_path):
    saved = model.save_pretrained(tmp_path / "saved", name="umx-noise", **FACTS)
    assert read_release(saved.folder).name == "umx-noise"
    done = model.push_to_hub("org/umx-noise", token="secret", endpoint=hub.url, **FACTS)
    assert hub.repositories["org/umx-noise"].at(done.tag).oid == done.commit


# ----------------------------------------------------------------- publishing


def test_what_is_published_is_one_tagged_commit_that_loads_again(release, model, hub, monkeypatch):
    done = sent(release, hub)
    repository = hub.repositories["org/umx-noise"]
    assert len(repository.commits) == 2  # the empty one, and the release
    assert repository.tags == {f"v{zoo.__version__}": done.commit}
    assert set(done.files) <= set(repository.commits[-1].files)
    command = (
        f"import zoo, sys; m = zoo.from_pretrained('org/umx-noise@{done.commit}', device='cpu');"
        "print(m.info['release'], zoo.weights.verify(m) < 1e-3)"
    )
    found = subprocess.run(
        [sys.executable, "-c", "import zoo.weights\n" + command], capture_output=True, text=True,
        env={**os.environ, "HF_ENDPOINT": hub.url}, check=False,
    )  # fmt: skip
    assert found.stdout.split()[-2:] == ["umx-noise", "True"], found.stderr


def test_publishing_twice_makes_no_second_commit(release, hub):
    first, second = sent(release, hub), sent(release, hub)
    assert first.commit == second.commit
    assert len(hub.repositories["org/umx-noise"].commits) == 2


def test_a_tag_of_another_commit_is_not_moved(release, hub):
    sent(release, hub)
    (release.folder / "NOTES.md").write_text("more")
    with pytest.raises(ReleaseError, match="has a tag v.* of another commit"):
        sent(release, hub)


def test_large_files_come_in_parts(release, hub, monkeypatch):
    monkeypatch.setattr("zoo.testing.hub.PART", 4096)
    sent(release, hub)
    assert any(r.startswith("PUT /lfs/") and r.endswith("/2") for r in hub.requests)


def test_a_private_repository_asks_for_its_token(release, hub):
    sent(release, hub, private=True)
    assert hub.repositories["org/umx-noise"].private
    with pytest.raises(Exception, match="401|not found|private"):
        api(hub, token=False).model_info("org/umx-noise")


def test_a_download_that_comes_back_changed_is_noticed(release, hub):
    hub.faults.append(Fault("resolve", times=50, status=-1))
    with pytest.raises((ChecksumError, ReleaseError)):
        sent(release, hub)


@pytest.mark.parametrize("path", ["/api/repos/create", "/commit/main", "/preupload/main"])
def test_a_refusing_hub_gets_two_lines_and_a_second_call_goes_on(release, hub, path):
    hub.faults.append(Fault(path, times=20, status=403))
    with pytest.raises(ReleaseError, match="the same command goes on") as error:
        sent(release, hub)
    assert len(str(error.value).splitlines()) == 2
    hub.faults.clear()
    assert sent(release, hub).commit


def test_no_token_and_wrong_tokens_are_told(release):
    with LocalHub(tokens={"right"}) as hub:
        for token in ("wrong", False):
            with pytest.raises(ReleaseError, match="refuses or does not answer"):
                publish(release, "org/umx-noise", token=token, endpoint=hub.url)


def test_a_hub_that_is_down_is_told(release, hub):
    hub.stop()
    with pytest.raises(ReleaseError, match="refuses or does not answer"):
        sent(release, hub)


def test_a_name_that_is_none_is_told(release, hub):
    with pytest.raises(ReleaseError, match="no name of a repository"):
        publish(release, "org/a/b", token="secret", endpoint=hub.url)


@pytest.mark.skipif("ZOO_HUB_REPO" not in os.environ, reason="set ZOO_HUB_REPO and HF_TOKEN")
@pytest.mark.network
def test_the_real_hub_takes_a_release(release):
    assert publish(release, os.environ["ZOO_HUB_REPO"], private=True).commit


# ----------------------------------------------------------------- the commands


def test_the_dry_run_says_what_it_would_do(release, capsys):
    assert main(["publish", str(release.folder), "--repo", "org/x", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "would make org/x" in out and "model.safetensors" in out and "nothing was sent" in out


def test_without_a_token_nothing_is_sent(release, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert main(["publish", str(release.folder), "--repo", "org/x"]) == 2
    assert "HF_TOKEN" in capsys.readouterr().err


def test_a_run_needs_a_name_and_licences(model, tmp_path, capsys):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    assert main(["publish", "run"]) == 2
    assert "needs --name" in capsys.readouterr().err
    assert main(["publish", "run", "--name", "umx-x", "--trained-on", "noise"]) == 2
    assert "holds no checkpoint" in capsys.readouterr().err


def test_a_checkpoint_tells_how_it_was_trained(tmp_path, capsys):
    line = ["fit", "-c", "umx", "-c", "data/generated", "-c", "hardware/cpu-smoke", "--wandb=off",
            "--trainer.max_epochs=1", "--data.examples_per_epoch=4", "--run_dir=run",
            "--data.arguments.n_train=1", "--data.arguments.n_valid=1"]  # fmt: skip
    assert main([*line, "--seed_everything=7"]) == 0
    facts = ["--weights-licence=CC0 1.0", "--data-licence=CC0 1.0", "--trained-on=generated songs"]
    assert main(["publish", "run", "--name=umx-generated", *facts, "--dry-run"]) == 0
    told = read_release("releases/umx-generated").provenance
    assert (told["seed"], told["steps"], told["epoch"]) == (7, 1, 0)
    assert told["hours"] >= 0 and "CPU thread" in told["hardware"]
    assert told["validation"].startswith("val/sdr ")
    assert told["data_fingerprint"].startswith("generated ") and told["versions"]["torch"]
    text = Path("releases/umx-generated/README.md").read_text()
    assert "| seed | 7 |" in text and "| run | not logged online |" in text


@pytest.mark.slow
def test_a_release_becomes_an_artifact_or_says_what_was_not_taken(
    release, tmp_path, monkeypatch, capsys
):
    no_account(monkeypatch, tmp_path / "home")
    monkeypatch.setattr(loggers, "FINISH_S", 2.0)
    line = ["publish", str(release.folder), "--wandb"]
    with FakeWandb() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        assert main(line) == 2
        assert "`wandb login` stores a key" in capsys.readouterr().err
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        server.refused.add("model.safetensors")
        assert main(line) == 2
        assert "W&B has not taken all of it" in capsys.readouterr().err
        server.refused.clear()
        assert main(line) == 0
        assert f"W&B: {ENTITY}/music-separation-zoo/umx-noise:v" in capsys.readouterr().out
        artifact = server.artifacts[-1]
        assert artifact.type == "model" and f"v{zoo.__version__}" in artifact.aliases
        weights = (release.folder / "model.safetensors").read_bytes()
        assert artifact.files["model.safetensors"] == weights
        assert artifact.metadata["trained_on"] == FACTS["trained_on"]


def test_a_release_is_verified(release, capsys):
    assert main(["verify", str(release.folder)]) == 0
    assert "the golden pair is reproduced" in capsys.readouterr().out
    (release.folder / "recipe.yaml").unlink(missing_ok=True)
    (release.folder / "README.md").write_text("other")
    assert main(["verify", str(release.folder)]) == 2


@pytest.mark.parametrize("name", sorted(bundled()))
def test_bundled_releases_are_what_they_were(name, capsys):
    assert main(["verify", name]) == 0


# ----------------------------------------------------------------- cards


@pytest.mark.parametrize("name", sorted(recorded()))
def test_the_cards_in_the_checkout_are_those_of_the_records(name, request):
    folder = Path(__file__).parent.parent / "hub_cards"
    made = card(recorded()[name], place=folder, prefix=f"{name}-")
    assert (folder / f"{name}.md").read_text("utf-8") == made
    shown = re.findall(r"!\[.*?\]\((.*?)\)", made)
    assert f"{name}-{PICTURE}" in shown or len(recorded()[name].scores) < 10
    assert all((folder / file).is_file() for file in shown)


def test_a_card_says_what_was_measured_and_what_was_not():
    text = card(bundled()["mmdensenet-mir1k"])
    assert "| vocals | GNSDR | 9.40 |" in text and "110 of 825 clips" in text
    assert "energy | not measured" in text
    front = yaml.safe_load(text.split("---")[1])
    assert front["license"] == "other" and "research-use" in front["license_name"]
    (result, *_) = front["model-index"][0]["results"]
    assert result["dataset"]["type"] == "mir1k"


def test_scores_are_written_for_a_benchmark_of_the_hub(model, tmp_path):
    scores = bundled()["mmdensenet-mir1k"].folder / "scores"
    told = {"name": "umx-noise", "benchmark": "org/mir1k", **FACTS}
    built = build(model, tmp_path / "r", scores=scores, **told)
    results = yaml.safe_load((built.folder / ".eval_results" / "mir1k.yaml").read_text())
    (first, *_) = results
    assert first["dataset"] == {"id": "org/mir1k", "task_id": "gnsdr_vocals"}
    assert first["value"] == built.provenance["scores"]["GNSDR_vocals"] == 9.4
    assert ".eval_results/mir1k.yaml" in built.sha256
    with pytest.raises(ReleaseError, match="holds no scores for org/mir1k"):
        build(model, tmp_path / "other", **told)
    assert not (tmp_path / "other").exists()


def test_a_stand_in_says_so_first(model, tmp_path):
    found = build(
        model, tmp_path / "umx-noise", name="umx-noise", stand_in_for="umx-musdb18", **FACTS
    )
    text = (found.folder / "README.md").read_text("utf-8")
    first = text.split("# umx-noise", 1)[1].strip().split("\n\n")[0]
    assert "stand-in" in first and "umx-musdb18" in first


# ----------------------------------------------------------------- the list


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--licence", "cc by"], ["mmdensenet-open", "umx-open"]),
        (["--source", "drums"], ["mmdensenet-open", "umx-open"]),
        (["--source", "vocals", "--licence", "research", "--sort", "sdr"],
         ["mmdensenet-mir1k", "mdensenet-mir1k", "deepnmf-mir1k", "deepconvsep-mir1k"]),
        (["--licence", "no such"], ["none"]),
    ],
)  # fmt: skip
def test_the_list_is_filtered_and_sorted(words, names, capsys):
    assert main(["list", "--pretrained", *words]) == 0
    told, _, others = capsys.readouterr().out.partition("\nAuthors' weights")
    lines = told.partition("\nReleases whose weights")[0].splitlines()[1:]
    assert ("umxl-extra" in others) == (words == ["--licence", "cc by"] or "drums" in words)
    expected = [name for name in names if name in bundled() or name == "none"]
    assert [line.split()[0] for line in lines if line.strip()] == expected


def test_the_release_of_dsd100_has_a_stand_in_that_says_so(capsys):
    assert zoo.from_pretrained("mmdensenet-dsd100").info["release"] == "mmdensenet-open"
    with pytest.raises(UnknownModel, match="'mmdensenet-open' stands in"):
        zoo.from_pretrained("mmdensenet-dsd100", stand_in=False)
    assert main(["info", "mmdensenet-dsd100"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["stands", "in", "for", "mmdensenet-dsd100"] for line in lines)
