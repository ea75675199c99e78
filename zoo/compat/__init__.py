"""The only doors to packages that can fail while they are imported: torchaudio, musdb, museval.

Each door is a module with ``mode()``, which says how the package is there, and ``load()``, which
gives it.  Both do their work once, under a lock, when first called.
"""
