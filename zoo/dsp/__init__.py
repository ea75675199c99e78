"""Signal processing on tensors: STFT, Wiener filter, chunk arithmetic. Pure functions, no files."""
