"""EnCodec: waveform to tokens and back, at once, in chunks, or while the tokens are being generated."""
