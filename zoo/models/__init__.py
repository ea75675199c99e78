"""The systems of the zoo, one file each, and the table by which the catalog knows them.

The table holds facts only and imports nothing, so that ``zoo list`` needs no torch.
"""

from typing import Any

_MMDENSENET = "Takahashi and Mitsufuji, WASPAA 2017, arXiv 1706.09588"
_TINY_DENSE: dict[str, Any] = {
    "n_fft": 256,
    "hop": 128,
    "segment_frames": 32,
    "first_maps": 4,
    "low": [[3, 2]] * 5,
    "high": [[2, 1]] * 5,
    "full": [[2, 1]] * 5,
    "last_block": [2, 1],
}
_MMDENSENET_TINY: dict[str, Any] = {"sample_rate": 8000, **_TINY_DENSE}

_WAVE_U_NET_TINY: dict[str, Any] = {
    "sample_rate": 8000,
    "n_levels": 3,
    "n_maps": 6,
    "target_field": 512,
}
_VOICE: dict[str, Any] = {"sources": ["accompaniment", "vocals"]}

_WAVENET: dict[str, Any] = {
    "target": "zoo.models.wavenet:Wavenet",
    "paper": "Lluis, Pons and Serra, Interspeech 2019, arXiv 1810.12187",
    "domain": "waveform",
    "tiny": {
        "sample_rate": 8000,
        "n_stacks": 2,
        "n_dilations": 5,
        "width": 12,
        "final_maps": [32, 16],
        "target_field": 161,
    },
}

_STEMS = {"sources": ["bass", "drums", "other", "vocals"], "sample_rate": 44100, "channels": 2}

_UHLICH = "Uhlich et al., ICASSP 2017"

TABLE: dict[str, dict[str, Any]] = {
    "asteroid": {
        "target": "zoo.models.asteroid:AsteroidModel",
        "paper": "Pariente et al., Interspeech 2020",
        "domain": "waveform",
        "summary": "the separators of the package asteroid, by default Conv-TasNet",
        "tiny": {
            "sources": ["vocals", "accompaniment"],
            "sample_rate": 8000,
            "model_args": {
                "n_filters": 32,
                "bn_chan": 16,
                "hid_chan": 24,
                "skip_chan": 16,
                "n_blocks": 3,
                "n_repeats": 1,
            },
            "segment_s": 0.6,
        },
        "facts": {
            **_STEMS,
            "sources": ["vocals", "drums", "bass", "other"],
            "channels": 1,
            "parameters": 5_182_641,
            "context_s": None,
            "gflop_per_s": 56.5,
        },
    },
    "blend": {
        "target": "zoo.models.blend:Blend",
        "paper": _UHLICH,
        "domain": "spectrogram",
        "summary": "a weighted mean of several systems, here FNN and BLSTM",
        "tiny": {
            "sample_rate": 8000,
            "members": {
                name: {
                    "architecture": "mmdensenet",
                    "arguments": {**_TINY_DENSE, "first_maps": maps},
                }
                for name, maps in (("a", 4), ("b", 3))
            },
            "weights": {"a": 0.3, "b": 0.7},
        },
        "facts": {
            **_STEMS,
            "parameters": 187_295_592,
            "context_s": None,
            "gflop_per_s": 34.3,
        },
    },
    "blstm": {
        "target": "zoo.models.blstm:BLSTM",
        "paper": _UHLICH,
        "domain": "spectrogram",
        "summary": "bidirectional LSTM layers, a network per source",
        "tiny": {
            "sample_rate": 8000,
            "n_fft": 256,
            "hop": 64,
            "n_cells": 8,
            "n_layers": 2,
            "bandwidth_hz": 3000,
            "segment_s": 0.4,
        },
        "facts": {
            **_STEMS,
            "parameters": 120_088_392,
            "context_s": None,
            "gflop_per_s": 10.4,
        },
    },
    "deepnmf": {
        "target": "zoo.models.deepnmf:DeepNMF",
        "paper": "Le Roux, Hershey and Weninger, ICASSP 2015",
        "domain": "spectrogram",
        "summary": "iterations of non-negative matrix factorisation as layers",
        "tiny": {
            "sample_rate": 8000,
            "n_fft": 128,
            "hop": 64,
            "n_bases": 4,
            "n_layers": 4,
            "sparsity": 0.1,
            "segment_frames": 24,
        },
        "facts": {
            **_STEMS,
            "parameters": 4_920_000,
            "context_s": None,
            "gflop_per_s": 4.8,
        },
    },
    "fnn": {
        "target": "zoo.models.fnn:FNN",
        "paper": f"Uhlich, Giron and Mitsufuji, ICASSP 2015; {_UHLICH}",
        "domain": "spectrogram",
        "summary": "rectified layers, begun by least squares, a network per source",
        "tiny": {
            "sample_rate": 8000,
            "n_fft": 128,
            "hop": 64,
            "n_neighbours": 2,
            "n_layers": 2,
            "segment_frames": 24,
        },
        "facts": {
            **_STEMS,
            "parameters": 16_826_400,
            "context_s": None,
            "gflop_per_s": 6.0,
        },
    },
    "conv-tasnet": {
        "target": "zoo.models.torchaudio_models:ConvTasNet",
        "paper": "Luo and Mesgarani, TASLP 2019, arXiv 1809.07454",
        "domain": "waveform",
        "summary": "masks on a learned transform, by dilated convolutions",
        "tiny": {
            "sample_rate": 8000,
            "channels": 1,
            "n_filters": 32,
            "n_bottleneck": 16,
            "n_hidden": 24,
            "n_layers": 3,
            "n_stacks": 1,
            "segment_s": 0.2,
        },
        "facts": {
            **_STEMS,
            "sources": ["drums", "bass", "other", "vocals"],
            "parameters": 5_116_977,
            "context_s": None,
            "gflop_per_s": 111.5,
        },
    },
    "deepconvsep": {
        "target": "zoo.models.deepconvsep:DeepConvSep",
        "paper": "Chandna, Miron, Janer and Gomez, LVA/ICA 2017",
        "domain": "spectrogram",
        "summary": "one small convolutional encoder of patches, a decoder per source, masks",
        "tiny": {
            "sample_rate": 8000,
            "n_fft": 256,
            "hop": 128,
            "patch_frames": 10,
            "n_vertical": 12,
            "n_horizontal": 8,
            "n_hidden": 24,
        },
        "facts": {
            **_STEMS,
            "sources": ["vocals", "bass", "drums", "other"],
            "channels": 1,
            "parameters": 357_482,
            "context_s": 0.43,
            "gflop_per_s": 0.2,
        },
    },
    "mdensenet": {
        "target": "zoo.models.mmdensenet:MMDenseNet",
        "arguments": {"multi_band": False},
        "paper": _MMDENSENET,
        "domain": "spectrogram",
        "summary": "dense blocks at several scales, over the whole band",
        "tiny": _MMDENSENET_TINY,
        "facts": {**_STEMS, "parameters": 492_600, "context_s": None, "gflop_per_s": 18.3},
    },
    "mmdensenet": {
        "target": "zoo.models.mmdensenet:MMDenseNet",
        "paper": _MMDENSENET,
        "domain": "spectrogram",
        "summary": "dense blocks at several scales, with one network per frequency band",
        "tiny": _MMDENSENET_TINY,
        "facts": {**_STEMS, "parameters": 1_089_440, "context_s": None, "gflop_per_s": 21.0},
    },
    "hdemucs": {
        "target": "zoo.models.torchaudio_models:HybridDemucs",
        "paper": "Defossez, MDX workshop 2021, arXiv 2111.03600",
        "domain": "waveform",
        "summary": "two U-Nets, on waveform and spectrogram, that meet in the middle",
        "tiny": {
            "sample_rate": 8000,
            "channels": 1,
            "width": 8,
            "n_fft": 256,
            "depth": 4,
            "segment_s": 0.3,
        },
        "facts": {
            **_STEMS,
            "sources": ["drums", "bass", "other", "vocals"],
            "parameters": 83_639_368,
            "context_s": None,
            "gflop_per_s": 21.0,
        },
    },
    "nug": {
        "target": "zoo.models.nug:NUG",
        "paper": "Nugraha, Liutkus and Vincent, EUSIPCO 2016",
        "domain": "spectrogram",
        "summary": "one network for all spectra, expectation maximisation for their places",
        "tiny": {
            "sample_rate": 8000,
            "n_fft": 128,
            "hop": 64,
            "n_components": 40,
            "hidden": [32],
            "dropout": 0.1,
            "segment_frames": 24,
        },
        "facts": {
            **_STEMS,
            "parameters": 16_818_200,
            "context_s": None,
            "gflop_per_s": 2.4,
        },
    },
    "spleeter": {
        "target": "zoo.models.spleeter:Spleeter",
        "paper": "Hennequin, Khlif, Voituret and Moussallam, JOSS 2020",
        "domain": "spectrogram",
        "summary": "a convolutional U-Net per stem, on patches of twelve seconds",
        "tiny": {
            "sample_rate": 8000,
            "n_fft": 256,
            "hop": 64,
            "n_seen": 96,
            "patch_frames": 32,
            "n_levels": 4,
            "first_maps": 4,
        },
        "facts": {
            **_STEMS,
            "sources": ["vocals", "accompaniment"],
            "parameters": 19_647_498,
            "context_s": 11.981,
            "gflop_per_s": 2.4,
        },
    },
    "wavenet": {
        **_WAVENET,
        "summary": "dilated convolutions from waveform to waveform",
        "facts": {
            "sources": ["vocals", "drums", "bass", "other"],
            "sample_rate": 16000,
            "channels": 1,
            "parameters": 3_277_763,
            "context_s": 0.256,
            "gflop_per_s": 106.1,
        },
    },
    "wavenet-voice": {
        **_WAVENET,
        "arguments": {"sources": ["vocals", "accompaniment"]},
        "summary": "dilated convolutions from waveform to waveform, for the voice alone",
        "facts": {
            "sources": ["vocals", "accompaniment"],
            "sample_rate": 16000,
            "channels": 1,
            "parameters": 3_277_249,
            "context_s": 0.256,
            "gflop_per_s": 106.1,
        },
    },
}


def _wave_u_net(
    summary: str, parameters: int, context_s: float, gflop_per_s: float, **arguments: Any
) -> dict[str, Any]:
    """The entry of a variant of Wave-U-Net."""
    defaults: dict[str, Any] = {
        "sources": ["bass", "drums", "other", "vocals"],
        "sample_rate": 22050,
        "channels": 2,
    }
    told = {key: arguments.get(key, value) for key, value in defaults.items()}
    return {
        "target": "zoo.models.wave_u_net:WaveUNet",
        "arguments": arguments,
        "paper": "Stoller, Ewert and Dixon, ISMIR 2018, arXiv 1806.03185",
        "domain": "waveform",
        "summary": summary,
        "tiny": _WAVE_U_NET_TINY,
        "facts": {
            **told,
            "parameters": parameters,
            "context_s": context_s,
            "gflop_per_s": gflop_per_s,
        },
    }


_UMX: dict[str, Any] = {
    "target": "zoo.models.umx:OpenUnmix",
    "paper": "Stoeter, Uhlich, Liutkus and Mitsufuji, JOSS 2019",
    "domain": "spectrogram",
    "tiny": {
        "sample_rate": 8000,
        "n_fft": 256,
        "hop": 64,
        "hidden_size": 12,
        "n_layers": 2,
        "bandwidth_hz": 3000,
        "segment_s": 0.4,
    },
}
_UMX_FACTS: dict[str, Any] = {
    **_STEMS,
    "sources": ["vocals", "drums", "bass", "other"],
    "parameters": 35_573_392,
    "context_s": None,
    "gflop_per_s": 3.1,
}

_ROFORMER_TINY: dict[str, Any] = {
    "sources": ["vocals", "accompaniment"],
    "sample_rate": 8000,
    "channels": 1,
    "width": 16,
    "depth": 1,
    "n_fft": 128,
    "hop": 32,
    "segment_s": 0.6,
}
_ROFORMER_TINY_NETWORK: dict[str, Any] = {
    "time_transformer_depth": 1,
    "freq_transformer_depth": 1,
    "dim_head": 8,
    "heads": 2,
    "num_residual_streams": 1,
}
_ROFORMER_FACTS: dict[str, Any] = {
    **_STEMS,
    "sources": ["vocals", "drums", "bass", "other"],
    "context_s": None,
}

TABLE |= {
    "bs-roformer": {
        "domain": "spectrogram",
        "target": "zoo.models.roformer:BSRoFormer",
        "paper": "Lu, Wang, Kong and Hung, ICASSP 2024, arXiv 2309.02612",
        "summary": "attention over frames and over bands, complex masks",
        "tiny": {
            **_ROFORMER_TINY,
            "network": {**_ROFORMER_TINY_NETWORK, "freqs_per_bands": [8, 8, 16, 33]},
        },
        "facts": {**_ROFORMER_FACTS, "parameters": 246_189_908, "gflop_per_s": 670.1},
    },
    "mel-band-roformer": {
        "domain": "spectrogram",
        "target": "zoo.models.roformer:MelBandRoFormer",
        "paper": "Wang, Lu and Won, ISMIR 2023, arXiv 2310.01809",
        "summary": "BS-RoFormer on overlapping bands of the mel scale",
        "tiny": {**_ROFORMER_TINY, "network": {**_ROFORMER_TINY_NETWORK, "num_bands": 8}},
        "facts": {**_ROFORMER_FACTS, "parameters": 301_716_120, "gflop_per_s": 785.2},
    },
    "htdemucs": {
        "target": "zoo.models.demucs:HTDemucs",
        "paper": "Rouard, Massa and Defossez, ICASSP 2023, arXiv 2211.08553",
        "domain": "waveform",
        "summary": "Hybrid Demucs with a transformer in the middle",
        "tiny": {
            "sample_rate": 8000,
            "channels": 1,
            "width": 8,
            "n_fft": 512,
            "depth": 3,
            "n_layers": 1,
            "n_heads": 2,
            "segment_s": 0.5,
        },
        "facts": {
            **_STEMS,
            "sources": ["drums", "bass", "other", "vocals"],
            "parameters": 26_899_536,
            "context_s": None,
            "gflop_per_s": 21.9,
        },
    },
    "umx": {**_UMX, "summary": "a recurrent network per source (Open-Unmix)", "facts": _UMX_FACTS},
    "umxl": {
        **_UMX,
        "arguments": {"hidden_size": 1024},
        "summary": "Open-Unmix, twice as wide",
        "facts": {**_UMX_FACTS, "parameters": 113_028_752, "gflop_per_s": 9.8},
    },
    "x-umx": {
        **_UMX,
        "arguments": {"bridged": True},
        "paper": "Sawata, Uhlich, Takahashi and Mitsufuji, ICASSP 2021, arXiv 2010.04228",
        "summary": "Open-Unmix, whose networks tell each other what they find",
        "facts": _UMX_FACTS,
    },
    "wave-u-net": _wave_u_net("a U-Net on the waveform (M6)", 10_263_498, 3.157, 8.4),
    "wave-u-net-m1": _wave_u_net(
        "the plain form: padded, mono, every source predicted", 10_263_028, 3.157, 6.6,
        **_VOICE, channels=1, output="direct", context=False,
    ),
    "wave-u-net-m2": _wave_u_net(
        "M1, the vocals being the mixture minus the rest", 10_263_002, 3.157, 6.6,
        **_VOICE, channels=1, context=False,
    ),
    "wave-u-net-m3": _wave_u_net(
        "M2, seeing the song around what it predicts", 10_263_002, 3.157, 8.4,
        **_VOICE, channels=1,
    ),
    "wave-u-net-m4": _wave_u_net(
        "M3 in stereo: the paper's best for the voice", 10_263_390, 3.157, 8.4, **_VOICE
    ),
    "wave-u-net-m5": _wave_u_net(
        "M4 with learned interpolation", 10_265_550, 3.157, 8.4, **_VOICE, upsampling="learned"
    ),
    "wave-u-net-m5-highsr": _wave_u_net(
        "M5 at 44.1 kHz", 10_265_550, 1.579, 15.0,
        **_VOICE, upsampling="learned", sample_rate=44100,
    ),
    "wave-u-net-m7": _wave_u_net(
        "M3 with more maps at 8192 Hz, for a comparison with a spectrogram U-Net",
        20_594_652, 8.499, 8.5,
        **_VOICE, channels=1, n_maps=34, sample_rate=8192, target_field=98560,
    ),
}  # fmt: skip

_SPATIAL: dict[str, Any] = {"domain": "spatial", "trainable": False}
_SPATIAL_TINY: dict[str, Any] = {"n_objects": 2, "n_fft": 256, "hop": 64}
_IVA_TINY: dict[str, Any] = {"n_fft": 256, "hop": 64, "n_iterations": 5}
_PROJET: dict[str, Any] = {
    **_SPATIAL,
    "target": "zoo.models.projet:Projet",
    "paper": "FitzGerald, Liutkus and Badeau, IEEE/ACM TASLP 2016",
    "tiny": _SPATIAL_TINY,
}

TABLE |= {
    "projet": {**_PROJET, "summary": "projections in which places cancel, fitted by objects"},
    "projet-is": {
        **_PROJET,
        "arguments": {"divergence": "is", "alpha": 2.0},
        "summary": "PROJET with Gaussian parts, which tells close objects apart",
    },
    "projet-paper": {
        **_PROJET,
        "arguments": {"start": "random", "n_learn": 200, "n_restarts": 3},
        "summary": "PROJET from random starts, as the papers",
    },
    "duet": {
        **_SPATIAL,
        "target": "zoo.models.duet:Duet",
        "paper": "Yilmaz and Rickard, IEEE TSP 2004; Rickard, 2007",
        "summary": "each bin to the object whose level and delay it has",
        "tiny": _SPATIAL_TINY,
    },
    "adress": {
        **_SPATIAL,
        "target": "zoo.models.adress:Adress",
        "paper": "Barry, Lawlor and Coyle, AES 117, 2004",
        "summary": "each bin to the object at whose pan it cancels",
        "tiny": _SPATIAL_TINY,
    },
    "pairs": {
        **_SPATIAL,
        "target": "zoo.models.pairs:Pairs",
        "paper": "ours",
        "summary": "each bin to the sparsest pair of objects",
        "tiny": _SPATIAL_TINY,
    },
    "lgm": {
        **_SPATIAL,
        "target": "zoo.models.lgm:LocalGaussian",
        "paper": "ours, after Duong, Vincent and Gribonval, IEEE TASLP 2010",
        "summary": "Gaussian images at located objects",
        "tiny": _SPATIAL_TINY,
    },
    "mnmf": {
        **_SPATIAL,
        "target": "zoo.models.mnmf:LocatedNMF",
        "paper": "ours, after Ozerov and Fevotte, IEEE TASLP 2010, and Sawada et al., 2013",
        "summary": "Gaussian images of spectral patterns: the best of the spatial systems",
        "tiny": _SPATIAL_TINY,
    },
    "ica": {
        **_SPATIAL,
        "target": "zoo.models.ica:Ica",
        "paper": "Hyvarinen, Karhunen and Oja, 2001",
        "summary": "FastICA: two channels, two objects without delay or room",
        "tiny": {"n_objects": 2},
    },
    "auxiva": {
        **_SPATIAL,
        "target": "zoo.models.iva:Iva",
        "paper": "Ono, WASPAA 2011",
        "summary": "two objects in a room, whose frequencies swell together",
        "tiny": _IVA_TINY,
    },
    "ilrma": {
        **_SPATIAL,
        "target": "zoo.models.iva:Ilrma",
        "paper": "Kitamura et al., IEEE/ACM TASLP 2016",
        "summary": "two objects in a room, each of a few spectral patterns",
        "tiny": _IVA_TINY,
    },
}
