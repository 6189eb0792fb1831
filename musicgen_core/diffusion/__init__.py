"""MultiBand Diffusion: the alternative to the codec's decoder, from tokens to a waveform."""
