"""EnCodec: waveform to tokens and back, whole, in chunks, or while the tokens are still being made."""
