"""What the phase is worth, and which spectra add up: three answers on songs in stems.

1. Lost with the phase: SDR of a source's own magnitudes with the mixture's phase, and with its own.
2. Artifacts of the mixture's phase: its SAR.
3. Additivity: how far |X|^p is from sum_j |S_j|^p, of magnitudes (p = 1) and powers (p = 2), and
   how that goes with c, the mean cosine of the sources' phase differences, weighted by |S_i| |S_j|.
"""

import argparse

import numpy as np
import torch

from zoo import bss_eval
from zoo.data import open_dataset
from zoo.dsp.stft import STFT
from zoo.pictures import blank, save

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--songs", help="folder of <song>/<stem> files; generated songs by default")
parser.add_argument("--seconds", type=float, default=20.0, help="from the middle of each song")
parser.add_argument("--picture", default="phase.png")
options = parser.parse_args()
made = {} if options.songs else {"n_train": 3, "seconds": options.seconds}
songs = open_dataset("folder" if options.songs else "generated", options.songs, **made)
stft, scores, bins = STFT(2048, 1024), {}, []
for track in songs.tracks("train"):
    n = min(track.samples, round(options.seconds * track.rate))
    names = [source for source in track.sources if track.has_stem(source)]
    stems = np.stack([track.read(source, (track.samples - n) // 2, n) for source in names])
    stems = torch.from_numpy(np.round(stems * 32768.0) / 32768)  # in 16 bits: see zoo.bss_eval
    S, X = stft(stems), stft(stems.sum(0))  # (J, C, F, N), (C, F, N)
    for phase, angle in (("its own", S.angle()), ("mixture's", X.angle().expand_as(S.abs()))):
        estimates = stft.inverse(torch.polar(S.abs(), angle), n)
        found = bss_eval(stems, estimates, track.rate, silence="references")
        for name, *figures in zip(names, found.SDR, found.SIR, found.SAR, strict=True):
            scores.setdefault((name, phase), []).append(figures)
    x, s1, s2 = X.abs(), S.abs().sum(0), S.abs().square().sum(0)
    heard = (s2 > 1e-6 * s2.max()) & (s1.square() > 1.01 * s2)  # bins of more than one source
    bins.append(torch.stack([(x**2 - s2) / (s1**2 - s2), x, s1, x**2, s2])[:, heard])
print("source    phase        SDR    SIR    SAR   dB, BSS Eval v4, median of all seconds")
left, right = (figure := blank(10, 4)).subplots(1, 2)
for (name, phase), found in scores.items():
    sdr, sir, sar = np.nanmedian(np.concatenate(found, 1), 1)
    print(f"{name:10s}{phase:10s}{sdr:6.1f} {sir:6.1f} {sar:6.1f}")
    if phase == "mixture's":
        left.bar([f"{name}\nSDR", f"{name}\nSAR"], [sdr, sar], color=["C0", "C1"])
left.set(title="own magnitudes, mixture's phase", ylabel="dB")
c, *sides = torch.cat(bins, 1).numpy()
for name, whole, parts in (("magnitudes", *sides[:2]), ("powers", *sides[2:])):
    miss, r = (whole - parts) / parts.sum(), np.corrcoef((whole - parts) / parts, c)[0, 1]
    told = f"{name}: error {np.abs(miss).sum():.1%}, bias {miss.sum():+.1%}, correlation {r:.2f}"
    print(told)
    part = [((whole - parts) / parts)[np.abs(c - at) < 0.05] for at in np.linspace(-0.95, 0.95, 20)]
    low, middle, high = np.transpose([np.quantile(p, [0.25, 0.5, 0.75]) for p in part])
    right.plot(np.linspace(-0.95, 0.95, 20), middle, label=told)
    right.fill_between(np.linspace(-0.95, 0.95, 20), low, high, alpha=0.3)
right.set(title="how far sources add up: median, quartiles", xlabel="c", ylabel="relative error")
right.legend(fontsize=7)
save(figure, options.picture)
