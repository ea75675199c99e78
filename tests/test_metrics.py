"""Scores of estimates, against the reference implementation and on signals with a known answer."""

import csv

import numpy as np
import pytest
import torch

from zoo.errors import ZooError
from zoo.metrics.bsseval import bss_eval
from zoo.metrics.protocols import score, summarise
from zoo.metrics.rules import PROTOCOLS
from zoo.metrics.sdr import framewise_sdr


def test_sdr_of_an_estimate_with_known_noise():
    references = torch.ones(1, 2, 100)
    estimates = references + 0.1
    torch.testing.assert_close(
        framewise_sdr(references, estimates, frame=10), torch.full((1, 10), 20.0).double()
    )


def test_frames_of_a_silent_reference_have_no_sdr():
    references = torch.ones(1, 1, 30)
    references[..., 10:20] = 0
    frames = framewise_sdr(references, references * 0.9, frame=10)
    assert frames.isnan().tolist() == [[False, True, False]]


def test_a_perfect_estimate_is_infinitely_good():
    references = torch.rand(1, 1, 10)
    assert framewise_sdr(references, references, frame=10).tolist() == [[torch.inf]]


def test_a_signal_shorter_than_a_frame_is_one_frame():
    assert framewise_sdr(torch.ones(3, 1, 7), torch.zeros(3, 1, 7), frame=10).shape == (3, 1)


def test_the_last_incomplete_frame_is_left_out():
    assert framewise_sdr(torch.ones(1, 1, 29), torch.zeros(1, 1, 29), frame=10).shape == (1, 2)


def test_the_mixture_of_mir1k_gains_nothing():
    references = torch.randn(2, 1, 16000)
    mixture = references.sum(0)
    scores = score(
        "mir1k", references, torch.stack([mixture] * 2), mixture, 16000, ["vocals", "music"]
    )
    assert abs(scores["NSDR_vocals"]) < 1e-9 and abs(scores["NSDR_music"]) < 1e-9


def test_figures_of_mir1k_are_weighted_by_length():
    scores = [{"NSDR_vocals": 0.0, "samples": 300}, {"NSDR_vocals": 10.0, "samples": 100}]
    assert summarise("mir1k", scores) == {"GNSDR_vocals": 2.5}


def test_figures_of_sisec2018_are_medians():
    scores = [{"SDR_vocals": v, "samples": 1} for v in (1.0, 2.0, 9.0, float("nan"))]
    assert summarise("sisec2018", scores) == {"SDR_vocals": 2.0}


def test_an_unknown_reference_is_not_scored():
    x = torch.randn(2, 1, 16000)
    scores = score("sisec2018", x, x * 0.5, x.sum(0), 16000, ["vocals", None])
    assert {key.rpartition("_")[2] for key in scores} == {"samples", "vocals", "figures"}


def test_frames_and_scores_are_those_of_museval():
    from zoo.compat import museval

    rng = np.random.default_rng(3)
    references = rng.standard_normal((2, 2, 4000))
    references[1, :, 1000:2000] = 0  # nobody is scored in a frame where one is silent
    references[0, 1, 3000:] = -references[0, 0, 3000:]  # nor where the channels cancel
    estimates = references + 0.3 * rng.standard_normal(references.shape)
    estimates[0, :, :1000] = 0  # nor where an estimate is silent
    theirs = museval.metrics().bss_eval(
        references.transpose(0, 2, 1), estimates.transpose(0, 2, 1), window=1000, hop=1000
    )[0]
    assert np.isfinite(theirs).sum() == 2
    ours = score(
        "sisec2018", torch.from_numpy(references), torch.from_numpy(estimates),
        torch.from_numpy(references.sum(0)), 1000, ["a", "b"],
    )  # fmt: skip
    assert ours["SDR_a"] == pytest.approx(np.nanmedian(theirs[0]), abs=1e-6)
    assert ours["SDR_b"] == pytest.approx(np.nanmedian(theirs[1]), abs=1e-6)


def test_mir1k_wants_all_sources_known():
    x = torch.randn(2, 1, 2000)
    with pytest.raises(ZooError, match="must be known"):
        score("mir1k", x, x, x.sum(0), 16000, ["vocals", None])


def test_a_protocol_that_does_not_exist_is_named():
    x = torch.randn(1, 1, 100)
    with pytest.raises(ZooError, match="sisec2018"):
        score("mine", x, x, x[0], 16000, ["vocals"])
    assert "mir1k" in PROTOCOLS


def test_the_ideal_ratio_mask_of_mir1k_scores_as_published(shared):
    """The upper line of the 110-clip sample, on three of its clips."""
    from zoo.data import open_dataset

    folder = shared / "audio" / "mir1k"
    with open(folder / "oracle_scores_test-sample.csv") as file:
        published = {row["clip"]: row for row in csv.DictReader(file)}
    tracks = open_dataset("mir1k", folder).tracks("test")
    assert len(tracks) == 110
    window = torch.hann_window(1024, dtype=torch.float64)
    for track in tracks[::50]:
        sources = torch.from_numpy(np.stack([track.read(s)[0] for s in track.sources])).double()
        spectra = torch.stft(sources, 1024, 256, window=window, return_complex=True)
        mask = spectra.abs() / spectra.abs().sum(0).clamp(min=1e-12)
        estimates = torch.istft(
            mask * spectra.sum(0), 1024, 256, window=window, length=sources.shape[-1]
        )
        scores = bss_eval(sources, estimates, window=None, filters="frame", family="sources")
        row = published[track.name]
        for j, name in enumerate(track.sources):
            assert scores.SDR[j, 0] == pytest.approx(float(row[f"irm_sdr_{name}"]), abs=0.02)
            assert scores.SIR[j, 0] == pytest.approx(float(row[f"irm_sir_{name}"]), abs=0.02)
            assert scores.SAR[j, 0] == pytest.approx(float(row[f"irm_sar_{name}"]), abs=0.02)
