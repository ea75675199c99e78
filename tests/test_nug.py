"""NUG: sizes, losses, and the expectation maximisation that places its spectra."""

import pytest
import torch

import zoo
from zoo.dsp.em import DELTA, FLOOR, filtered, identity_covariances, step
from zoo.errors import RecipeError
from zoo.models.blocks import with_neighbours
from zoo.models.nug import CRITERIA, NUG, criterion
from zoo.streaming import separate_tensor

SMALL = {
    "sources": ["vocals", "drums", "other"], "sample_rate": 8000, "n_fft": 64, "hop": 32,
    "n_components": 20, "hidden": [16], "dropout": 0.0, "segment_frames": 16,
}  # fmt: skip


def small(**arguments):
    torch.manual_seed(0)
    return NUG(**{**SMALL, **arguments}).eval()


def test_the_network_has_its_number_of_parameters():
    with torch.device("meta"):
        assert sum(p.numel() for p in zoo.create("nug").parameters()) == 16_818_200
        three = zoo.create("nug", n_components=1025, hidden=[1025] * 3)
    # Input of 1025, three layers and the output.
    assert sum(p.numel() for p in three.parameters()) == 3 * (1025**2 + 1025) + 1026 * 4100


# ----------------------------------------------------------------- expectation maximisation


def problem(n_sources=3, n_channels=2, n_bins=40, n_frames=9):
    generator = torch.Generator().manual_seed(0)

    def rand(*shape):
        return torch.randn(*shape, dtype=torch.complex128, generator=generator)

    v = rand(1, n_sources, n_bins, n_frames).abs().square() + 0.1
    a = rand(1, n_sources, n_bins, n_channels, n_channels)
    r = a @ a.mH
    r = r / r.diagonal(dim1=-2, dim2=-1).real.sum(-1)[..., None, None] * n_channels
    return v, r, rand(1, n_channels, n_bins, n_frames)


def one_bin(v, r, x, update):
    """The same for one bin and all its frames, from the definitions."""
    n_sources, n_channels = len(v), len(x)
    eye = torch.eye(n_channels, dtype=torch.complex128)
    moments = [0] * n_sources
    weights = [0.0] * n_sources
    estimates, z = torch.zeros(n_sources, *x.shape, dtype=x.dtype), torch.zeros_like(v)
    for n in range(x.shape[1]):
        total = sum(v[j, n] * r[j] for j in range(n_sources))
        total = total + (DELTA * total.trace().real / n_channels + FLOOR) * eye
        for j in range(n_sources):
            w = v[j, n] * r[j] @ torch.linalg.inv(total)
            y = w @ x[:, n]
            estimates[j, :, n] = y
            outer = torch.outer(y, y.conj())
            full = outer + (eye - w) @ (v[j, n] * r[j])
            if update == "exact":
                moments[j] = moments[j] + full / v[j, n]
                weights[j] += 1
            else:
                moments[j] = moments[j] + (full if update == "weighted" else outer)
                weights[j] += float(v[j, n])
            ridge = 1e-6 * r[j].trace().real / n_channels * eye
            z[j, n] = (torch.linalg.inv(r[j] + ridge) @ full).trace().real / n_channels
    return [m / w for m, w in zip(moments, weights, strict=True)], estimates, z


@pytest.mark.parametrize("update", ["exact", "weighted", "simplified"])
def test_an_iteration_is_what_its_definition_says(update):
    v, r, x = problem()
    statistics, z = step(v, r, x, update)
    covariances, scale = statistics.covariances()
    y = filtered(v, r, x)
    for f in (0, 31, 32, 39):  # bins are computed in blocks
        expected, estimates, powers = one_bin(v[0, :, f], r[0, :, f], x[0, :, f], update)
        torch.testing.assert_close(y[0, :, :, f], estimates)
        torch.testing.assert_close(z[0, :, f], powers)
        for j, matrix in enumerate(expected):
            trace = matrix.trace().real / 2
            torch.testing.assert_close(scale[0, j, f], trace)
            torch.testing.assert_close(covariances[0, j, f], matrix / trace)


@pytest.mark.parametrize("update", ["exact", "weighted"])
def test_iterations_raise_the_likelihood_of_the_mixture(update):
    v, _, x = problem()
    r = identity_covariances(v, x).clone()
    likelihoods = []
    for _ in range(6):
        total = (v[..., None, None] * r[:, :, :, None]).sum(1)
        columns = x.permute(0, 2, 3, 1)[..., None]
        distance = (columns.mH @ torch.linalg.solve(total, columns)).real.sum()
        likelihoods.append(float(-distance - torch.linalg.slogdet(total)[1].sum()))
        statistics, _ = step(v, r, x, update)
        r, scale = statistics.covariances()
        v = v * scale[..., None]
    rises = [b - a for a, b in zip(likelihoods, likelihoods[1:], strict=False)]
    assert min(rises) > 0


def test_statistics_of_parts_of_a_song_add_up():
    v, r, x = problem()
    whole = step(v, r, x, "weighted")[0]
    parts = [step(v[..., n], r, x[..., n], "weighted")[0] for n in (slice(0, 4), slice(4, 9))]
    torch.testing.assert_close((parts[0] + parts[1]).numerator, whole.numerator)
    torch.testing.assert_close((parts[0] + parts[1]).covariances()[0], whole.covariances()[0])


def test_a_silent_source_keeps_a_covariance():
    v, r, x = problem()
    v[:, 1] = 0
    statistics, z = step(v, r, x, "weighted")
    covariances, scale = statistics.covariances()
    assert covariances.isfinite().all() and scale.isfinite().all() and z.isfinite().all()
    trace = covariances.diagonal(dim1=-2, dim2=-1).real.sum(-1)
    torch.testing.assert_close(trace, torch.full_like(trace, 2))


# ----------------------------------------------------------------- the whole system


@torch.inference_mode()
@pytest.mark.parametrize("n_components", [33, 66, 165])
def test_until_components_are_measured_a_frame_sees_itself(n_components):
    model = small(n_components=n_components)
    frames = torch.rand(1, 33, 9)  # (B, F, N)
    _, features = next(iter(with_neighbours(frames, 2)))
    seen = model.components(features)
    assert seen.shape == (1, 9, n_components)
    torch.testing.assert_close(seen[..., :33], frames.mT)


@torch.inference_mode()
def test_estimates_nearly_sum_to_the_mixture():
    model, mixture = small(), torch.randn(1, 2, 1000)
    model.network[-2].bias.fill_(50.0)  # no bin in which all sources are nothing
    error = (model(mixture).sum(1) - mixture).square().mean()
    assert error < 1e-3 * mixture.square().mean()


@torch.inference_mode()
def test_covariances_of_a_song_are_those_of_all_its_parts():
    model = small(covariance="song")
    mixture = torch.randn(1, 2, 64 * 32)
    whole = model(mixture)
    state = model.survey([(mixture, slice(0, mixture.shape[-1]))])
    torch.testing.assert_close(model(mixture, state), whole)
    assert model.context == 2 * 32 + 64
    chunked = separate_tensor(model, mixture, 0.1234)  # 987 samples, of which 32 is no divisor
    torch.testing.assert_close(chunked, whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("n_em", [0, 1, 3])
@pytest.mark.parametrize("refines", [False, True])
def test_any_number_of_iterations_gives_finite_estimates(n_em, refines):
    model = small(n_em=n_em, refines=refines)
    for mixture in (torch.randn(1, 2, 500), torch.zeros(1, 2, 500)):
        assert model(mixture).isfinite().all()


def test_the_second_network_learns_as_well():
    model = small(refines=True).train()
    references = torch.randn(2, 3, 2, model.segment)
    model.loss(references.sum(1), references, torch.ones(2, 3, dtype=torch.bool))["loss"].backward()
    assert all(bool(p.grad.any()) for p in model.refinement.parameters())


@pytest.mark.parametrize("wrong", [{"n_em": 2}, {"refines": True}])
def test_a_song_in_one_pass_takes_one_iteration(wrong):
    with pytest.raises(RecipeError, match="'song' finds the covariances in one pass"):
        small(covariance="song", **wrong)


# ----------------------------------------------------------------- losses


@pytest.mark.parametrize("name", CRITERIA)
def test_a_loss_is_least_where_the_magnitude_is_true(name):
    wanted = torch.rand(1, 1, 8, 8) + 0.5
    # A Cauchy distribution of scale s has its mode of likelihood at s = |x| / sqrt(2).
    scale = 0.5**0.5 if name == "cauchy" else 1.0
    best = criterion(name, scale * wanted, wanted).sum()
    for factor in (0.7, 0.95, 1.05, 1.5):
        assert criterion(name, factor * scale * wanted, wanted).sum() > best
    if name != "cauchy":
        assert float(best) == pytest.approx(0, abs=1e-6)


def test_losses_are_their_definitions():
    m, w = torch.rand(1, 1, 4, 4) + 0.5, torch.rand(1, 1, 4, 4) + 0.5
    v, t = m**2, w**2
    near = {"rtol": 1e-3, "atol": 1e-4}  # a floor lies below both
    torch.testing.assert_close(criterion("squared", m, w), (m - w) ** 2)
    torch.testing.assert_close(criterion("itakura-saito", m, w), t / v - (t / v).log() - 1, **near)
    kl = w * (w / m).log() - w + m
    torch.testing.assert_close(criterion("kullback-leibler", m, w), kl, **near)
    cauchy = 1.5 * (t + v).log() - 0.5 * v.log()
    torch.testing.assert_close(criterion("cauchy", m, w), cauchy, **near)


def test_the_phase_sensitive_loss_wants_what_lies_along_the_mixture():
    model = small(criterion="phase-sensitive")
    mixture, true = (torch.randn(1, 2, 500) for _ in range(2))
    x, s = model.stft(mixture), model.stft(true)
    m = torch.rand(1, 1, 33, x.shape[-1])
    cosine = torch.cos(s.angle() - x.angle())
    expected = (m[:, 0] - (s.abs() * cosine).mean(1)).square().mean()
    torch.testing.assert_close(model._errors(m, s[:, None], x)[0, 0], expected)
