"""Releases written, read, checked and refused; checkpoints; names and where they lead."""

import json
import logging
import pickle
import zipfile

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.cli import LightningCLI
from safetensors.torch import load_file, save_file
from torch import nn

import zoo.release
from zoo import catalog
from zoo.cli import main
from zoo.errors import ChecksumError, LicenceError, ReleaseError, UnknownModel
from zoo.models import TABLE
from zoo.release import bundled, describe, read_release, recorded
from zoo.separator import Separator
from zoo.weights import (
    from_pretrained,
    golden_mixture,
    load_checkpoint,
    load_release,
    strip_prefixes,
    verify,
    write_release,
)

LICENCE = {"code": "MIT", "weights": "CC BY 4.0", "data": "CC0 1.0"}


class Learner(Separator):
    """Convolution, batch normalisation and a matrix of constants: one of each kind of tensor."""

    architecture = "learner"

    def __init__(self, sources=("vocals", "other"), width=4, sample_rate=8000, channels=1):
        super().__init__(sources, sample_rate, channels)
        self.save_hyperparameters()
        self.network = nn.Sequential(
            nn.Conv1d(channels, width, 5, padding=2),
            nn.BatchNorm1d(width),
            nn.Conv1d(width, len(sources) * channels, 5, padding=2),
        )
        self.register_buffer("constants", torch.full((2, 2), 1 / 3))

    @property
    def segment(self):
        return 800

    def forward(self, mixture, state=None):
        return self.network(mixture).unflatten(1, (len(self.sources), -1))

    def loss(self, mixture, references, known):
        return {"loss": (self(mixture) - references).square().mean()}

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.01)


class Songs(lightning.LightningDataModule):
    """Noise: three training batches."""

    def train_dataloader(self):
        batch = {"references": torch.randn(2, 1, 800), "known": torch.ones(2, dtype=torch.bool)}
        return torch.utils.data.DataLoader([batch] * 6, batch_size=2)


@pytest.fixture(autouse=True)
def enrolled(tmp_path, monkeypatch):
    """``learner`` in the catalog, and no bundled releases but those of the test."""
    monkeypatch.setitem(TABLE, "learner", {"target": f"{__name__}:Learner"})
    monkeypatch.setattr(zoo.release, "BUNDLED", tmp_path / "bundled")


def learner(**arguments):
    torch.manual_seed(1)
    model = Learner(**arguments)
    model.network[1].running_mean.normal_()
    return model.eval()


def write(folder, model=None, **changes):
    options = {"name": "learner-noise", "licence": LICENCE, "trained_on": "noise"} | changes
    return write_release(folder, model or learner(), **options)


def edit(folder, **changes):
    """Change keys of a record."""
    content = json.loads((folder / "config.json").read_text())
    content |= changes
    (folder / "config.json").write_text(json.dumps(content))


def rehash(folder, name):
    """Make the record agree with a changed file."""
    content = json.loads((folder / "config.json").read_text())
    edit(folder, sha256=content["sha256"] | {name: zoo.release.sha256_of(folder / name)})


def trainer(**options):
    return lightning.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, **options,
    )  # fmt: skip


# ------------------------------------------------------------------- written and read


@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_weights_come_back_bit_for_bit_in_the_stored_precision(tmp_path, precision):
    model = learner()
    write(tmp_path / "r", model, precision=precision)
    again = load_release(tmp_path / "r").state_dict()
    for key, value in model.state_dict().items():
        rounded = precision == "float16" and value.dim() > 1 and key != "constants"
        expected = value.half().float() if rounded else value
        assert torch.equal(again[key], expected) and again[key].dtype == value.dtype, key


def test_matrices_are_stored_in_half_precision_and_statistics_in_full(tmp_path):
    write(tmp_path / "r")
    stored = load_file(tmp_path / "r" / "model.safetensors")
    assert stored["network.0.weight"].dtype == torch.float16
    assert stored["network.0.bias"].dtype == torch.float32
    assert stored["network.1.running_mean"].dtype == torch.float32
    assert stored["constants"].dtype == torch.float32


def test_a_kernel_too_large_for_half_precision_keeps_full(tmp_path):
    model = learner()
    with torch.no_grad():
        model.network[0].weight[0, 0, 0] = 1e5
    write(tmp_path / "r", model)
    assert load_release(tmp_path / "r").network[0].weight[0, 0, 0] == 1e5


def test_the_golden_pair_is_that_of_the_stored_weights(tmp_path):
    write(tmp_path / "r")
    pair = load_file(tmp_path / "r" / "golden.safetensors")
    assert pair["mixture"].shape == (1, 8000) and pair["mixture"].abs().max() > 0.01
    assert pair["estimates"].shape == (2, 1, 8000)
    assert verify(tmp_path / "r") == 0
    assert verify(from_pretrained(tmp_path / "r")) == 0


def test_a_golden_pair_that_is_not_reproduced_is_reported(tmp_path):
    write(tmp_path / "r")
    pair = load_file(tmp_path / "r" / "golden.safetensors")
    pair["estimates"][0, 0, 100] += 0.5
    save_file(pair, tmp_path / "r" / "golden.safetensors")
    rehash(tmp_path / "r", "golden.safetensors")
    with pytest.raises(ReleaseError, match="5.00e-01 off its golden pair"):
        from_pretrained(tmp_path / "r", verify=True)


def test_a_golden_pair_of_another_shape_is_reported(tmp_path):
    write(tmp_path / "r")
    pair = load_file(tmp_path / "r" / "golden.safetensors")
    save_file(
        pair | {"estimates": pair["estimates"][:1].clone()}, tmp_path / "r/golden.safetensors"
    )
    rehash(tmp_path / "r", "golden.safetensors")
    with pytest.raises(ReleaseError, match=r"\(2, 1, 8000\)"):
        verify(tmp_path / "r")


def test_bf16_is_near_the_golden_pair(tmp_path):
    write(tmp_path / "r")
    assert 0 < verify(tmp_path / "r", precision="bf16") < 0.05


@pytest.mark.parametrize("rate, channels", [(8000, 1), (16000, 2), (None, None), (8000, 5)])
def test_golden_music_has_a_second_of_every_channel(rate, channels):
    music = golden_mixture(rate, channels)
    assert music.shape == (channels or 2, rate or 44100) and music.dtype == torch.float32
    assert (music.abs().amax(1) > 0.01).all()


def test_golden_music_depends_on_the_seed_alone():
    assert torch.equal(golden_mixture(8000, 1, seed=3), golden_mixture(8000, 1, seed=3))
    assert not torch.equal(golden_mixture(8000, 1, seed=3), golden_mixture(8000, 1, seed=4))


def test_recipe_scores_and_card_are_stored_and_hashed(tmp_path):
    (tmp_path / "scores" / "test").mkdir(parents=True)
    (tmp_path / "scores" / "test" / "A Song [1].json").write_text("{}")
    ours = "data:\n  root: /home/me/music\n  cache: 'C:\\cache'\n"
    (tmp_path / "recipe").write_text(f"seed_everything: 0\n{ours}")
    release = write(
        tmp_path / "r",
        recipe=tmp_path / "recipe",
        scores=tmp_path / "scores",
        card=lambda record: f"# {record.name} {record.sha256['model.safetensors']}",
        provenance={"seed": 0},
    )
    assert release.scores == ["scores/test/A Song [1].json"]
    theirs = "seed_everything: 0\ndata:\n  root: null\n  cache: null\n"
    assert (tmp_path / "r" / "recipe.yaml").read_text() == theirs
    assert release.sha256["model.safetensors"] in (tmp_path / "r" / "README.md").read_text()
    assert read_release(tmp_path / "r") == release
    files = {p.relative_to(tmp_path / "r").as_posix() for p in (tmp_path / "r").rglob("*.*")}
    assert set(release.sha256) == files - {"config.json"}


def test_the_record_says_what_it_separates(tmp_path):
    write(tmp_path / "r", learner(sources=("vocals", "drums", "bass"), channels=2))
    record = describe(tmp_path / "r")
    assert record.sources == ("vocals", "drums", "bass")
    assert (record.sample_rate, record.channels) == (8000, 2)


def test_arguments_other_than_the_defaults_are_kept(tmp_path):
    write(tmp_path / "r", learner(width=6))
    assert load_release(tmp_path / "r").network[0].out_channels == 6


def test_a_release_may_be_named_after_the_variant_that_it_is(tmp_path, monkeypatch):
    variant = {"target": f"{__name__}:Learner", "arguments": {"width": 6}}
    monkeypatch.setitem(TABLE, "wide-learner", variant)
    release = write(tmp_path / "r", learner(width=6), name="wide-learner-noise")
    assert release.architecture == "wide-learner"
    assert from_pretrained(tmp_path / "r", verify=True).network[0].out_channels == 6
    with pytest.raises(ReleaseError, match="learner-<data set>"):
        write(tmp_path / "s", learner(width=5), name="wide-learner-noise")


@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_an_architecture_of_the_zoo_is_released_and_comes_back(tmp_path, precision):
    torch.manual_seed(0)
    model = catalog.create("mmdensenet", **catalog.entry("mmdensenet").tiny)
    write(tmp_path / "r", model, name="mmdensenet-noise", precision=precision)
    again = from_pretrained(tmp_path / "r", verify=True)
    assert type(again) is type(model) and again.hparams == load_release(tmp_path / "r").hparams
    buffers = dict(model.named_buffers())
    for key, value in model.state_dict().items():
        halved = precision == "float16" and value.dim() > 1 and key not in buffers
        assert torch.equal(again.state_dict()[key], value.half().float() if halved else value), key


def test_loading_leaves_the_random_numbers_alone(tmp_path):
    write(tmp_path / "r")
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    from_pretrained(tmp_path / "r", verify=True)
    assert torch.equal(torch.rand(1), expected)


def test_tied_and_compiled_weights_are_written(tmp_path):
    model = learner(sources=("vocals",), width=1)
    model.network[2].weight = model.network[0].weight
    model.network = torch.compile(model.network)
    write(tmp_path / "r", model)
    assert "network.0.weight" in load_file(tmp_path / "r" / "model.safetensors")
    assert load_release(tmp_path / "r").network[0].weight.shape == (1, 1, 5)


# ------------------------------------------------------------------- refused at writing


@pytest.mark.parametrize(
    "licence", [{}, {"code": "MIT", "weights": "CC0"}, LICENCE | {"data": " "}]
)
def test_a_release_without_its_licences_is_refused(tmp_path, licence):
    with pytest.raises(LicenceError, match="data|code"):
        write(tmp_path / "r", licence=licence)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"trained_on": " "}, "trained_on"),
        ({"name": "noise"}, "learner-<data set>"),
        ({"name": "learner-../x"}, "lower case"),
        ({"precision": "int8"}, "float16"),
        ({"stand_in_for": "learner-noise"}, "cannot stand in for itself"),
        ({"provenance": {"hours": float("nan")}}, "hours is nan"),
        ({"recipe": "/nowhere/recipe.yaml"}, "recipe.yaml"),
        ({"scores": "/nowhere"}, "no JSON file"),
    ],
)
def test_a_release_that_does_not_say_enough_is_refused(tmp_path, changes, message):
    with pytest.raises(ReleaseError, match=message):
        write(tmp_path / "out" / "r", **changes)
    assert not list(tmp_path.glob("out/*"))


def test_weights_of_a_diverged_training_are_refused(tmp_path):
    model = learner()
    model.network[0].bias.data[0] = float("nan")
    with pytest.raises(ReleaseError, match="network.0.bias.*diverged"):
        write(tmp_path / "out" / "r", model)
    assert not list(tmp_path.glob("out/*"))


def test_a_class_outside_the_catalog_cannot_be_released(tmp_path):
    class Other(Learner):
        pass

    with pytest.raises(ReleaseError, match="zoo.models"):
        write(tmp_path / "r", Other())


def test_an_existing_folder_is_left_alone(tmp_path):
    (tmp_path / "r").mkdir()
    with pytest.raises(ReleaseError, match="exists already"):
        write(tmp_path / "r")
    assert not list((tmp_path / "r").iterdir())


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ReleaseError, match="file/r cannot be written"):
        write(tmp_path / "file" / "r")


# ------------------------------------------------------------------- refused at reading


@pytest.mark.parametrize("name", ["model.safetensors", "golden.safetensors", "README.md"])
def test_one_flipped_bit_is_found(tmp_path, name):
    write(tmp_path / "r", card="# card")
    data = bytearray((tmp_path / "r" / name).read_bytes())
    data[-1] ^= 1
    (tmp_path / "r" / name).write_bytes(data)
    with pytest.raises(ChecksumError, match=name):
        from_pretrained(tmp_path / "r")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"format": 2}, "Update the package"),
        ({"format": True}, "format"),
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"architecture": ""}, "architecture"),
        ({"arguments": []}, "mapping"),
        ({"sha256": {"../model.safetensors": "0" * 64}}, "inside the release"),
        ({"sha256": {"/etc/passwd": "0" * 64}}, "inside the release"),
        ({"sha256": {"model.safetensors": "0"}}, "hexadecimal"),
        ({"sha256": {}}, "lists no model.safetensors"),
    ],
)
def test_a_wrong_record_is_named(tmp_path, changes, message):
    write(tmp_path / "r")
    edit(tmp_path / "r", **changes)
    with pytest.raises(ReleaseError, match=message):
        read_release(tmp_path / "r")


def test_a_missing_key_of_the_record_is_named(tmp_path):
    write(tmp_path / "r")
    content = json.loads((tmp_path / "r" / "config.json").read_text())
    del content["trained_on"]
    (tmp_path / "r" / "config.json").write_text(json.dumps(content))
    with pytest.raises(ReleaseError, match="lacks 'trained_on'"):
        read_release(tmp_path / "r")


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"\xff\xfe\x00", b"[" * 100_000, b" " * 2**21])
def test_a_record_that_is_no_record_is_one_sentence(tmp_path, text):
    write(tmp_path / "r")
    (tmp_path / "r" / "config.json").write_bytes(text)
    with pytest.raises(ReleaseError, match="no release of the zoo"):
        read_release(tmp_path / "r")


def test_a_missing_file_is_named(tmp_path):
    write(tmp_path / "r")
    (tmp_path / "r" / "golden.safetensors").unlink()
    with pytest.raises(ReleaseError, match="golden.safetensors is missing"):
        read_release(tmp_path / "r")


def test_a_link_is_refused(tmp_path):
    write(tmp_path / "r")
    weights = tmp_path / "r" / "model.safetensors"
    weights.rename(tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ReleaseError, match="link"):
        read_release(tmp_path / "r")


def test_the_links_of_the_hubs_cache_are_followed(tmp_path):
    folder = tmp_path / "models--o--n" / "snapshots" / "abc"
    write(folder)
    (tmp_path / "models--o--n" / "blobs").mkdir()
    for number, file in enumerate(folder.iterdir()):
        file.rename(tmp_path / "models--o--n" / "blobs" / str(number))
        file.symlink_to(f"../../blobs/{number}")
    assert from_pretrained(folder).info["release"] == "learner-noise"


def test_an_architecture_outside_the_catalog_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path / "r")
    edit(tmp_path / "r", architecture="evil", name="evil-noise")
    with pytest.raises(ReleaseError, match="'evil' is not in the catalog.*zoo.models"):
        from_pretrained(tmp_path / "r")


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.pop("network.0.bias"), "'network.0.bias' is missing"),
        (lambda s: s.update(extra=torch.ones(1)), "'extra' is unknown"),
        (lambda s: s.update(constants=torch.ones(3)), r"\(3,\), expected \(2, 2\)"),
    ],
)
def test_a_key_that_does_not_fit_is_named(tmp_path, change, message):
    write(tmp_path / "r")
    state = load_file(tmp_path / "r" / "model.safetensors")
    change(state)
    save_file(state, tmp_path / "r" / "model.safetensors")
    rehash(tmp_path / "r", "model.safetensors")
    with pytest.raises(ReleaseError, match=message):
        load_release(tmp_path / "r")


def test_weights_that_are_no_safetensors_are_one_sentence(tmp_path):
    write(tmp_path / "r")
    (tmp_path / "r" / "model.safetensors").write_bytes(b"\xff" * 100)
    rehash(tmp_path / "r", "model.safetensors")
    with pytest.raises(ReleaseError, match="no safetensors file"):
        load_release(tmp_path / "r")


def test_arguments_that_the_architecture_does_not_take_are_reported(tmp_path):
    write(tmp_path / "r")
    edit(tmp_path / "r", arguments={"depth": 3})
    with pytest.raises(ReleaseError, match="depth"):
        load_release(tmp_path / "r")


def test_a_release_can_be_read_where_nothing_can_be_written(tmp_path):
    write(tmp_path / "r")
    for path in [*(tmp_path / "r").iterdir(), tmp_path / "r"]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        before = sorted(tmp_path.rglob("*"))
        assert from_pretrained(tmp_path / "r", verify=True).info["release"] == "learner-noise"
        assert sorted(tmp_path.rglob("*")) == before
    finally:
        (tmp_path / "r").chmod(0o755)


# ------------------------------------------------------------------- checkpoints


class Averaging(WeightAveraging):
    def should_update(self, step_idx=None, epoch_idx=None):
        return step_idx is not None


def fit(path, model=None, **options):
    model = model or learner()
    run = trainer(**options)
    run.fit(model.train(), Songs())
    run.save_checkpoint(path)
    return model


def test_a_checkpoint_of_a_plain_trainer_loads(tmp_path):
    model = fit(tmp_path / "run.ckpt", learner(width=6))
    again = from_pretrained(tmp_path / "run.ckpt")
    assert type(again) is Learner and not again.training
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


def test_a_checkpoint_of_lightnings_command_line_loads(tmp_path):
    cli = LightningCLI(
        Separator, Songs, subclass_mode_model=True, run=False, save_config_callback=None,
        args=[f"--model={__name__}.Learner", "--model.width=3"],
        trainer_defaults={"max_epochs": 1, "logger": False, "enable_progress_bar": False,
                          "accelerator": "cpu", "enable_checkpointing": False},
    )  # fmt: skip
    cli.trainer.fit(cli.model, cli.datamodule)
    cli.trainer.save_checkpoint(tmp_path / "run.ckpt")
    content = torch.load(tmp_path / "run.ckpt", weights_only=True)
    assert content["hyper_parameters"]["_class_path"] == f"{__name__}.Learner"
    assert load_checkpoint(tmp_path / "run.ckpt").network[0].out_channels == 3
    del content["zoo"]  # as written by a version, or a subclass, that does not say
    torch.save(content, tmp_path / "run.ckpt")
    assert load_checkpoint(tmp_path / "run.ckpt").network[0].out_channels == 3
    write(tmp_path / "r", cli.model)
    assert verify(tmp_path / "r") == 0


def test_of_a_training_with_averaging_the_average_is_loaded(tmp_path):
    model = learner()
    run = trainer(callbacks=[Averaging()])
    paths = []
    model.on_train_epoch_end = lambda: run.save_checkpoint(paths.append(tmp_path / "a") or paths[0])
    run.fit(model.train(), Songs())
    content = torch.load(tmp_path / "a", weights_only=True)
    key = "network.0.weight"
    assert not torch.equal(content["state_dict"][key], content["current_model_state"][key])
    assert torch.equal(
        load_checkpoint(tmp_path / "a").state_dict()[key], content["state_dict"][key]
    )


def test_a_checkpoint_has_no_golden_pair(tmp_path):
    fit(tmp_path / "run.ckpt")
    with pytest.raises(ReleaseError, match="no golden pair"):
        from_pretrained(tmp_path / "run.ckpt", verify=True)


def test_a_truncated_checkpoint_is_one_sentence(tmp_path):
    fit(tmp_path / "run.ckpt")
    data = (tmp_path / "run.ckpt").read_bytes()
    for share in (0, 0.01, 0.5, 0.99):
        (tmp_path / "run.ckpt").write_bytes(data[: int(share * len(data))])
        with pytest.raises(ReleaseError, match="damaged") as error:
            from_pretrained(tmp_path / "run.ckpt")
        assert "\n" not in str(error.value)


class Bomb:
    """Creates a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("kind", ["zip", "legacy", "bare"])
def test_a_pickle_that_runs_code_is_refused_unrun(tmp_path, kind):
    content = {"state_dict": {}, "hyper_parameters": {"x": Bomb(tmp_path / "touched")}}
    if kind == "bare":
        (tmp_path / "bomb.ckpt").write_bytes(pickle.dumps(content))
    else:
        torch.save(content, tmp_path / "bomb.ckpt", _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(ReleaseError) as error:
        from_pretrained(tmp_path / "bomb.ckpt")
    assert not (tmp_path / "touched").exists()
    assert ("open, which could run code" if kind != "bare" else "damaged") in str(error.value)


def test_a_pickle_bomb_in_a_release_is_never_opened(tmp_path):
    write(tmp_path / "r")
    torch.save(Bomb(tmp_path / "touched"), tmp_path / "r" / "model.safetensors")
    rehash(tmp_path / "r", "model.safetensors")
    with pytest.raises(ReleaseError, match="no safetensors file"):
        from_pretrained(tmp_path / "r")
    assert not (tmp_path / "touched").exists()


def test_a_class_path_outside_the_catalog_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    content = {
        "state_dict": {"a": torch.ones(1)},
        "hyper_parameters": {"_class_path": "evil.Model", "_instantiator": "evil.make"},
    }
    torch.save(content, tmp_path / "evil.ckpt")
    with pytest.raises(ReleaseError, match="'evil.Model', which is not in the catalog"):
        from_pretrained(tmp_path / "evil.ckpt")


def test_a_bare_state_dict_is_refused_with_what_to_do(tmp_path):
    torch.save(learner().state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ReleaseError, match="zoo import"):
        from_pretrained(tmp_path / "weights.pth")


def test_a_zip_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.ckpt", "w") as file:
        file.writestr("hello.txt", "hello")
    with pytest.raises(ReleaseError, match="damaged or no checkpoint"):
        from_pretrained(tmp_path / "x.ckpt")


def test_a_flipped_byte_in_a_checkpoint_is_noticed(tmp_path):
    torch.save({"state_dict": {"a": torch.zeros(5000)}}, tmp_path / "x.ckpt")
    content = bytearray((tmp_path / "x.ckpt").read_bytes())
    content[len(content) // 2] ^= 1  # in the zeros
    (tmp_path / "x.ckpt").write_bytes(content)
    with pytest.raises(ReleaseError, match="damaged or no checkpoint"):
        from_pretrained(tmp_path / "x.ckpt")


def test_a_checkpoint_of_a_wrapped_model_loads_and_a_foreign_key_is_named(tmp_path):
    fit(tmp_path / "run.ckpt")
    content = torch.load(tmp_path / "run.ckpt", weights_only=True)
    state = content["state_dict"]
    content["state_dict"] = {f"_orig_mod.module.{k}": v for k, v in state.items()}
    torch.save(content, tmp_path / "run.ckpt")
    key = "network.0.weight"
    assert torch.equal(load_checkpoint(tmp_path / "run.ckpt").state_dict()[key], state[key])
    content["state_dict"] = {f"student.{k}": v for k, v in state.items()}
    torch.save(content, tmp_path / "run.ckpt")
    with pytest.raises(ReleaseError, match="key '.*' is missing"):
        load_checkpoint(tmp_path / "run.ckpt")


# ------------------------------------------------------------------- prefixes


def prefixed(prefix, **more):
    return {f"{prefix}{k}": v for k, v in learner().state_dict().items()} | more


@pytest.mark.parametrize(
    "state",
    [
        prefixed(""),
        prefixed("module."),
        prefixed("_orig_mod."),
        prefixed("module._orig_mod."),
        prefixed("_orig_mod.module."),
        prefixed("module.module.", n_averaged=torch.tensor(3)),
        prefixed("ema_model.module.") | prefixed("online_model."),
        prefixed("ema_model.", initted=torch.tensor(True), step=torch.tensor(3)),
    ],
    ids=lambda state: next(iter(state)),
)
def test_usual_prefixes_go(state):
    own = learner().state_dict()
    stripped = strip_prefixes(state, own)
    assert stripped.keys() == own.keys()
    assert all(torch.equal(stripped[key], own[key]) for key in own)


def test_torch_averages_go_into_the_model():
    averaged = torch.optim.swa_utils.AveragedModel(learner())
    assert strip_prefixes(averaged.state_dict()).keys() == learner().state_dict().keys()


def test_a_compiled_part_is_found_inside_a_key():
    assert list(strip_prefixes({"network._orig_mod.0.bias": torch.ones(1)})) == ["network.0.bias"]


def test_a_model_whose_own_part_is_called_module_is_left_alone():
    state = {"module.weight": torch.ones(1)}
    assert strip_prefixes(state, expected=["module.weight"]) == state


# ------------------------------------------------------------------- names


def test_a_bundled_release_is_found_by_name(tmp_path, caplog):
    write(tmp_path / "bundled" / "learner-noise")
    with caplog.at_level(logging.INFO, logger="zoo"):
        model = from_pretrained("learner-noise")
    assert list(bundled()) == ["learner-noise"]
    assert model.info == {
        "release": "learner-noise",
        "sha256": describe("learner-noise").sha256["model.safetensors"],
        "trained_on": "noise",
        "stand_in_for": None,
        "licence": LICENCE,
        "source": str((tmp_path / "bundled" / "learner-noise").resolve()),
    }
    assert caplog.messages == [
        "learner-noise (bundled): vocals, other at 8000 Hz; trained on noise; weights CC BY 4.0"
    ]


def test_a_release_without_its_weights_is_told_and_not_loaded(tmp_path, capsys):
    write(tmp_path / "bundled" / "learner-noise")
    (tmp_path / "bundled" / "learner-noise" / "model.safetensors").unlink()
    assert not bundled() and list(recorded()) == ["learner-noise"]
    assert describe("learner-noise").trained_on == "noise"
    with pytest.raises(UnknownModel, match="`zoo fit -c releases/learner-noise` makes them again"):
        from_pretrained("learner-noise")
    assert main(["list"]) == 0
    _, _, told = capsys.readouterr().out.partition("whose weights do not come along")
    assert "learner-noise" in told


def test_the_release_stands_in_what_it_separates(tmp_path):
    write(tmp_path / "r")
    model = from_pretrained(tmp_path / "r", device="cpu")
    estimates = model.separate(torch.zeros(1, 500))
    assert estimates.info["model"]["release"] == "learner-noise"


def test_a_folder_on_disk_comes_before_a_bundled_release(tmp_path, monkeypatch):
    write(tmp_path / "bundled" / "learner-noise")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "learner-noise").mkdir()  # such as the logs of a run: no release
    assert "bundled" in from_pretrained("learner-noise").info["source"]
    (tmp_path / "learner-noise").rmdir()
    write(tmp_path / "learner-noise")
    assert "bundled" not in from_pretrained("learner-noise").info["source"]


def test_naming_the_weights_of_a_release_names_the_release(tmp_path):
    write(tmp_path / "r")
    for name in ("model.safetensors", "config.json"):
        assert from_pretrained(tmp_path / "r" / name).info["release"] == "learner-noise"


def test_a_folder_that_is_no_release_is_refused(tmp_path):
    with pytest.raises(ReleaseError, match="holds no config.json"):
        from_pretrained(tmp_path)


def test_a_stand_in_is_given_with_a_warning_or_not_at_all(tmp_path, caplog):
    write(tmp_path / "bundled" / "learner-noise", stand_in_for="learner-dsd100")
    model = from_pretrained("learner-dsd100")
    assert model.info["release"] == "learner-noise"
    assert "STANDS IN FOR learner-dsd100" in caplog.messages[0]
    with pytest.raises(UnknownModel, match="'learner-noise' stands in for them"):
        from_pretrained("learner-dsd100", stand_in=False)


def test_a_damaged_bundled_release_does_not_hide_the_others(tmp_path, caplog):
    write(tmp_path / "bundled" / "learner-noise")
    (tmp_path / "bundled" / "broken").mkdir()
    (tmp_path / "bundled" / "broken" / "config.json").write_text("version https://git-lfs")
    assert list(bundled()) == ["learner-noise"]
    assert "broken" in caplog.text


@pytest.mark.parametrize(
    "name, message",
    [
        ("learner-nose", "Did you mean 'learner-noise'"),
        ("learner", r"'learner' is an architecture.*zoo.create\('learner'\)"),
        ("nothing/like/this", "no file or folder"),
        ("run.ckpt", "no file or folder"),
        ("zzz", "Expected a name that `zoo list` shows, the folder.*checkpoint.*org/name"),
        ("", "no release named ''"),
    ],
)
def test_an_unknown_name_is_refused_with_what_to_write(tmp_path, name, message):
    write(tmp_path / "bundled" / "learner-noise")
    for find in (from_pretrained, describe):
        with pytest.raises(UnknownModel, match=message):
            find(name)


def test_bundled_releases_of_the_package_give_their_golden_pairs(monkeypatch):
    monkeypatch.undo()
    for name in bundled():
        assert verify(name) < 0.05, name


# ------------------------------------------------------------------- the Hub


@pytest.fixture
def no_hub(tmp_path, monkeypatch):
    """A Hub at an address where nobody listens, and a cache of its own."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.mark.parametrize("revision", ["", "@v1.0", "@" + "0" * 40])
def test_a_hub_id_without_network_fails_soon_and_says_what_to_do(no_hub, monkeypatch, revision):
    from huggingface_hub import HfApi

    asked, ask = [], HfApi.model_info

    def spy(*args, timeout, **options):
        asked.append(timeout)
        return ask(*args, timeout=timeout, **options)

    monkeypatch.setattr(HfApi, "model_info", spy)
    with pytest.raises(ReleaseError, match="cannot be fetched from the Hub") as error:
        from_pretrained("someone/learner-noise" + revision)
    assert asked == [10]  # once: a download would ask five times
    assert len(str(error.value).splitlines()) == 2


def cache(hub, commit, ref=None):
    """Put a release where the client of the Hub keeps what it has downloaded."""
    repository = hub / "models--someone--learner-noise"
    write(repository / "snapshots" / commit)
    if ref:
        (repository / "refs").mkdir()
        (repository / "refs" / ref).write_text(commit)
    return repository / "snapshots" / commit


def test_a_commit_in_the_cache_needs_no_network(no_hub, caplog):
    commit = "0123456789abcdef" * 2 + "01234567"
    folder = cache(no_hub, commit)
    model = from_pretrained(f"someone/learner-noise@{commit}")
    assert model.info["source"] == str(folder)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_a_branch_in_the_cache_is_used_without_network_and_said(no_hub, caplog):
    cache(no_hub, "f" * 40, ref="main")
    assert from_pretrained("someone/learner-noise").info["release"] == "learner-noise"
    assert "taken from the cache" in caplog.text


def test_half_a_release_in_the_cache_does_not_count(no_hub):
    folder = cache(no_hub, "e" * 40)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ReleaseError, match="cannot be fetched"):
        from_pretrained(f"someone/learner-noise@{'e' * 40}")


def test_listing_releases_imports_no_torch(tmp_path):
    import subprocess
    import sys

    code = "import sys, zoo.release as r; r.bundled(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
