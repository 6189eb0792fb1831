"""Sound as samples: waveforms, audio files through ffmpeg, clips, loudness."""
