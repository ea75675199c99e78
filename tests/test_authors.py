"""Weights that others have published: files of their layouts become releases, others do not."""

import hashlib
import http.server
import pickle
import struct
import threading
import time
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import zoo
from zoo import catalog
from zoo.authors import FORMATS, PUBLISHED, File
from zoo.cli import main
from zoo.errors import ChecksumError, LicenceError, ReleaseError, UnknownModel
from zoo.hub import importing
from zoo.hub.importing import import_files, import_release
from zoo.models.deepconvsep import DeepConvSep
from zoo.models.umx import OpenUnmix
from zoo.models.wave_u_net import WaveUNet
from zoo.models.wavenet import Wavenet

STEMS = ("vocals", "drums", "bass", "other")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A folder and a cache of the test's own, and the same weights in every run."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)


def filled(model):
    """Every parameter noise, so that nothing is symmetric."""
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def same(model, again):
    mixture = torch.randn(1, model.channels, 6000)
    with torch.inference_mode():
        torch.testing.assert_close(again(mixture), model(mixture), rtol=1e-5, atol=1e-6)


@pytest.fixture
def offered(monkeypatch):
    """Says that these files are what has been published under a name, with or without a hash."""

    def offer(name, *paths, place="", hashed=True):
        files = tuple(
            File(
                p.name,
                place and f"{place}/{p.name}",
                hashlib.sha256(p.read_bytes()).hexdigest() if hashed else "",
            )
            for p in paths
        )
        changed = replace(PUBLISHED[name], files=files, parameters=None)
        monkeypatch.setitem(PUBLISHED, name, changed)
        return list(paths)

    return offer


def test_every_offer_says_what_it_is():
    for name, offer in PUBLISHED.items():
        assert name.startswith(f"{offer.architecture}-")
        assert offer.architecture in catalog.list_models()
        assert set(offer.licence) == {"code", "weights", "data"}
        assert all(offer.licence.values()) and offer.origin and offer.trained_on
        module, _, function = offer.reader.partition(":")
        assert callable(getattr(import_module(f"zoo.hub.formats.{module}"), function))
        assert offer.parameters and (offer.data in ("musdb18", "musdb18hq", "dsd100", ""))
        for file in offer.files:
            assert file.url.startswith("https://") or not file.url
            assert file.url.endswith(file.name) or not file.url


# ----------------------------------------------------------------- Open-Unmix


def four_files(folder, **more):
    model = filled(OpenUnmix(STEMS, hidden_size=8))
    files = []
    for name in model.sources:
        path = folder / f"{name}-0123abcd.pth"
        extra = {"sample_rate": torch.tensor(44100.0)}  # as older files have it
        torch.save({**model.networks[name].state_dict(), **extra, **more}, path)
        files.append(path)
    return model, files


def test_files_of_open_unmix_become_a_release(tmp_path, offered):
    model, files = four_files(tmp_path)
    offered("umx-musdb18hq", *files)
    release = import_release("umx-musdb18hq", files[::-1], tmp_path / "out")
    same(model, zoo.from_pretrained(release.folder))
    assert release.licence["weights"] == "not stated by the authors"
    assert set(release.provenance["files"]) == {path.name for path in files}
    card = (release.folder / "README.md").read_text()
    assert "never yet on the published ones" in card and "Zenodo record 3370489" in card


def test_a_file_of_x_umx_becomes_a_release(tmp_path, offered):
    from test_umx import x_umx_file

    model = filled(OpenUnmix(STEMS, hidden_size=8, bridged=True))
    path = tmp_path / "pretrained_xumx.pth"
    versions = {"torch_version": torch.torch_version.TorchVersion("1.7.0")}
    torch.save({"state_dict": x_umx_file(model), "infos": {"software_versions": versions}}, path)
    offered("x-umx-musdb18", path)
    release = import_release("x-umx-musdb18", [path], tmp_path / "out")
    same(model, zoo.from_pretrained(release.folder))


def test_a_wrong_hash_or_number_of_files_is_refused(tmp_path):
    _, files = four_files(tmp_path)
    with pytest.raises(ReleaseError, match=r"vocals-b62c91ce\.pth.* was not given"):
        import_release("umx-musdb18hq", files, tmp_path / "out")
    with pytest.raises(ReleaseError, match="3 files were given"):
        import_release("umx-musdb18hq", files[:3], tmp_path / "out")
    renamed = [p.rename(p.with_name(f.name)) for p, f in
               zip(files, PUBLISHED["umx-musdb18hq"].files, strict=True)]  # fmt: skip
    with pytest.raises(ChecksumError, match="is not the published vocals"):
        import_release("umx-musdb18hq", renamed, tmp_path / "out")
    with pytest.raises(UnknownModel, match="Did you mean 'umx-musdb18'"):
        import_release("umx-musdb", files, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_a_hash_name_and_size_have_to_be_right(tmp_path, offered):
    from test_umx import x_umx_file

    model = OpenUnmix(STEMS, hidden_size=8, bridged=True)
    torch.save(x_umx_file(model), path := tmp_path / "pretrained_xumx.pth")
    with pytest.raises(ReleaseError, match="has 35573392. It is another file"):
        import_release("x-umx-musdb18", [path], tmp_path / "out")
    renamed = path.rename(tmp_path / "pretrained_xumx_musdb18HQ.pth")
    with pytest.raises(ReleaseError, match=r"pretrained_xumx\.pth was not given"):
        import_release("x-umx-musdb18", [renamed], tmp_path / "out")
    offered("x-umx-musdb18", renamed, hashed=False)
    release = import_release("x-umx-musdb18", [renamed], tmp_path / "out")
    assert "no hash is published" in (release.folder / "README.md").read_text()


def test_what_has_no_licence_is_not_published(tmp_path, offered, capsys):
    from zoo.hub.publish import publish

    _, files = four_files(tmp_path)
    offered("umx-musdb18hq", *files)
    release = import_release("umx-musdb18hq", files, tmp_path / "out")
    with pytest.raises(LicenceError, match="not to be given on"):
        publish(release, "org/umx", token="secret", endpoint="http://127.0.0.1:9")


class Trap:
    """A pickle that writes a file where it is trusted."""

    def __reduce__(self):
        return Path.touch, (Path("trapped"),)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (Trap(), "which could run code; nothing of it was loaded"),
        ({"a": 3}, "holds no tensors by name"),
        ({"fc1.weight": torch.ones(2)}, "no X-UMX file"),
        (b"text", "is damaged, or no file of tensors"),
        (b"", "is damaged, or no file of tensors"),
    ],
)
def test_files_that_are_none_are_refused(tmp_path, offered, content, said):
    path = tmp_path / "pretrained_xumx.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    offered("x-umx-musdb18", path)
    with pytest.raises(ReleaseError, match=said):
        import_release("x-umx-musdb18", [path], tmp_path / "out")
    assert not Path("trapped").exists() and not (tmp_path / "out" / "x-umx-musdb18").exists()


# ----------------------------------------------------------------- Wavenet, HDF5 of Keras


def keras_file(path, model, backend="theano", whole=True, first=7, changes=()):
    """A checkpoint as Keras 2.1.5 writes it: on Theano, kernels run the other way in time."""
    h5py = pytest.importorskip("h5py")
    network = model.network
    named = [("initial_causal_conv", network.front)]
    plain = []
    n_dilations = len(network.dilations) // (1 + network.dilations[1:].count(1))
    for i, (block, dilation) in enumerate(zip(network.blocks, network.dilations, strict=True)):
        name = f"res_{i + 1}_dilated_conv_d{dilation}_s{i // n_dilations}"
        named.append((name, block.convolution))
        plain.append(block.projection)
    plain += [network.final_1, network.final_2, network.output]
    named += [(f"conv1d_{first + i}", layer) for i, layer in enumerate(plain)]
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole else file
        root.attrs["layer_names"] = np.array(["data_input", *(name for name, _ in named)], "S")
        root.attrs["backend"], root.attrs["keras_version"] = backend.encode(), b"2.1.5"
        root.create_group("data_input").attrs["weight_names"] = np.array([], "S1")
        for name, layer in named:
            kernel = layer.weight.detach().numpy().transpose(2, 1, 0)
            arrays = {"kernel": kernel[::-1] if backend == "theano" else kernel}
            if layer.bias is not None:
                arrays["bias"] = layer.bias.detach().numpy()
            suffix = "" if backend == "theano" else ":0"
            group = root.create_group(name)
            group.attrs["weight_names"] = np.array([f"{name}/{key}{suffix}" for key in arrays], "S")
            for key, array in arrays.items():
                group[f"{name}/{key}{suffix}"] = array
        for change in changes:
            change(root)
    return path


def small_wavenet(voice=True):
    sources = ("vocals", "accompaniment") if voice else STEMS
    return filled(Wavenet(sources, n_stacks=2, n_dilations=3, width=4, final_maps=[6, 5]))


@pytest.mark.parametrize("backend", ["theano", "tensorflow"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_checkpoint_of_keras_becomes_a_wavenet(tmp_path, offered, backend, whole):
    model = small_wavenet(voice=whole)
    path = keras_file(tmp_path / "checkpoint.hdf5", model, backend, whole)
    name = "wavenet-voice-musdb18" if whole else "wavenet-musdb18"
    offered(name, path)
    release = import_release(name, [path], tmp_path / "out")
    again = zoo.from_pretrained(release.folder)
    same(model, again)
    assert again.sources == model.sources and release.licence["weights"] == "MIT"


def test_without_the_turn_of_kernels_it_is_another_network(tmp_path, offered):
    model = small_wavenet()
    path = keras_file(tmp_path / "checkpoint.hdf5", model, "theano")
    import h5py

    with h5py.File(path, "r+") as file:
        file["model_weights"].attrs["backend"] = b"tensorflow"
    offered("wavenet-voice-musdb18", path)
    again = zoo.from_pretrained(
        import_release("wavenet-voice-musdb18", [path], tmp_path / "out").folder
    )
    with pytest.raises(AssertionError):
        same(model, again)


def drop_kernel(root):
    del root["conv1d_8/conv1d_8/kernel"]


def drop_layer(root):
    names = root.attrs["layer_names"]
    root.attrs["layer_names"] = names[names != b"conv1d_8"]


def add_array(root):
    root["conv1d_8"].attrs["weight_names"] = [b"conv1d_8/kernel", b"conv1d_8/gamma"]
    root["conv1d_8/conv1d_8/gamma"] = np.ones(3, np.float32)


def huge(root):
    del root["conv1d_8/conv1d_8/kernel"]
    root["conv1d_8"].create_dataset(
        "conv1d_8/kernel", (1, 1 << 20, 1 << 20), np.float32, chunks=True
    )


def odd_name(root):
    root.move("conv1d_8", "dense")
    names = root.attrs["layer_names"]
    root.attrs["layer_names"] = np.where(names == b"conv1d_8", b"dense", names)


def group_elsewhere(root):
    import h5py

    del root["conv1d_8"]
    root["conv1d_8"] = h5py.ExternalLink("/etc/passwd", "/conv1d_8")


def elsewhere(root):
    import h5py

    del root["conv1d_8/conv1d_8/kernel"]
    root["conv1d_8/conv1d_8/kernel"] = h5py.ExternalLink("/etc/passwd", "/kernel")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (drop_kernel, "conv1d_8/kernel is missing"),
        (drop_layer, "is no Wavenet: 6 dilated and 8 plain convolutions"),
        (add_array, "holds kernel, gamma|gamma is missing"),
        (huge, "no array of a network's size"),
        (elsewhere, "lies in another file"),
        (group_elsewhere, "lies in another file"),
        (odd_name, "is missing, or lies|it has a layer dense"),
    ],
)
def test_an_odd_file_of_keras_is_refused(tmp_path, offered, change, said):
    path = keras_file(tmp_path / "checkpoint.hdf5", small_wavenet(), changes=[change])
    offered("wavenet-voice-musdb18", path)
    with pytest.raises(ReleaseError, match=said):
        import_release("wavenet-voice-musdb18", [path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_is_known_by_its_hash_in_git_and_its_number_of_parameters(tmp_path, monkeypatch):
    path = keras_file(tmp_path / "checkpoint.hdf5", small_wavenet())
    name = "wavenet-voice-musdb18"
    with pytest.raises(ChecksumError, match="not 2088145d"):
        import_release(name, [path], tmp_path / "out")
    content = path.read_bytes()
    blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
    offer = PUBLISHED[name]
    monkeypatch.setitem(
        PUBLISHED, name, replace(offer, files=(replace(offer.files[0], blob=blob),))
    )
    with pytest.raises(ReleaseError, match="has 3277249"):
        import_release(name, [path], tmp_path / "out")


def test_what_is_no_hdf5_is_refused(tmp_path, offered):
    pytest.importorskip("h5py")
    (path := tmp_path / "checkpoint.hdf5").write_bytes(b"no HDF5")
    offered("wavenet-voice-musdb18", path)
    with pytest.raises(ReleaseError, match="is no file of Keras"):
        import_release("wavenet-voice-musdb18", [path], tmp_path / "out")


# ----------------------------------------------------------------- Wave-U-Net


def tensorflow_variables(model):
    """Names and shapes as the authors' code makes them, in the order of creation."""
    network = model.network
    layers = [*network.down, network.bottleneck, *network.up, *network.heads]
    found = {}
    for i, layer in enumerate(layers):
        name = f"separator/conv1d_{i}" if i else "separator/conv1d"
        found[f"{name}/kernel"] = layer.weight.detach().numpy().transpose(2, 1, 0)
        found[f"{name}/bias"] = layer.bias.detach().numpy()
    for i, place in enumerate(network.places):
        found[f"separator/interp_{i}"] = place.detach().numpy()
    return found


@pytest.mark.parametrize(
    "name", ["wave-u-net-musdb18", "wave-u-net-m4-extra", "wave-u-net-m5-highsr-extra"]
)
def test_variables_of_wave_u_net_become_a_release(tmp_path, offered, name):
    offer = PUBLISHED[name]
    arguments = catalog.entry(offer.architecture).arguments
    model = filled(WaveUNet(**{**arguments, "n_levels": 3, "n_maps": 4}))
    np.savez(path := tmp_path / "M.npz", **tensorflow_variables(model))
    offered(name, path)
    release = import_release(name, [path], tmp_path / "out")
    again = zoo.from_pretrained(release.folder)
    same(model, again)
    assert set(again.sources) == set(offer.sources)


@pytest.mark.parametrize("key", ["separator/conv1d_3/kernel", "separator/conv1d_3/bias", None])
def test_odd_variables_are_refused(tmp_path, offered, key):
    variables = tensorflow_variables(WaveUNet(n_levels=3, n_maps=4))
    if key:
        del variables[key]
    else:
        variables["separator/dense/kernel"] = np.ones((1, 2, 3), np.float32)
    np.savez(path := tmp_path / "M6.npz", **variables)
    offered("wave-u-net-musdb18", path)
    with pytest.raises(ReleaseError, match="is no Wave-U-Net"):
        import_release("wave-u-net-musdb18", [path], tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"PK", b"text"])
def test_a_damaged_npz_is_refused(tmp_path, offered, content):
    (path := tmp_path / "M6.npz").write_bytes(content)
    offered("wave-u-net-musdb18", path)
    with pytest.raises(ReleaseError, match=r"is no \.npz of arrays"):
        import_release("wave-u-net-musdb18", [path], tmp_path / "out")


def test_pickled_variables_are_refused(tmp_path, offered):
    np.savez(path := tmp_path / "M6.npz", a=np.array([Trap()], object))
    offered("wave-u-net-musdb18", path)
    with pytest.raises(ReleaseError, match=r"is no \.npz of arrays"):
        import_release("wave-u-net-musdb18", [path], tmp_path / "out")
    assert not Path("trapped").exists()


# ----------------------------------------------------------------- DeepConvSep, a pickle


def fifteen_arrays(model):
    """As the authors' program has them: kernels the other way round, each bias in two parts."""
    network = model.network
    arrays = []
    for layer in (network.vertical, network.horizontal):
        bias = layer.bias.detach()
        arrays += [layer.weight.detach().flip(2, 3), 0.25 * bias, 0.75 * bias]
    for layer in (network.bottleneck, *network.decoders):
        arrays += [layer.weight.detach().T, layer.bias.detach()]
    return [np.ascontiguousarray(a.numpy()) for a in [*arrays, network.bias.detach()]]


def small_deepconvsep():
    return filled(
        DeepConvSep(n_fft=64, hop=32, n_vertical=5, n_horizontal=6, n_hidden=7, bug_compatible=True)
    )


class Python2(pickle._Pickler):
    """Writes bytes as Python 2 wrote its strings."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_bytes(self, value):
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes


def test_a_pickle_of_python_2_becomes_a_deepconvsep(tmp_path, offered):
    model = small_deepconvsep()
    path = tmp_path / "model.pkl"
    with path.open("wb") as file:
        Python2(file, 2).dump(fifteen_arrays(model))
    offered("deepconvsep-dsd100", path)
    release = import_release("deepconvsep-dsd100", [path], tmp_path / "out")
    again = zoo.from_pretrained(release.folder)
    same(model, again)
    assert torch.equal(again.network.horizontal.weight, model.network.horizontal.weight)


class Called:
    """Asks for an array of a size, which nobody has filled."""

    def __reduce__(self):
        return np.ndarray, ((1 << 20,),)


def test_a_pickle_that_runs_something_is_refused_unrun(tmp_path, offered):
    arrays = fifteen_arrays(small_deepconvsep())
    path = tmp_path / "model.pkl"
    for content, said in [
        ([*arrays[:-1], Trap()], "which is no array"),
        (arrays[:-1], "does not hold its fifteen arrays"),
        ([*arrays[:-1], Called()], "is no list of arrays"),
        ([*arrays[:-1], np.array([None])], "is no list of arrays|fifteen arrays"),
    ]:
        path.write_bytes(pickle.dumps(content))
        offered("deepconvsep-dsd100", path)
        with pytest.raises(ReleaseError, match=said):
            import_release("deepconvsep-dsd100", [path], tmp_path / "out")
    assert not Path("trapped").exists()


# ----------------------------------------------------------------- Demucs


def test_a_bundle_of_torchaudio_becomes_a_release(tmp_path, offered):
    model = filled(zoo.create("hdemucs", width=4))
    torch.save(model.network.state_dict(), path := tmp_path / "hdemucs.pt")
    offered("hdemucs-musdb18hq", path)
    release = import_release("hdemucs-musdb18hq", [path], tmp_path / "out")
    again = zoo.from_pretrained(release.folder)
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)


@pytest.mark.skipif(find_spec("demucs") is None, reason="demucs is not installed")
def test_a_file_of_demucs_becomes_a_release(tmp_path, offered):
    from fractions import Fraction

    zoo.create("htdemucs", width=8, n_layers=1, n_heads=2)  # so that torchaudio is loaded
    from demucs.htdemucs import HTDemucs
    from demucs.states import get_state

    network = HTDemucs(
        sources=["drums", "bass", "other", "vocals"], channels=8, bottom_channels=16, t_layers=1,
        t_heads=2, segment=Fraction(39, 5), dconv_mode=3,
    )  # fmt: skip
    filled(network)
    args, kwargs = network._init_args_kwargs
    content = {
        "klass": HTDemucs, "args": args, "kwargs": kwargs, "training_args": {"seed": 42},
        "state": get_state(network, None, half=True),
    }  # fmt: skip
    torch.save(content, path := tmp_path / "955717e8-8726e21a.th")
    offered("htdemucs-extra", path)
    release = import_release("htdemucs-extra", [path], tmp_path / "out")
    again = zoo.from_pretrained(release.folder).network
    for key, value in network.state_dict().items():
        assert torch.equal(again.state_dict()[key], value.half().float())
    assert release.arguments["bottom_width"] == 16 and release.arguments["segment_s"] == 7.8


# ----------------------------------------------------------------- anybody's files


def test_a_checkpoint_of_asteroid_asks_what_it_separates(tmp_path, capsys):
    (path := tmp_path / "model.pth").write_bytes(b"")
    line = ["import", "asteroid", str(path)]
    assert main(line) == 2
    assert "need a name" in capsys.readouterr().err
    assert main([*line, "--name", "asteroid-wham"]) == 2
    assert "--sources" in capsys.readouterr().err
    assert main([*line, "--name", "asteroid-wham", "--sources", "vocals,accompaniment"]) == 2
    assert "error:" in capsys.readouterr().err
    assert not Path("releases").exists()


@pytest.mark.skipif(find_spec("asteroid") is None, reason="asteroid is not installed")
def test_a_checkpoint_of_asteroid_becomes_a_release(tmp_path):
    arguments = {"n_filters": 16, "kernel_size": 8, "bn_chan": 8, "hid_chan": 8, "skip_chan": 8,
                 "n_blocks": 2, "n_repeats": 1}  # fmt: skip
    model = filled(
        zoo.create("asteroid", sources=["a", "b"], sample_rate=8000, model_args=arguments)
    )
    torch.save(model.network.serialize(), path := tmp_path / "model.pth")
    release = import_files("asteroid", [path], "asteroid-wham", sources=["a", "b"])
    same(model, zoo.from_pretrained(release.folder))


COMMUNITY = """
audio:
  sample_rate: 44100
  num_channels: 2
model:
  dim: 16
  depth: 2
  stereo: true
  num_stems: 1
  time_transformer_depth: 1
  freq_transformer_depth: 1
  {bands}
  dim_head: 8
  heads: 2
  attn_dropout: 0.1
  flash_attn: true
  dim_freqs_in: 1025
  stft_n_fft: 2048
  stft_hop_length: 441
  stft_win_length: 2048
  stft_normalized: false
  mask_estimator_depth: 2
  multi_stft_resolutions_window_sizes: !!python/tuple
  - 4096
  - 2048
training:
  instruments: [vocals, other]
  target_instrument: vocals
"""


@pytest.mark.skipif(find_spec("bs_roformer") is None, reason="bs-roformer is not installed")
@pytest.mark.parametrize("kind", ["bs-roformer", "mel-band-roformer"])
def test_a_checkpoint_of_the_community_becomes_a_release(tmp_path, kind):
    import bs_roformer

    is_mel = kind.startswith("mel")
    bands = "num_bands: 60\n  linear_transformer_depth: 0\n  sample_rate: 44100"
    if not is_mel:
        bands = f"freqs_per_bands: !!python/tuple {[25] * 41}"
    (described := tmp_path / "config.yaml").write_text(COMMUNITY.format(bands=bands))
    told = yaml.load(described.read_text().replace("!!python/tuple", ""), yaml.SafeLoader)["model"]
    told = {k: tuple(v) if isinstance(v, list) else v for k, v in told.items()}
    cls = bs_roformer.MelBandRoformer if is_mel else bs_roformer.BSRoformer
    told |= {"num_residual_streams": 1, "flash_attn": False}
    if not is_mel:
        told.pop("linear_transformer_depth", None)
    network = filled(cls(**told))
    # What such a file lacks: gates, here shut, and the names of the connections' branches.
    state, gates = {}, []
    for key, value in network.state_dict().items():
        if "value_residual_mix" in key:
            value.fill_(-100.0 if key.endswith("bias") else 0.0)
            gates.append(key)
        else:
            state[key.replace(".branch.", ".")] = value
    assert gates
    torch.save(state, weights := tmp_path / "model.ckpt")
    release = import_files(kind, [weights, described], f"{kind}-community")
    again = zoo.from_pretrained(release.folder)
    assert again.sources == ("vocals", "accompaniment")
    mixture = torch.randn(1, 2, 441 * 20)
    with torch.inference_mode():
        torch.testing.assert_close(again(mixture)[:, 0], network(mixture), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: !!python/object/apply:os.system ['touch trapped']", "is no plain YAML"),
        ("audio: {}", "has no section 'model'"),
        ("model: {dim: 16, depth: 1, mystery: 3}\ntraining: {instruments: [a, b]}", "mystery 3"),
        ("model: {dim: 16, depth: 1}", "does not name its sources"),
        ("model: {dim: 16}\ntraining: [1]", "training is no section"),
        ("model: {dim: 16}\ntraining: {instruments: vocals}", "does not name its sources"),
        ("model: {dim: x, depth: 1}\ntraining: {instruments: [a, b]}", "describes no BSRoformer"),
    ],
)
@pytest.mark.skipif(find_spec("bs_roformer") is None, reason="bs-roformer is not installed")
def test_an_odd_description_is_refused(tmp_path, text, said):
    (described := tmp_path / "config.yaml").write_text(text)
    torch.save({}, weights := tmp_path / "model.ckpt")
    with pytest.raises(ReleaseError, match=said):
        import_files("bs-roformer", [weights, described], "bs-roformer-odd")
    assert not Path("trapped").exists() and not Path("releases").exists()


@pytest.mark.skipif(find_spec("bs_roformer") is None, reason="bs-roformer is not installed")
@pytest.mark.parametrize(
    ("sources", "said"),
    [("vocals,", "a name is empty"), ("a,b,c", "not of a, b, c"), (" , ", "a name is empty")],
)
def test_odd_sources_are_refused(tmp_path, capsys, sources, said):
    (described := tmp_path / "config.yaml").write_text("model: {dim: 16, depth: 1, stereo: true}")
    torch.save({}, weights := tmp_path / "model.ckpt")
    line = ["import", "bs-roformer", str(weights), str(described), "--name=bs-roformer-x"]
    assert main([*line, "--sources", sources]) == 2
    assert said in capsys.readouterr().err and not Path("releases").exists()


def test_every_kind_is_an_architecture():
    assert set(FORMATS) <= set(catalog.list_models())


# ----------------------------------------------------------------- from the authors' own place


class Counting(http.server.SimpleHTTPRequestHandler):
    asked: list[str] = []

    def do_GET(self):
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    """The address of a real server, and what was asked of it."""
    (folder := tmp_path / "served").mkdir()
    Counting.asked = []
    handler = partial(Counting, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_a_name_is_enough_and_asks_once(server, offered, tmp_path, caplog, capsys):
    folder, place = server
    model, files = four_files(folder)
    offered("umx-musdb18", *files, place=place)
    again = zoo.from_pretrained("umx-musdb18")
    same(model, again)
    assert len(Counting.asked) == 4
    assert "licence of the weights: not stated by the authors" in caplog.text
    assert again.info["release"] == "umx-musdb18"
    zoo.from_pretrained("umx-musdb18")
    assert len(Counting.asked) == 4
    assert {
        p.name for p in (tmp_path / "cache" / "authors").iterdir() if not p.name.startswith(".")
    } == {"umx-musdb18"}
    assert main(["list", "--pretrained"]) == 0
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if line.split()[:1] == ["umx-musdb18"])
    assert "in the cache" in row
    assert main(["info", "umx-musdb18"]) == 0 and main(["verify", "umx-musdb18"]) == 0


def test_what_has_come_is_not_fetched_again(server, offered):
    folder, place = server
    model, files = four_files(folder)
    offered("umx-musdb18", *files, place=place)
    last = files[-1].rename(files[-1].with_suffix(".away"))
    with pytest.raises(ReleaseError, match=r"cannot be downloaded: 404"):
        zoo.from_pretrained("umx-musdb18")
    last.rename(files[-1])
    Counting.asked.clear()
    same(model, zoo.from_pretrained("umx-musdb18"))
    assert len(Counting.asked) == 1


def test_a_page_in_place_of_a_file_without_a_hash_is_not_kept(server, offered):
    from test_umx import x_umx_file

    folder, place = server
    model = filled(OpenUnmix(STEMS, hidden_size=8, bridged=True))
    path = folder / "pretrained_xumx.pth"
    path.write_bytes(b"<html>log in</html>")
    offered("x-umx-musdb18", path, place=place, hashed=False)
    with pytest.raises(ReleaseError, match="no file of tensors"):
        zoo.from_pretrained("x-umx-musdb18")
    torch.save(x_umx_file(model), path)
    same(model, zoo.from_pretrained("x-umx-musdb18"))


def test_a_mended_reader_makes_its_releases_anew(server, offered, monkeypatch):
    folder, place = server
    _, files = four_files(folder)
    offered("umx-musdb18", *files, place=place)
    zoo.from_pretrained("umx-musdb18")
    monkeypatch.setattr(importing, "CONVERTERS", importing.CONVERTERS + 1)
    zoo.from_pretrained("umx-musdb18")
    assert len(Counting.asked) == 8


def test_an_import_leaves_nothing_beside_its_release(server, offered, tmp_path):
    folder, place = server
    _, files = four_files(folder)
    offered("umx-musdb18", *files, place=place)
    import_release("umx-musdb18", output=tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["umx-musdb18"]


def test_another_file_than_the_published_one_is_thrown_away(server, offered):
    folder, place = server
    model, files = four_files(folder)
    offered("umx-musdb18", *files, place=place)
    right = files[0].read_bytes()
    files[0].write_bytes(right[:-1] + b"?")
    with pytest.raises(ChecksumError, match="is not the published vocals"):
        zoo.from_pretrained("umx-musdb18")
    files[0].write_bytes(right)
    same(model, zoo.from_pretrained("umx-musdb18"))


def test_without_a_network_two_lines_say_so_soon(offered, tmp_path, capsys):
    _, files = four_files(tmp_path)
    offered("umx-musdb18", *files, place="http://127.0.0.1:9")
    start = time.monotonic()
    assert main(["verify", "umx-musdb18"]) == 2
    assert time.monotonic() - start < 5
    said = capsys.readouterr().err.strip().splitlines()
    assert "cannot be downloaded" in said[-2] and "zoo import umx-musdb18 FILE..." in said[-1]
    assert not list((tmp_path / "cache" / "authors").glob("[!.]*"))


def test_what_a_program_cannot_fetch_says_where_it_is():
    with pytest.raises(ReleaseError, match="to be had from the authors' cloud drive"):
        zoo.from_pretrained("deepconvsep-dsd100")
    with pytest.raises(ReleaseError, match="Give the file"):
        import_release("deepconvsep-dsd100")


def test_a_retired_name_says_what_follows_it(monkeypatch):
    monkeypatch.setitem(
        zoo.release.RETIRED, "umx-old", "its data leaked into the test. Ask for 'umx-open'."
    )
    with pytest.raises(UnknownModel, match="is retired: its data leaked.*'umx-open'"):
        zoo.from_pretrained("umx-old")
