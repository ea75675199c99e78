"""A SoundFont of two samples, written by hand: a tone of 440 Hz at key 69, and a burst of noise."""

import struct

import numpy as np

RATE = 22000  # of the samples: 50 to a cycle of 440 Hz
KEY_RANGE, EXCLUSIVE, INSTRUMENT, SAMPLE, LOOPS, SCALE, ROOT = 43, 57, 41, 53, 54, 56, 58
RELEASE = 38
# One preset for each instrument of the arrangement, and two kits.
PRESETS = [(0, p) for p in (0, 4, 7, 8, 12, 16, 24, 26, 27, 28, 33, 38, 48, 56, 73, 80, 81, 88)]
KITS = [(128, 0), (128, 8)]


def chunk(name, data):
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def write_font(path, presets=(*PRESETS, *KITS)):
    """Writes it; presets of bank 128 play the noise on every key, all others the tone."""
    tone = np.sin(2 * np.pi * np.arange(2000) / 50)
    noise = np.random.default_rng(0).uniform(-1, 1, RATE) * np.exp(-np.arange(RATE) / 4000)
    gap = np.zeros(46)
    data = (12000 * np.concatenate([tone, gap, noise, gap])).astype("<i2")
    starts = (0, len(tone) + len(gap))
    samples = b"".join(
        struct.pack("<20sIIIIIBbHH", name, a, a + n, a + 50, a + n - 50, RATE, key, 0, 0, 1)
        for name, a, n, key in (
            (b"tone", starts[0], len(tone), 69),
            (b"noise", starts[1], RATE, 60),
        )
    ) + struct.pack("<20sIIIIIBbHH", b"EOS", *[0] * 9)
    # Hats stop each other; the sample comes last in a zone.
    zones = [
        [(LOOPS, 1), (RELEASE, -7200 & 0xFFFF), (SAMPLE, 0)],
        [(KEY_RANGE, 42 | 46 << 8), (SCALE, 0), (EXCLUSIVE, 1), (SAMPLE, 1)],
        [(KEY_RANGE, 0 | 41 << 8), (SCALE, 0), (SAMPLE, 1)],
        [(KEY_RANGE, 47 | 127 << 8), (SCALE, 0), (SAMPLE, 1)],
    ]
    igen, ibag = b"", b""
    for number, zone in enumerate(zones):
        ibag += struct.pack("<HH", sum(len(z) for z in zones[:number]), 0)
        igen += b"".join(struct.pack("<HH", *generator) for generator in zone)
    ibag += struct.pack("<HH", sum(map(len, zones)), 0)
    inst = b"".join(
        struct.pack("<20sH", name, bag) for name, bag in ((b"tone", 0), (b"kit", 1), (b"EOI", 4))
    )
    phdr = b"".join(
        struct.pack("<20sHHHIII", f"{b}:{p}".encode(), p, b, n, 0, 0, 0)
        for n, (b, p) in enumerate(presets)
    ) + struct.pack("<20sHHHIII", b"EOP", 0, 0, len(presets), 0, 0, 0)
    pbag = b"".join(struct.pack("<HH", n, 0) for n in range(len(presets) + 1))
    pgen = b"".join(struct.pack("<HH", INSTRUMENT, int(bank == 128)) for bank, _ in presets)
    end = struct.pack("<HH", 0, 0)
    nothing = b"\0" * 10  # the last modulator
    pdta = b"".join(
        chunk(name, data)
        for name, data in (
            (b"phdr", phdr), (b"pbag", pbag), (b"pmod", nothing), (b"pgen", pgen + end),
            (b"inst", inst), (b"ibag", ibag), (b"imod", nothing), (b"igen", igen + end),
            (b"shdr", samples),
        )
    )  # fmt: skip
    info = chunk(b"ifil", struct.pack("<HH", 2, 1)) + chunk(b"isng", b"EMU8000\0")
    info += chunk(b"INAM", b"tiny\0\0")
    body = b"sfbk" + b"".join(
        chunk(b"LIST", kind + content)
        for kind, content in (
            (b"INFO", info), (b"sdta", chunk(b"smpl", data.tobytes())), (b"pdta", pdta),
        )
    )  # fmt: skip
    path.write_bytes(chunk(b"RIFF", body))
    return path
