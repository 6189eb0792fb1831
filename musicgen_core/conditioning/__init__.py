"""What the music follows: a text through T5, and a melody as a chromagram."""
