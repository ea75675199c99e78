"""Signal processing on tensors: STFT and Wiener filter. Pure functions, no files."""
