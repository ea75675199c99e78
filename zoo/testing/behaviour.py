"""The contract of `zoo.Separator`, one check per promise.

All of them take a model of any size; a family's ``tiny`` variant takes well under a second each.
Axes: B batch, J sources, C channels, T samples.
"""

from __future__ import annotations

import io
import json
import math
import tempfile
import unittest
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zoo import catalog
from zoo.dsp.stft import STFT
from zoo.separator import Separator
from zoo.streaming import ChunkPlan, Separation, complement, separate_tensor
from zoo.testing.memory import LiveBytes

RATE = 44100  # of models that work at the file's own


def tiny(name: str) -> Separator:
    """The small variant of an architecture, the same at every call, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return catalog.create(name, **catalog.described(name).tiny).eval()


def noise(model: Separator, n_samples: int, batch: int = 1, seed: int = 0) -> Tensor:
    """White noise ``(B, C, T)`` between -0.5 and 0.5, with what the model expects of channels."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, model.channels or 2, n_samples, generator=generator) - 0.5


def example(model: Separator, batch: int = 2) -> tuple[Tensor, Tensor]:
    """A mixture ``(B, C, T)`` of one segment and its references ``(B, J, C, T)``.

    Each source is a tone with overtones of its own in noise bands of its own, swelling at its own
    pace, at its own place: a few steps can learn to tell them apart.
    """
    rate, n_channels = model.sample_rate or RATE, model.channels or 2
    n_sources, n_samples = len(model.sources), model.segment
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(n_samples) / rate
    references = torch.zeros(batch, n_sources, n_channels, n_samples)
    for b in range(batch):
        for j in range(n_sources):
            pitch = rate / 64 * (1 + j) * (1 + 0.05 * b)
            swell = 0.5 + 0.5 * torch.sin(2 * math.pi * time * rate / n_samples * (j + 2) + b)
            tone = torch.sin(2 * math.pi * pitch * time) + 0.5 * torch.sin(
                6 * math.pi * pitch * time
            )
            hiss = 0.05 * torch.randn(n_samples, generator=generator)
            place = 1 - 0.7 * torch.rand(n_channels, 1, generator=generator)
            references[b, j] = place * (swell * tone + hiss) / (2 * n_sources)
    return references.sum(1), references


def hop_of(model: Separator) -> int:
    """Samples between the frames of a model's transform; where it has none, its grid."""
    hops = [int(module.hop) for module in model.modules() if isinstance(module, STFT)]
    return hops[0] if hops else max(model.grid, 16)


def chunk_of(model: Separator) -> int:
    """A short chunk that the model can be given: a few of its grid, in samples."""
    wanted = max(4 * hop_of(model), (model.context or 0) // 4)
    return math.ceil(wanted / model.grid) * model.grid


# --------------------------------------------------------------------------- what it gives


def check_declares_itself(model: Separator) -> None:
    """Sources, rate, channels, grid, context and segment are values that others can use."""
    assert model.sources, "a model without sources"
    assert all(isinstance(name, str) and name for name in model.sources), model.sources
    assert len(set(model.sources)) == len(model.sources), f"{model.sources} has a name twice"
    for name, value in (("sample_rate", model.sample_rate), ("channels", model.channels)):
        assert value is None or value > 0, f"{name} is {value}"
    assert isinstance(model.grid, int) and model.grid >= 1, f"grid is {model.grid}"
    context = model.context
    assert context is None or (isinstance(context, int) and context >= 0), f"context is {context}"
    assert isinstance(model.surveys, bool), f"surveys is {model.surveys}"
    if model.trainable:
        assert model.sample_rate and model.channels, "a trained model has a rate and channels"
        assert isinstance(model.segment, int) and model.segment > 0, f"segment is {model.segment}"
        assert any(p.requires_grad for p in model.parameters()), "nothing to train"


def check_length(model: Separator) -> None:
    """Estimates have the mixture's exact length, whatever it is."""
    hop, chunk = hop_of(model), chunk_of(model)
    for n_samples in (1, 2, hop - 1, hop, hop + 1, 1009, 3 * chunk):
        if n_samples < 1:
            continue
        mixture = noise(model, n_samples)
        estimates = _estimates(model, mixture)
        expected = (1, len(model.sources), *mixture.shape[1:])
        assert estimates.shape == expected, (
            f"{n_samples} samples gave {tuple(estimates.shape)}, expected {expected}"
        )
        assert estimates.dtype == mixture.dtype, f"{mixture.dtype} gave {estimates.dtype}"


def check_finite(model: Separator) -> None:
    """No input of finite values makes NaN or infinity."""
    silence = torch.zeros_like(noise(model, 4 * hop_of(model) + 3))
    impulse = silence.clone()
    impulse[..., impulse.shape[-1] // 2] = 1
    one_channel = noise(model, silence.shape[-1])
    one_channel[:, 1:] = 0
    inputs = {
        "silence": silence,
        "one impulse": impulse,
        "DC": silence + 0.5,
        "a full-scale square wave": (2 * noise(model, silence.shape[-1])).sign(),
        "one silent channel": one_channel,
        "a very quiet signal": 1e-6 * noise(model, silence.shape[-1]),
        "one sample of silence": silence[..., :1],
    }
    for name, mixture in inputs.items():
        assert bool(_estimates(model, mixture).isfinite().all()), f"{name} gives NaN or infinity"


def check_pure(model: Separator) -> None:
    """The mixture is not written to, and a second call gives the same."""
    mixture = noise(model, 2 * chunk_of(model))
    before = mixture.clone()
    first = _estimates(model, mixture)
    assert torch.equal(mixture, before), "the mixture was modified"
    assert torch.equal(_estimates(model, mixture), first), "a second call gives something else"


def check_batch(model: Separator) -> None:
    """Items of a batch do not influence each other, however different their levels."""
    mixture = noise(model, 2 * chunk_of(model) + 5, batch=2)
    mixture[1] *= 1e-2
    together = _estimates(model, mixture)
    for i in range(2):
        alone = _estimates(model, mixture[i : i + 1])[0]
        _assert_close(model, together[i], alone, f"item {i} of a batch")


def check_single_precision(model: Separator) -> None:
    """No float64 or complex128 is made of float32: Apple's GPUs have neither."""
    with _DoublesAreErrors():
        _estimates(model, noise(model, 2 * chunk_of(model)))
        if model.surveys:
            separate_tensor(model, noise(model, 2 * chunk_of(model)))


def check_bfloat16(model: Separator) -> None:
    """Under autocast to bfloat16 the estimates are finite, of the right shape, and not far off."""
    mixture = noise(model, 2 * chunk_of(model))
    exact = _estimates(model, mixture)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = _estimates(model, mixture).float()
    assert rough.shape == exact.shape
    assert bool(rough.isfinite().all()), "NaN or infinity in bfloat16"
    error = float((rough - exact).square().mean().sqrt())
    size = float(exact.square().mean().sqrt())
    assert error <= 0.3 * size + 1e-3, f"error {error:.2g} of estimates of {size:.2g} in bfloat16"


# --------------------------------------------------------------------------- long files


def check_chunks(model: Separator) -> None:
    """Where ``context`` is a number, separating in chunks equals separating at once."""
    if model.context is None:
        raise unittest.SkipTest("context is unbounded: neighbouring chunks are cross-faded")
    chunk = chunk_of(model)
    mixture = noise(model, 2 * model.context + 3 * chunk + 7)
    whole = _estimates(model, mixture)
    rate = model.sample_rate or RATE
    plan = ChunkPlan.of(model, rate, chunk / rate, 0.25)
    assert 2 * plan.hop < mixture.shape[-1], "the test has a single chunk"
    chunked = separate_tensor(model, mixture, chunk / rate)
    _assert_close(model, chunked, whole, "separated in chunks")


def check_constant_memory(model: Separator) -> None:
    """A file of twice the length needs no more memory."""
    chunk = chunk_of(model)
    shorter = 6 * chunk + 2 * (model.context or 0)  # until all that waits is full
    peaks = [_peak_bytes(model, n, chunk) for n in (shorter, 2 * shorter)]
    growth = peaks[1] - peaks[0]
    allowed = 4 * chunk * (model.channels or 2) * (len(model.sources) + 1) + model.survey_bytes
    assert growth <= allowed, (
        f"{shorter} more samples took {growth} bytes more, above {allowed} of a chunk and a survey"
    )


def check_sources(model: Separator) -> None:
    """One source alone is what it is among all, unless the model says how it differs."""
    mixture = noise(model, 2 * chunk_of(model))[0]
    rate = model.sample_rate or RATE
    whole = model.separate(mixture, rate, device="cpu")
    assert tuple(whole) == model.sources
    for name in model.sources:
        _, note = model.only([name])
        alone = model.separate(mixture, rate, sources=[name], device="cpu")
        assert list(alone) == [name]
        assert bool(alone[name].isfinite().all())
        if note is None:
            _assert_close(model, alone[name], whole[name], f"{name} alone")
        else:
            assert note in alone.info["notes"], f"{name} alone differs, and nobody is told"


def check_derived_sources(model: Separator) -> None:
    """Everything but a source, such as the accompaniment, is the mixture minus that source."""
    mixture = noise(model, 2 * chunk_of(model))[0]
    rate = model.sample_rate or RATE
    for name in model.sources:
        other = complement(name)
        if other in model.sources:
            continue
        pair = model.separate(mixture, rate, sources=[name, other], device="cpu")
        _assert_close(model, pair[name] + pair[other], mixture, f"{name} and {other}")
    whole = model.separate(mixture, rate, device="cpu")
    total = sum(whole.values(), start=whole.residual)
    _assert_close(model, total, mixture, "the sources and the residual")


# --------------------------------------------------------------------------- learning


def check_loss(model: Separator) -> None:
    """The loss is one finite number, and its parts are numbers that can be logged."""
    _only_trainable(model)
    mixture, references = example(model)
    losses = model.train().loss(mixture, references, _all_known(references))
    assert "loss" in losses, f"loss gives {sorted(losses)}; 'loss' is what is minimised"
    for name, value in losses.items():
        assert value.shape == () and bool(value.isfinite()), f"{name} is {value}"
    assert losses["loss"].requires_grad, "the loss has no gradient"


def check_gradients(model: Separator) -> None:
    """Every parameter gets a finite gradient that is not zero.

    A bias in front of a batch normalisation counts as learning if it does so in evaluation mode,
    where the normalisation does not take it away.  What the model names as unused need not.
    """
    _only_trainable(model)
    mixture, references = example(model, batch=3)
    touched: set[str] = set()
    for training in (True, False):
        model.train(training).zero_grad()
        model.loss(mixture, references, _all_known(references))["loss"].backward()
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad or any(fnmatch(name, p) for p in model.unused):
                touched.add(name)
                continue
            assert parameter.grad is not None, f"{name} has no gradient"
            assert bool(parameter.grad.isfinite().all()), f"the gradient of {name} is not finite"
            if bool(parameter.grad.any()):
                touched.add(name)
    lost = [name for name, _ in model.named_parameters() if name not in touched]
    assert not lost, f"the gradient is zero for {', '.join(lost)}"


def check_unknown_sources(model: Separator) -> None:
    """What stands in for an unknown reference changes neither loss nor gradient."""
    _only_trainable(model)
    mixture, references = example(model)
    for j, name in enumerate(model.sources):
        known = _all_known(references)
        known[:, j] = False
        results = []
        for level in (0.0, 3.0):
            other = references.clone()
            other[:, j] = level * noise(model, model.segment, len(references))
            results.append(_loss_and_gradient(model, mixture, other, known))
        for before, after in zip(*results, strict=True):
            assert torch.equal(before, after), f"the unknown {name} has an influence"
    nothing = torch.zeros_like(_all_known(references))
    for value in _loss_and_gradient(model, mixture, references, nothing):
        assert bool(value.isfinite().all()), "nothing known: the loss is not finite"


def check_learns(model: Separator, steps: int = 24, factor: float = 0.6, lr: float = 0.01) -> None:
    """A few dozen steps of Adam on one example lower the loss by a factor.

    Args:
        model: is changed.
        steps: how many.
        factor: of the first loss that the last may be; of a loss below zero, as much is taken off.
        lr: learning rate.
    """
    _only_trainable(model)
    mixture, references = example(model)
    known = _all_known(references)
    optimizer = torch.optim.Adam(model.train().parameters(), lr=lr)
    values = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model.loss(mixture, references, known)["loss"]
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    wanted = values[0] - (1 - factor) * abs(values[0])
    assert values[-1] <= wanted, (
        f"{steps} steps took the loss from {values[0]:.4g} to {values[-1]:.4g}, not to {wanted:.4g}"
    )


# --------------------------------------------------------------------------- keeping it


def check_arguments(model: Separator) -> None:
    """The arguments come through JSON, and make the same model again."""
    again = _made_again(model)
    assert again.sources == model.sources
    assert (again.sample_rate, again.channels) == (model.sample_rate, model.channels)
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    assert {name: value.shape for name, value in again.state_dict().items()} == shapes


def check_weights(model: Separator) -> None:
    """Weights come back from safetensors bit for bit, and with them every estimate."""
    if not model.state_dict():
        raise unittest.SkipTest("a system without weights")
    mixture = noise(model, 2 * chunk_of(model))
    before = _estimates(model, mixture)
    again = _made_again(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_file(model.state_dict(), path)
        again.load_state_dict(load_file(path))
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), f"{name} has changed"
    assert torch.equal(_estimates(again, mixture), before), "the same weights give other estimates"


def check_checkpoint(model: Separator) -> None:
    """A checkpoint's arguments and weights are read without running any code from it."""
    file = io.BytesIO()
    torch.save({"hyper_parameters": dict(model.hparams), "state": model.state_dict()}, file)
    file.seek(0)
    try:
        content = torch.load(file, weights_only=True)
    except UnpicklingError as error:
        raise AssertionError(f"the arguments are not plain values: {error}") from error
    assert content["hyper_parameters"].keys() == model.hparams.keys()
    for name, value in model.state_dict().items():
        assert torch.equal(content["state"][name], value), f"{name} has changed"


CHECKS: tuple[Callable[[Separator], None], ...] = (
    check_declares_itself,
    check_length,
    check_finite,
    check_pure,
    check_batch,
    check_single_precision,
    check_bfloat16,
    check_chunks,
    check_constant_memory,
    check_sources,
    check_derived_sources,
    check_loss,
    check_gradients,
    check_unknown_sources,
    check_learns,
    check_arguments,
    check_weights,
    check_checkpoint,
)
"""All of them, each taking a fresh model: some train it."""


# --------------------------------------------------------------------------- inside


def _estimates(model: Separator, mixture: Tensor) -> Tensor:
    with torch.inference_mode():
        estimates: Tensor = model.eval()(mixture)
    return estimates


def _made_again(model: Separator) -> Separator:
    """A new model from the saved arguments, by way of JSON."""
    arguments = dict(model.hparams)
    try:
        text = json.dumps(arguments, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"the arguments are not plain JSON values: {error}") from error
    try:
        return type(model)(**json.loads(text)).eval()
    except TypeError as error:
        raise AssertionError(
            f"what save_hyperparameters() kept, {sorted(arguments)}, does not make the model "
            f"again: {error}"
        ) from error


def _assert_close(model: Separator, found: Tensor, expected: Tensor, what: str) -> None:
    difference = float((found - expected).abs().max())
    limit = model.tolerance * max(1.0, float(expected.abs().max()))
    assert difference <= limit, f"{what}: {difference:.2g} off, {limit:.2g} is allowed"


def _all_known(references: Tensor) -> Tensor:
    return torch.ones(references.shape[:2], dtype=torch.bool)


def _only_trainable(model: Separator) -> None:
    if not model.trainable:
        raise unittest.SkipTest("a system without parameters")


def _loss_and_gradient(
    model: Separator, mixture: Tensor, references: Tensor, known: Tensor
) -> list[Tensor]:
    """Loss and gradients, with the random numbers of dropout held fixed."""
    model.train().zero_grad()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        loss = model.loss(mixture, references, known)["loss"]
        loss.backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    return [loss.detach(), *gradients]


class _DoublesAreErrors(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                assert tensor.dtype not in (torch.float64, torch.complex128), (
                    f"{func} makes {tensor.dtype} of single precision"
                )
        return result


class _Noise:
    """A signal of any length that is never in memory as a whole."""

    def __init__(self, rate: int, channels: int, samples: int, block: int) -> None:
        self.rate, self.channels, self.samples, self.block = rate, channels, samples, block
        self.announced: int | None = samples
        self.notes: list[str] = []

    def blocks(self) -> Iterator[Tensor]:
        for start in range(0, self.samples, self.block):
            yield torch.rand(self.channels, min(self.block, self.samples - start)) - 0.5


def _peak_bytes(model: Separator, n_samples: int, chunk: int) -> int:
    rate, channels = model.sample_rate or RATE, model.channels or 2
    signal = _Noise(rate, channels, n_samples, block=chunk)
    with LiveBytes() as memory:
        n_done = 0
        for mixture, _ in Separation(model.eval(), signal, chunk=chunk / rate):
            n_done += mixture.shape[-1]
    assert n_done == n_samples, f"{n_samples} samples gave {n_done}"
    peak: int = memory.peak
    return peak
