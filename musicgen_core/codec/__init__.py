"""EnCodec: waveform to tokens and back, in stretches, also while the tokens are being generated."""
