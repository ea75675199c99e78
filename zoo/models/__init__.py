"""The systems of the zoo, one file each, and the table by which the catalog knows them.

The table holds facts only and imports nothing, so that ``zoo list`` needs no torch.
"""

from typing import Any

_MMDENSENET = "Takahashi and Mitsufuji, WASPAA 2017, arXiv 1706.09588"
_MMDENSENET_TINY: dict[str, Any] = {
    "sample_rate": 8000,
    "n_fft": 256,
    "hop": 128,
    "segment_frames": 32,
    "first_maps": 4,
    "low": [[3, 2]] * 5,
    "high": [[2, 1]] * 5,
    "full": [[2, 1]] * 5,
    "last_block": [2, 1],
}

_STEMS = {"sources": ["bass", "drums", "other", "vocals"], "sample_rate": 44100, "channels": 2}

TABLE: dict[str, dict[str, Any]] = {
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
}
