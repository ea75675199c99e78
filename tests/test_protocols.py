"""Protocols: who is scored with whom, how frames and tracks are pooled, and what stands beside."""

import math

import numpy as np
import pytest
import torch

from zoo.errors import SampleRateError, ZooError
from zoo.metrics.overall import Overall
from zoo.metrics.protocols import ALIASES, PROTOCOLS, measure, protocol, score, summarise

STEMS = ("vocals", "drums", "bass", "other")
RATE = 8000


def noise(seed, n_sources=4, seconds=3.0, channels=1):
    rng = np.random.default_rng(seed)
    # Coloured, so that filters have something to find.
    x = rng.standard_normal((n_sources, channels, round(seconds * RATE)))
    for j in range(n_sources):
        x[j] = np.apply_along_axis(np.convolve, -1, x[j], 0.8 ** np.arange(8 * (j + 1)), "same")
    return torch.from_numpy(x)


def estimates_of(references, seed=1):
    leaks = references + 0.2 * references.roll(1, 0)
    return leaks + 0.1 * noise(seed, len(references), channels=references.shape[1])


def measured(id, references, estimates, sources, **options):
    return measure(
        protocol(id), lambda a, b: (references[..., a:b], estimates[None, ..., a:b]),
        references.shape[-1], RATE, sources, **options,
    )[0]  # fmt: skip


# ----------------------------------------------------------------- who with whom


def scored_with(id, sources, **options):
    passes = protocol(id).passes(sources, **options)
    return {kept: set(p.parts) for p in passes for kept in p.kept}


def test_museval_takes_the_vocals_from_the_pair_and_dsd100_from_the_stems():
    pair = {"vocals", "accompaniment"}
    of_museval, of_dsd100 = scored_with("sisec2018", STEMS), scored_with("sisec2016", STEMS)
    assert of_museval["vocals"] == of_museval["accompaniment"] == pair
    assert of_dsd100["vocals"] == set(STEMS) and of_dsd100["accompaniment"] == pair
    assert of_museval["bass"] == of_dsd100["bass"] == set(STEMS)


@pytest.mark.parametrize("id", ["v4-pooled", "usdr", "si-sdr", "projet"])
def test_other_protocols_score_stems_alone(id):
    assert scored_with(id, STEMS) == {stem: set(STEMS) for stem in STEMS}


@pytest.mark.parametrize("id", PROTOCOLS)
def test_a_voice_and_its_accompaniment_are_one_pair_everywhere(id):
    pair = ("vocals", "accompaniment")
    assert scored_with(id, pair) == {source: set(pair) for source in pair}


def test_stems_that_are_not_all_have_no_accompaniment():
    assert "accompaniment" not in scored_with("sisec2018", STEMS[:3], is_complete=False)


# ----------------------------------------------------------------- against museval


@pytest.mark.parametrize(("id", "mode", "window", "hop"), [
    ("sisec2018", "v4", 1.0, 1.0),
    ("sisec2016", "v3", 30.0, 15.0),
])  # fmt: skip
def test_stems_and_pair_are_those_of_museval(id, mode, window, hop):
    from zoo.compat import museval

    stems = STEMS[:3]
    references = noise(0, 3, seconds=2.1)
    references[1, :, :RATE] = 0  # without drums, the stems have no first frame, but the pair has
    found = references + 0.3 * noise(1, 3, seconds=2.1)
    ours = measured(id, references, found, stems)

    def theirs(true, estimated):
        return museval.metrics().bss_eval(
            true.numpy().transpose(0, 2, 1), estimated.numpy().transpose(0, 2, 1),
            window=window * RATE, hop=hop * RATE, framewise_filters=mode == "v3",
        )[:4]  # fmt: skip

    four = theirs(references, found)
    pair = theirs(
        torch.stack([references[0], references[1:].sum(0)]),
        torch.stack([found[0], found[1:].sum(0)]),
    )
    expected = {
        **{s: [x[j] for x in four] for j, s in enumerate(stems)},
        "accompaniment": [x[1] for x in pair],
    }
    if id == "sisec2018":
        expected["vocals"] = [x[0] for x in pair]
    assert set(ours.targets) == set(expected)
    for source, values in expected.items():
        for metric, frames in zip(("SDR", "ISR", "SIR", "SAR"), values, strict=True):
            np.testing.assert_allclose(ours.targets[source][metric], frames, atol=1e-6)
    if id == "sisec2018":
        assert np.isnan(ours.targets["bass"]["SDR"][0])
        assert np.isfinite(ours.targets["vocals"]["SDR"][0])


def test_an_accompaniment_of_its_own_counts_in_place_of_the_sum():
    references, found = noise(0), estimates_of(noise(0))
    own = references[1:].sum(0) + 0.5 * references[0]
    more = torch.cat([references, torch.zeros_like(references[:1])])
    extra = torch.cat([found, (own - found[1:].sum(0))[None]])
    ours = measured("sisec2018", more, extra, (*STEMS, "accompaniment"), sdr_only=True)
    sdr = 10 * torch.log10(
        references[1:].sum(0).square().sum() / (0.5 * references[0]).square().sum()
    )
    assert np.mean(ours.targets["accompaniment"]["SDR"]) == pytest.approx(float(sdr), abs=0.2)
    alone = measured("sisec2018", references, found, STEMS, sdr_only=True)
    assert ours.targets["bass"]["SDR"] == alone.targets["bass"]["SDR"]


@pytest.mark.parametrize("silence", ["museval", "references"])
@pytest.mark.parametrize("id", ["sisec2018", "sisec2016", "projet"])
def test_sdr_alone_is_that_of_the_whole_measurement(id, silence):
    references = noise(3, seconds=2.5)
    references[2, :, :RATE] = 0
    found = estimates_of(noise(3), 4)[..., : references.shape[-1]]
    quick = measured(id, references, found, STEMS, sdr_only=True, silence=silence)
    whole = measured(id, references, found, STEMS, silence=silence)
    for source, metrics in quick.targets.items():
        assert set(metrics) == {"SDR"}
        np.testing.assert_allclose(metrics["SDR"], whole.targets[source]["SDR"], atol=1e-9)


# ----------------------------------------------------------------- pools


@pytest.mark.parametrize(("id", "value"), [
    ("sisec2016", 4.0), ("sisec2018", 2.0), ("v4-pooled", 2.0), ("mir1k", 4.0),
])  # fmt: skip
def test_frames_without_a_value_are_left_out_of_a_tracks(id, value):
    frames = [1.0, math.nan, 2.0, math.inf, 9.0]
    assert protocol(id).track_value("SDR", frames) == value


def test_what_stands_beside_is_the_same_in_every_frame_and_stays_so():
    assert protocol("sisec2018").track_value("uSDR", [3.0] * 7) == 3.0


@pytest.mark.parametrize(("id", "value"), [
    ("sisec2016", 2.0), ("sisec2018", 2.0), ("usdr", 4.0), ("mir1k", 2.0), ("projet", 2.0),
])  # fmt: skip
def test_tracks_are_pooled_as_the_protocol_says(id, value):
    assert protocol(id).pool([1.0, 2.0, 9.0, math.nan], [6.0, 1.0, 1.0, 5.0]) == pytest.approx(
        value if id != "mir1k" else 17 / 8
    )


def test_no_value_at_all_is_no_number():
    assert all(math.isnan(p.pool([], [])) for p in PROTOCOLS.values())
    assert all(math.isnan(p.track_value("SDR", [])) for p in PROTOCOLS.values())


def test_pooled_frames_weigh_alike_however_long_their_track():
    def scored(n_seconds, gain):
        x = noise(0, 2, seconds=n_seconds)
        return score("v4-pooled", x, x * gain, x.sum(0), RATE, ["a", "b"])

    # 3 frames at 20 dB, 1 at 40 dB: the median of frames is 20, of tracks it would be 30.
    assert summarise("v4-pooled", [scored(3, 0.9), scored(1, 0.99)])["SDR_a"] == pytest.approx(20)


def test_table_2_of_the_source_document_is_the_protocol_of_sisec2016(shared):
    import csv
    import gzip

    path = shared / "published" / "sisec2016_table2_sdr_frames.csv.gz"
    frames = {}
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            if row["method"] == "UHL3" and row["target"] == "vocals":
                frames.setdefault(row["track_id"], []).append(float(row["score"] or "nan"))
    chosen = protocol("sisec2016")
    values = [chosen.track_value("SDR", f) for f in frames.values()]
    assert len(values) == 50
    assert chosen.pool(values) == pytest.approx(5.23, abs=0.005)


# ----------------------------------------------------------------- names and limits


def test_aliases_lead_to_protocols_and_a_typing_error_to_the_nearest():
    assert all(protocol(alias) is PROTOCOLS[id] for alias, id in ALIASES.items())
    with pytest.raises(ZooError, match="'sisec2018'"):
        protocol("sisec2O18")


def test_mir1k_is_for_16_khz():
    x = noise(0, 2)
    with pytest.raises(SampleRateError, match="16000"):
        score("mir1k", x, x, x.sum(0), RATE, ["vocals", "accompaniment"])


# ----------------------------------------------------------------- beside BSS Eval


def overall(references, estimates, pieces=1, groups=None):
    figures = Overall(torch.eye(len(references)) if groups is None else groups, RATE)
    for true, found in zip(
        references.tensor_split(pieces, -1), estimates.tensor_split(pieces, -1), strict=True
    ):
        figures.push(true, found[None])
    return figures.figures()[0]


def test_si_sdr_is_that_of_torchmetrics_whatever_the_gain():
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio as theirs

    references = noise(0, 2, channels=2)
    found = estimates_of(references)
    # Joint over channels: as one long signal.
    expected = theirs(found.flatten(1), references.flatten(1)).tolist()
    assert overall(references, found)["SI-SDR"] == pytest.approx(expected, abs=1e-6)
    assert overall(references, 3 * found)["SI-SDR"] == pytest.approx(expected, abs=1e-6)


def test_si_sar_sees_artefacts_and_no_interference():
    references = noise(0, 2)
    leaking = references + 0.5 * references.flip(0)
    assert min(overall(references, leaking)["SI-SAR"]) > 100
    assert max(overall(references, leaking)["SI-SDR"]) < 12
    artefacts = noise(9, 2)
    artefacts *= (references.square().sum() / artefacts.square().sum()).sqrt() / 10
    assert overall(references, references + artefacts)["SI-SAR"] == pytest.approx([20, 20], abs=1.5)


def test_usdr_is_the_ratio_over_the_whole_song():
    references = noise(0, 2)
    assert overall(references, 0.9 * references)["uSDR"] == pytest.approx([20, 20], abs=1e-6)
    mixture = references.sum(0).expand_as(references)
    assert overall(references, mixture)["NSDR"] == pytest.approx([0, 0], abs=1e-6)
    gain = np.array(overall(references, 0.9 * references)["uSDR"])
    gain -= overall(references, mixture)["uSDR"]
    assert overall(references, 0.9 * references)["NSDR"] == pytest.approx(gain)
    references[1] = 0
    assert overall(references, 0.9 * references)["uSDR"] == pytest.approx(
        [20, np.nan], abs=1e-6, nan_ok=True
    )


def test_energy_in_silence_counts_the_seconds_without_the_source():
    references = noise(0, 2)
    found = references.clone()
    references[0, :, RATE : 2 * RATE] = 0
    found[0, :, RATE : 2 * RATE] = 0.1  # -20 dB
    first, second = overall(references, found)["PES"]
    assert first == pytest.approx(-20, abs=1e-6) and math.isnan(second)


def test_pieces_of_any_length_give_the_same():
    references = noise(0, 2)
    references[1, :, :RATE] = 0
    found = estimates_of(noise(0, 2))
    whole, cut = overall(references, found), overall(references, found, pieces=37)
    for name, values in whole.items():
        assert cut[name] == pytest.approx(values, abs=1e-9, nan_ok=True)


def test_a_silent_reference_leaves_the_others_their_figures():
    references = noise(0, 2)
    references[1] = 0
    found = estimates_of(noise(0, 2))
    figures = overall(references, found)
    assert math.isfinite(figures["SI-SAR"][0]) and math.isnan(figures["SI-SDR"][1])


def test_the_spectral_distance_is_auralosss_over_the_seconds_that_sound():
    from auraloss.freq import MultiResolutionSTFTLoss

    sizes = [2048, 1024, 512]
    theirs = MultiResolutionSTFTLoss(sizes, [512, 256, 128], sizes)
    references = noise(0, 2, channels=2)
    references[0, :, :RATE] = 0
    found = estimates_of(references)
    seconds = [
        [float(theirs(x[None].float(), y[None].float())) for x, y in zip(a, b, strict=True)]
        for a, b in zip(found.split(RATE, -1), references.split(RATE, -1), strict=True)
        if a.shape[-1] == RATE
    ]
    first = np.mean([second[0] for second in seconds[1:]])
    second = np.mean([second[1] for second in seconds])
    assert overall(references, found)["MRSTFT"] == pytest.approx([first, second], rel=1e-5)
    assert overall(references, references)["MRSTFT"] == pytest.approx([0, 0], abs=1e-6)


def test_without_its_package_there_is_no_spectral_distance(monkeypatch):
    monkeypatch.setattr("zoo.metrics.overall.SpectralDistance.is_installed", lambda: False)
    references = noise(0, 2)
    assert "MRSTFT" not in overall(references, references)
