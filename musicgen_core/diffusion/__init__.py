"""MultiBand Diffusion: the other way from tokens to a waveform."""
