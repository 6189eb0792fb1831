"""Sound as samples: waveforms, audio files and their tags, clips, loudness."""
