"""What each trainable system costs: parameters, CPU seconds and memory per second of audio.

One thread, noise at the system's own rate and channels, the sizes of its paper:

* separate: CPU seconds per second of audio, and the bytes of tensors that are alive at most;
* one source: CPU seconds of the cheapest source alone, beside those of all;
* train: the same of a step on one segment: forward, loss, backward, Adam.

Times are the least of several runs, with a run before them that does not count.  Bytes are those of
all tensors that operations make (not of the weights, nor of scratch space inside an operation).
Beside each figure stands its ratio to the reference's, which is measured first and once more last:
what the two differ by is what other users of the machine did.

``python -m benchmarks.models wavenet --reference mmdensenet``; all trainable systems by default.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import torch

import zoo
from zoo.errors import MissingPackage
from zoo.testing import LiveBytes

MB = 1e6


@dataclass(frozen=True)
class Cost:
    """All but ``parameters`` and ``one_source`` are per second of audio."""

    parameters: float
    separate_s: float
    separate_mb: float
    one_source: float  # share of separate_s
    train_s: float
    train_mb: float


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__)
    parser.add_argument("models", nargs="*", help="names of the catalog")
    parser.add_argument("--reference", default="mmdensenet")
    parser.add_argument("--seconds", type=float, default=4.0, help="of audio to separate")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="small variants, to see that it runs")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    print(f"load {os.getloadavg()[0]:.1f}; one thread, torch {torch.__version__}; "
          f"{options.seconds:g} s of noise; in brackets: times {options.reference}")  # fmt: skip
    print(f"{'':22s}{'parameters':>20s}{'separate: CPU s':>20s}{'MB':>20s}{'one source':>12s}"
          f"{'train: CPU s':>20s}{'MB':>20s}")  # fmt: skip
    names = options.models or zoo.list_models(trainable=True)
    cost(options.reference, 1.0, 1, tiny=True)  # what torch loads at its first training step
    reference: Cost | None = None
    for name in (
        options.reference,
        *(n for n in names if n != options.reference),
        options.reference,
    ):
        try:
            found = cost(name, options.seconds, options.repeats, options.tiny)
        except MissingPackage as error:
            print(f"{name:22s}left out: {error}", flush=True)
            continue
        reference = reference or found
        print(line(name, found, reference), flush=True)


def cost(name: str, seconds: float, repeats: int, tiny: bool) -> Cost:
    torch.manual_seed(0)
    model = zoo.create(name, **(zoo.catalog.described(name).tiny if tiny else {}))
    mixture = 0.1 * torch.randn(1, model.channels, round(seconds * model.sample_rate))
    alone = [model.only([source])[0] for source in model.sources]

    def separate(part: zoo.Separator) -> None:
        with torch.inference_mode():
            part.eval()(mixture)

    whole_s, whole_mb = measured(lambda: separate(model), repeats)
    one_s = min(measured(lambda: separate(part), 1)[0] for part in alone)  # noqa: B023
    optimizer = torch.optim.Adam(model.train().parameters())
    references = 0.1 * torch.randn(1, len(model.sources), model.channels, model.segment)
    known = torch.ones(1, len(model.sources), dtype=torch.bool)

    def step() -> None:
        model.train()
        optimizer.zero_grad()
        model.loss(references.sum(1), references, known)["loss"].backward()
        optimizer.step()

    step_s, step_mb = measured(step, repeats)
    segment_s = model.segment / model.sample_rate
    return Cost(
        sum(p.numel() for p in model.parameters()),
        whole_s / seconds, whole_mb / seconds, one_s / whole_s,
        step_s / segment_s, step_mb / segment_s,
    )  # fmt: skip


def measured(call: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """CPU seconds at least, and megabytes of tensors at most."""
    with LiveBytes() as memory:
        call()
    times = []
    for _ in range(repeats):
        before = time.process_time()
        call()
        times.append(time.process_time() - before)
    return min(times), memory.peak / MB


def line(name: str, found: Cost, reference: Cost) -> str:
    cells = []
    for field, value, other in zip(
        Cost.__dataclass_fields__, astuple(found), astuple(reference), strict=True
    ):
        if field == "one_source":
            cells.append(f"{value:12.2f}")
        else:
            number = f"{value:,.0f}".replace(",", " ") if value >= 1000 else f"{value:.3g}"
            cells.append(f"{number:>11s} {f'({value / other:.2f})':>8s}")
    return f"{name:22s}" + "".join(cells)


if __name__ == "__main__":
    main()
