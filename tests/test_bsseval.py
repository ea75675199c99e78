"""BSS Eval against museval, MATLAB's figures and what must hold whatever the signals are."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from zoo.audio import read
from zoo.compat import museval
from zoo.errors import ShapeError, SilenceError, ZooError
from zoo.metrics.bsseval import Scores, bss_eval, evaluate
from zoo.metrics.frames import n_frames

METRICS = ("SDR", "ISR", "SIR", "SAR")


def music(n_sources=3, n_channels=2, n_samples=20000, seed=0):
    """Coloured noise, panned, in 16-bit steps as references ``(J, C, T)`` of real data are."""
    rng = np.random.default_rng(seed)
    sources = rng.standard_normal((n_sources, n_samples))
    for j, source in enumerate(sources):
        sources[j] = np.convolve(source, 0.9 ** np.arange(20 * (j + 1)), "same")
    panned = sources[:, None] * rng.uniform(0.3, 1, (n_sources, n_channels, 1))
    panned += 0.02 * rng.standard_normal(panned.shape)
    return np.round(panned / np.abs(panned).max() * 2**14) / 2**15


def separated(references, seed=1):
    """Estimates with leakage, a filter and noise."""
    noise = np.random.default_rng(seed).standard_normal(references.shape)
    filtered = 0.8 * references + 0.1 * np.roll(references, 3, axis=-1)
    return filtered + 0.1 * references.sum(0) + 0.01 * references.std() * noise


def theirs(references, estimates, **arguments):
    options = {"compute_permutation": False} | arguments
    figures = museval.metrics().bss_eval(
        references.transpose(0, 2, 1), estimates.transpose(0, 2, 1), **options
    )
    return dict(zip(METRICS, figures, strict=False))


def assert_close(scores, expected, tolerances):
    for metric, tolerance in tolerances.items():
        found, wanted = getattr(scores, metric), np.asarray(expected[metric], float)
        assert found.shape == wanted.shape
        np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted), metric)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance, err_msg=metric)


TIGHT = {"SDR": 1e-9, "ISR": 1e-6, "SIR": 1e-5, "SAR": 1e-5}  # of 16-bit references


@pytest.mark.parametrize(
    ("n_sources", "n_channels", "window", "hop"),
    [(2, 1, 4000, 4000), (3, 2, 6000, 6000), (2, 2, 5000, 2500), (2, 2, 30000, 30000)],
)
def test_version_4_is_that_of_museval(n_sources, n_channels, window, hop):
    references = music(n_sources, n_channels)
    estimates = separated(references)
    expected = theirs(references, estimates, window=window, hop=hop, filters_len=64)
    scores = bss_eval(references, estimates, 1, window=window, hop=hop, n_taps=64)
    assert_close(scores, expected, TIGHT)


@pytest.mark.parametrize(("window", "hop"), [(8000, 4000), (20000, 20000)])
def test_version_3_is_that_of_museval(window, hop):
    references = music()
    estimates = separated(references)
    expected = theirs(
        references, estimates, window=window, hop=hop, filters_len=64, framewise_filters=True
    )
    scores = bss_eval(references, estimates, 1, window=window, hop=hop, filters="frame", n_taps=64)
    assert_close(scores, expected, TIGHT)


def test_the_sources_family_is_that_of_museval():
    references = music(n_channels=1)
    estimates = separated(references)
    expected = theirs(
        references, estimates, window=math.inf, hop=math.inf, framewise_filters=True,
        bsseval_sources_version=True,
    )  # fmt: skip
    scores = bss_eval(references, estimates, window=None, filters="frame", family="sources")
    assert_close(scores, {m: expected[m] for m in ("SDR", "SIR", "SAR")}, dict.fromkeys(
        ("SDR", "SIR", "SAR"), 1e-8
    ))  # fmt: skip
    assert np.isnan(scores.ISR).all()


def test_512_taps_on_a_song_are_those_of_museval():
    references = music(2, 2, 30000)
    estimates = separated(references)
    expected = theirs(references, estimates, window=10000, hop=10000)
    assert_close(bss_eval(references, estimates, 10000), expected, TIGHT)


def test_the_public_function_takes_arrays_and_tensors():
    import zoo
    from zoo import bss_eval as public

    references = music(2, 2, 9000)
    estimates = separated(references)
    of_arrays = public(references, estimates, rate=3000)
    of_tensors = zoo.bss_eval(torch.from_numpy(references), torch.from_numpy(estimates), rate=3000)
    assert of_arrays.SDR.shape == (2, 3)
    np.testing.assert_array_equal(of_arrays.SIR, of_tensors.SIR)


def test_frames_are_counted_as_museval_counts_them():
    assert n_frames(100, 30, 10) == 8
    assert n_frames(109, 30, 10) == 8
    assert n_frames(30, 30, 10) == n_frames(7, 30, 10) == 1


def test_scores_do_not_depend_on_whether_correlations_are_kept(monkeypatch):
    references = music()
    estimates = separated(references)
    kept = bss_eval(references, estimates, 1, window=4000)
    monkeypatch.setattr("zoo.metrics.bsseval._KEPT_BYTES", 0)
    again = bss_eval(references, estimates, 1, window=4000)
    for metric in METRICS:
        np.testing.assert_array_equal(getattr(kept, metric), getattr(again, metric))


def test_several_systems_share_the_work_and_not_the_scores():
    references = music()
    systems = np.stack([separated(references, 1), 0.5 * references])
    together = evaluate(reader(references, systems), 20000, 5000, 5000, n_taps=64)[0]
    for system, scores in zip(systems, together, strict=True):
        alone = bss_eval(references, system, 1, window=5000, n_taps=64)
        for metric in METRICS:
            np.testing.assert_allclose(getattr(scores, metric), getattr(alone, metric), atol=1e-7)


def test_the_accompaniment_costs_no_second_pass():
    references = music(4)
    estimates = separated(references)
    pair = torch.tensor([[1.0, 0, 0, 0], [0, 1, 1, 1]])
    read_from = []

    def read(start, stop):
        read_from.append(start)
        return reader(references, estimates[None])(start, stop)

    four, two = evaluate(read, 20000, 5000, 5000, groupings=[torch.eye(4), pair], n_taps=64)
    assert read_from == [0, 0, 5000, 10000, 15000]
    summed = [np.stack([x[0], x[1:].sum(0)]) for x in (references, estimates)]
    alone = bss_eval(*summed, 1, window=5000, n_taps=64)
    for metric in METRICS:
        np.testing.assert_allclose(getattr(two[0], metric), getattr(alone, metric), atol=1e-6)
    assert four[0].SDR.shape == (4, 4)


def reader(references, systems):
    true, found = torch.from_numpy(references), torch.from_numpy(systems)
    return lambda start, stop: (true[..., start:stop], found[..., start:stop])


def test_images_are_judged_with_their_level_and_sources_without():
    references = music(2, 1)
    estimates = separated(references)
    for family, moves in (("images", True), ("sources", False)):
        one, two = (
            bss_eval(references, gain * estimates, window=None, family=family, n_taps=32).SDR
            for gain in (1, 0.5)
        )
        assert (np.abs(one - two) > 0.5).all() == moves


def test_the_order_of_the_sources_does_not_matter():
    references = music()
    estimates = separated(references)
    scores = bss_eval(references, estimates, 1, window=5000)
    turned = bss_eval(references[::-1].copy(), estimates[::-1].copy(), 1, window=5000)
    for metric in METRICS:
        np.testing.assert_allclose(
            getattr(turned, metric)[::-1], getattr(scores, metric), atol=1e-7
        )


def test_a_filtered_source_is_neither_interference_nor_artefact():
    references = music(2, 1, 9000)
    references[..., -40:] = 0  # room for the tail
    taps = np.random.default_rng(5).standard_normal(40)
    filtered = np.stack([[np.convolve(s[0], taps)[:9000]] for s in references])
    scores = bss_eval(references, filtered, window=None, filters="frame")
    assert scores.SIR.min() > 100 and scores.SAR.min() > 100 and scores.ISR.max() < 20


def test_a_single_source_has_no_interference():
    references = music(1)
    assert np.isposinf(bss_eval(references, separated(references), 1, window=5000).SIR).all()


def test_a_perfect_estimate_is_infinitely_good():
    references = music(2)
    assert np.isposinf(bss_eval(references, references, 1, window=5000).SDR).all()


def test_frames_with_a_silent_signal_have_no_score_for_anybody():
    references = music(2, 2, 20000)
    estimates = separated(references)
    references[0, :, 5000:10000] = 0
    estimates[1, :, 10000:15000] = 0
    scores = bss_eval(references, estimates, 1, window=5000, n_taps=64)
    for metric in METRICS:
        assert np.isnan(getattr(scores, metric)).tolist() == [[False, True, True, False]] * 2
    assert scores.n_valid == [2, 2]


def test_a_gating_model_can_be_held_to_the_frames_of_the_references():
    references = music(2, 2, 20000)
    estimates = separated(references)
    references[0, :, 5000:10000] = 0
    estimates[1, :, 10000:15000] = 0
    scores = bss_eval(references, estimates, 1, window=5000, n_taps=64, silence="references")
    assert np.isnan(scores.SDR).tolist() == [[False, True, False, False], [False] * 4]
    assert scores.SDR[1, 2] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("filters", ["song", "frame"])
def test_a_frame_of_silence_in_all_references_has_no_score_and_the_others_keep_theirs(filters):
    references = music()
    references[..., :10000] = 0
    estimates = separated(references)
    found = bss_eval(references, estimates, 10000, filters=filters)
    assert np.isnan(found.SDR[:, 0]).all() and np.isfinite(found.SDR[:, 1]).all()


@pytest.mark.parametrize("filters", ["song", "frame"])
def test_a_song_of_silence_has_no_scores(filters):
    found = bss_eval(0 * music(), music(), 10000, filters=filters, silence="references")
    assert np.isnan([found.SDR, found.ISR, found.SIR, found.SAR]).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"silence": "x"}, "silence is 'x'"),
        ({"filters": "x"}, "filters is 'x'"),
        ({"family": "x"}, "family is 'x'"),
        ({"rate": 0}, "rate is 0"),
        ({"rate": "x"}, "rate is 'x'"),
        ({"references": {}}, "references are dict"),
        ({"references": 1j * music()}, "references are complex"),
        ({"rate": math.inf}, "rate is inf"),
        ({"rate": True}, "rate is True"),
        ({"window": math.nan}, "window is nan"),
        ({"hop": "x"}, "hop is 'x'"),
        ({"window": 1e-9}, "each is to be 1 or more"),
        ({"n_taps": 3.5}, "n_taps is 3.5; expected a whole number"),
        ({"n_taps": None}, "n_taps is None"),
        ({"silence": None}, "silence is None"),
        ({"references": torch.from_numpy(music()).to_sparse()}, "references are Tensor"),
        ({"references": "x"}, "references are str"),
    ],
)
def test_arguments_that_mean_nothing_are_refused_by_name(arguments, said):
    signals = {"references": music(), "estimates": music()}
    with pytest.raises(ZooError, match=said):
        bss_eval(**{**signals, "rate": 8000, **arguments})


def test_signals_may_be_lists_and_run_backwards():
    references, estimates = music(), separated(music())
    backwards = bss_eval(references[..., ::-1], estimates[..., ::-1], 8000, n_taps=16)
    again = [torch.from_numpy(x[..., ::-1].copy()) for x in references], [*estimates[..., ::-1]]
    assert bss_eval(*again, 8000, n_taps=16).SAR == pytest.approx(backwards.SAR)


def test_estimates_that_a_model_has_just_made_are_scored():
    references = torch.from_numpy(music())
    estimates = (0.9 * references).requires_grad_()
    assert bss_eval(references, estimates, 8000).SDR == pytest.approx(20, abs=0.1)


@pytest.mark.parametrize("which", [0, 1])
def test_a_signal_that_is_silent_throughout_is_named(which):
    signals = [music(2), separated(music(2))]
    signals[which][1, 1] = -signals[which][1, 0]  # museval's rule: the channels cancel
    with pytest.raises(SilenceError, match=("reference 1", "estimate 1")[which]):
        bss_eval(*signals)
    with pytest.raises(ValueError, match="silent"):
        bss_eval(*signals)


def test_equal_channels_and_proportional_ones_are_no_trouble():
    references = music(2, 2)
    references[:, 1] = references[:, 0]
    estimates = separated(references)
    mono = bss_eval(references[:, :1], estimates[:, :1], 1, window=5000, n_taps=64)
    stereo = bss_eval(references, estimates, 1, window=5000, n_taps=64)
    assert stereo.SDR.shape == mono.SDR.shape and np.isfinite(stereo.SIR).all()
    expected = theirs(references, estimates, window=5000, hop=5000, filters_len=64)
    assert_close(stereo, expected, {"SDR": 1e-9, "ISR": 1e-4, "SIR": 1e-3, "SAR": 1e-3})


def test_dependent_sources_are_flagged_and_finite():
    references = music(2, 1)
    references[1] = -0.5 * references[0]
    scores = bss_eval(references, separated(references), 1, window=5000, n_taps=64)
    assert scores.is_ill_conditioned
    assert np.isfinite(scores.SDR).all() and np.isfinite(scores.SAR).all()


def test_proportional_sources_are_scored_as_museval_does_where_it_is_sure():
    references = music(2, 1)
    references[1] = -0.5 * references[0]
    estimates = separated(references)
    scores = bss_eval(references, estimates, 1, window=5000, n_taps=64)
    expected = theirs(references, estimates, window=5000, hop=5000, filters_len=64)
    for metric, tolerance in {"SDR": 1e-9, "ISR": 1e-6, "SAR": 1e-4}.items():
        np.testing.assert_allclose(getattr(scores, metric), expected[metric], 0, tolerance, metric)


def test_well_conditioned_references_are_not_flagged():
    references = music(2)
    assert not bss_eval(references, separated(references), 1, window=5000).is_ill_conditioned


def test_band_limited_references_are_flagged_until_they_are_rounded():
    rng = np.random.default_rng(0)
    spectra = np.fft.rfft(rng.standard_normal((2, 1, 30000)))
    spectra[..., 6000:] = 0
    references = 0.1 * np.fft.irfft(spectra, 30000)
    estimates = separated(references)
    assert bss_eval(references, estimates, window=None).is_ill_conditioned
    rounded = np.round(references * 2**15) / 2**15
    assert not bss_eval(rounded, estimates, window=None).is_ill_conditioned


@pytest.mark.parametrize(
    ("references", "estimates", "words"),
    [
        (np.ones((2, 1, 10)), np.ones((2, 1, 9)), "both are to be"),
        (np.ones(10), np.ones(10), "sources, channels, samples"),
        (np.ones((2, 1, 0)), np.ones((2, 1, 0)), "nothing to compare"),
        (np.ones((2, 900, 2)), np.ones((2, 900, 2)), "move the axis of samples to the end"),
        (np.ones((900, 2)), np.ones((900, 2)), "move the axis of samples to the end"),
        (np.ones((2, 1, 4)), np.full((2, 1, 4), np.nan), "estimates hold NaN"),
    ],
)
def test_what_cannot_be_compared_is_told(references, estimates, words):
    with pytest.raises(ShapeError, match=words):
        bss_eval(references, estimates)


def test_a_frame_without_samples_is_refused():
    references = music(2, 1, 1000)
    with pytest.raises(ZooError, match="window is 0; expected a finite number above 0"):
        bss_eval(references, references, 1, window=0)


@pytest.mark.parametrize("n_taps", [1, 2, 600])
def test_filters_of_any_length_are_those_of_museval(n_taps, monkeypatch):
    monkeypatch.setattr("zoo.metrics.correlation._N_FFT", 512)  # as short for 600 as ours for 9600
    references = music(2, 1, 12000)
    estimates = separated(references)
    expected = theirs(references, estimates, window=6000, hop=6000, filters_len=n_taps)
    scores = bss_eval(references, estimates, 1, window=6000, n_taps=n_taps)
    assert_close(scores, expected, {"SDR": 1e-9, "ISR": 1e-5})


def test_signals_shorter_than_the_filters_have_scores():
    references = music(2, 1, 100)
    scores = bss_eval(references, separated(references), window=None)
    assert isinstance(scores, Scores) and np.isfinite(scores.SDR).all()


# ----------------------------------------------------------------- published figures


def figures(rows):
    wanted = {None: math.nan, "inf": math.inf}
    return np.array([[wanted.get(v, v) for v in row] for row in rows], float)


CASES = {
    "v4_3src_1s": ((0, 1, 2), {}),
    "v3_images_2s_1s": ((0, 1, 2), {"filters": "frame"}),
    "v3_images_whole": ((0, 1, 2), {"filters": "frame"}),
    "v3_sources_whole_mono": ((0, 1, 2), {"filters": "frame", "family": "sources"}),
    "v4_2src_L64": ((0, 2), {}),
    "v4_2src_first_ref_L_equals_R": ((0, 2), {}),
    "single_source_L64": ((0,), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_stored_figures_of_museval(shared, name):
    folder = shared / "published" / "fixtures" / "bsseval_synthetic"
    case = json.loads((folder / "expected.json").read_text())[name]
    chosen, options = CASES[name]
    with np.load(folder / "signals.npz") as signals:
        references, estimates = (
            signals[s][list(chosen)].transpose(0, 2, 1) / 32768 for s in ("ref", "est")
        )
    if "mono" in name:
        references, estimates = references.mean(1, keepdims=True), estimates.mean(1, keepdims=True)
    if "L_equals_R" in name:
        references[0, 1] = references[0, 0]
    given = case["args"]
    frame = {k: None if given[k] == "inf" else given[k] for k in ("window", "hop")}
    scores = bss_eval(
        references, estimates, 1, **frame, **options, n_taps=given.get("filters_len", 512)
    )
    expected = {metric: figures(case[metric]) for metric in METRICS}
    assert_close(scores, expected, dict.fromkeys(METRICS, 1e-8))


def matlab_case(shared, number):
    folder = shared / "published" / "fixtures" / "mir_eval_separation"
    case = json.loads((folder / f"output{number}.json").read_text())
    signals = []
    for kind in ("ref", "est"):
        files = sorted((folder / f"{kind}{number}").glob("*.wav"))
        signals.append(np.stack([read(f)[0].mean(0, keepdims=True) for f in files]).astype(float))
    return case, *signals


PEAK = """
import resource, sys
import torch
from zoo.metrics import bsseval

def read(start, stop):
    seconds = [torch.randn(2, 2, 1, 8000, generator=torch.Generator().manual_seed(s))
               for s in range(start // 8000, -(-stop // 8000))]
    signals = torch.cat(seconds, -1)[..., start % 8000 :][..., : stop - start]
    return signals[0], signals[0] + 0.1 * signals[1:]

bsseval._KEPT_BYTES = 1 << 20
bsseval.evaluate(read, 8000 * int(sys.argv[1]), 8000, 8000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count memory in other units")
def test_memory_does_not_grow_with_the_song():
    peaks = [
        int(subprocess.run([sys.executable, "-c", PEAK, n], capture_output=True, check=True).stdout)
        for n in ("60", "600")
    ]
    assert peaks[1] - peaks[0] < 30_000  # KiB; 600 s of correlations would take 50 MB


NAMES = {
    "SDR": "Source to Distortion", "ISR": "Image to Spatial",
    "SIR": "Source to Interference", "SAR": "Source to Artifact",
}  # fmt: skip


@pytest.mark.parametrize("kind", ["Sources", "Framewise", "Images", "Images Framewise"])
@pytest.mark.parametrize("number", ["01", "02", "03", "05", "06", "07", "08", "09"])
def test_stored_figures_of_matlab(shared, number, kind):
    case, references, estimates = matlab_case(shared, number)
    expected = case[kind]
    permutation = np.asarray(expected["Source permutation"], int).reshape(len(references), -1)
    options = {"window": None, "filters": "frame"}
    if "Framewise" in kind:
        options |= {"window": float(expected["win"]), "hop": float(expected["hop"])}
    estimates = estimates[permutation[:, 0]]
    if "Images" in kind:
        gains = np.ones((1, expected["nchan"], 1))
        gains[:, 1:] = expected["gain"]
        references, estimates = references.repeat(expected["nchan"], axis=1), estimates * gains
    else:
        options["family"] = "sources"
    scores = bss_eval(references, estimates, 1, **options)
    for metric in NAMES if "Images" in kind else ("SDR", "SIR", "SAR"):
        wanted = np.asarray(expected[NAMES[metric]], float).reshape(len(references), -1)
        # Of sets 05 and 08 rounding decides the last digits.
        tolerance = 2e-4 if number in ("05", "08") else 1e-5
        np.testing.assert_allclose(getattr(scores, metric), wanted, 0, tolerance, err_msg=metric)


def test_the_regression_case_of_museval_on_real_music(shared):
    """References rounded to 16 bits, as musdb decodes them; its own tolerance is 0.1 dB."""
    folder = shared / "published" / "fixtures" / "museval_regression"
    references = real_stems(folder / "Music Delta - 80s Rock.stem.mp4")
    pair = np.stack([references[3], references[:3].sum(0)])
    generator = np.random.RandomState(0)
    shape = (pair.shape[-1], 2)
    estimates = np.stack([generator.random_sample(shape).T for _ in range(2)])
    scores = bss_eval(pair, estimates)
    expected = json.loads((folder / "Music Delta - 80s Rock.json").read_text())
    for target in expected["targets"]:
        j = ("vocals", "accompaniment").index(target["name"])
        for metric in METRICS:
            wanted = [frame["metrics"][metric] for frame in target["frames"]]
            np.testing.assert_allclose(getattr(scores, metric)[j], wanted, rtol=0, atol=0.1)
    assert not scores.is_ill_conditioned


def test_real_music_in_four_sources_is_scored_as_museval_scores_it(shared):
    folder = shared / "published" / "fixtures" / "museval_regression"
    references = real_stems(folder / "Music Delta - 80s Rock.stem.mp4")[..., :132300]
    estimates = separated(references)
    options = {"window": 44100, "hop": 44100, "filters_len": 256}
    expected = theirs(references, estimates, **options)
    turned = theirs(references[::-1], estimates[::-1], **options)
    scores = bss_eval(references, estimates, n_taps=256)
    for metric in METRICS:
        own_noise = np.abs(expected[metric] - turned[metric][::-1]).max()
        difference = np.abs(getattr(scores, metric) - expected[metric]).max()
        print(f"{metric}: {difference:.1e} dB from museval, which is {own_noise:.1e} from itself")
    assert_close(scores, expected, TIGHT)


def real_stems(path):
    import av

    stems = []
    for stream in range(1, 5):
        with av.open(str(path)) as container:
            decoder = container.decode(container.streams.audio[stream])
            stems.append(np.concatenate([frame.to_ndarray() for frame in decoder], axis=1))
    return np.round(np.stack(stems) * 32768.0) / 32768
