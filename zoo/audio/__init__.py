"""Audio files in and out, and sample rates, in constant memory.

Signals are float32 ``(channels, samples)``, full scale is 1.  Content decides how a file is read,
its extension how it is written.  Wave files take numpy alone; other formats import soundfile
(libsndfile) or av (FFmpeg's libraries) when they are met, rates import soxr.

>>> import numpy as np
>>> resample(np.zeros((2, 44100), np.float32), 44100, 16000).shape
(2, 16000)
"""

from zoo.audio.keeping import read_again
from zoo.audio.reading import FILM_SUFFIXES, SUFFIXES, AudioReader, open_audio, read
from zoo.audio.resampling import Resampler, resample
from zoo.audio.writing import FORMATS, AudioWriter, check_output

__all__ = [
    "FILM_SUFFIXES",
    "FORMATS",
    "SUFFIXES",
    "AudioReader",
    "AudioWriter",
    "Resampler",
    "check_output",
    "open_audio",
    "read",
    "read_again",
    "resample",
]
