"""Forty prompts as people write them, none of them made from the captions' tables, with what each asks for.

They are for measuring only: nothing is tuned to them.
"""

from __future__ import annotations

FREE_PROMPTS: tuple[tuple[str, dict[str, bool]], ...] = (
    ("a slow piano ballad about rain", {"percussion or none": False}),
    ("happy birthday party music with a drum kit", {"percussion or none": True, "major or minor": True}),
    ("lullaby on a music box for a sleepy child", {"percussion or none": False}),
    ("dark techno with heavy drums", {"percussion or none": True, "bright or dark": False}),
    ("sad violin strings at a funeral", {"major or minor": False}),
    ("fast and furious car chase, percussion", {"percussion or none": True, "fast or slow": True}),
    ("a very slow walk through a museum, with drums", {"percussion or none": True, "fast or slow": False}),
    ("church organ, solemn, in D minor", {"major or minor": False}),
    ("cheerful ukulele-like guitar and drums", {"percussion or none": True, "major or minor": True}),
    ("minimal piano, very few notes, no drums", {"percussion or none": False, "dense or sparse": False}),
    ("busy video game music, lots of notes", {"dense or sparse": True}),
    ("mellow evening jazz feeling with soft drums", {"percussion or none": True, "bright or dark": False}),
    ("bright sunny morning, flute melody", {"bright or dark": True}),
    ("quick happy tune with a beat", {"percussion or none": True, "fast or slow": True, "major or minor": True}),
    ("gloomy dungeon soundtrack", {"major or minor": False}),
    ("uplifting corporate background music with drums", {"percussion or none": True, "major or minor": True}),
    ("meditation music, calm, without any percussion", {"percussion or none": False}),
    ("sparkling bells in the snow", {"bright or dark": True}),
    ("energetic workout track, drums, fast tempo", {"percussion or none": True, "fast or slow": True}),
    ("a mournful song without drums", {"percussion or none": False, "major or minor": False}),
    ("full and rich synthesizer track, dense", {"dense or sparse": True}),
    ("warm lo-fi beats to study to", {"percussion or none": True, "bright or dark": False}),
    ("joyful folk guitar, no percussion", {"percussion or none": False, "major or minor": True}),
    ("tense thriller music in a minor key", {"major or minor": False}),
    ("peaceful ambient strings", {"percussion or none": False}),
    ("up-tempo pop with piano and drums", {"percussion or none": True, "fast or slow": True}),
    ("slow groove with drums and a deep bass", {"percussion or none": True, "fast or slow": False}),
    ("crisp and bright synth arpeggio", {"bright or dark": True}),
    ("muffled music from the room next door", {"bright or dark": False}),
    ("sparse flute over organ chords, no drums", {"percussion or none": False, "dense or sparse": False}),
    ("busy guitar picking, many notes", {"dense or sparse": True}),
    ("triumphant major key anthem with drums", {"percussion or none": True, "major or minor": True}),
    ("melancholic piano, minor", {"major or minor": False}),
    ("dance music, 125 bpm, drums", {"percussion or none": True, "fast or slow": True}),
    ("slow 75 bpm drum groove with strings", {"percussion or none": True, "fast or slow": False}),
    ("dark low strings, no beat", {"percussion or none": False, "bright or dark": False}),
    ("playful piano in C major", {"major or minor": True}),
    ("a drumless, minimalist guitar sketch", {"percussion or none": False, "dense or sparse": False}),
    ("bright and busy marimba-like music box with drums", {"percussion or none": True, "dense or sparse": True}),
    ("sombre organ piece, low and dark", {"major or minor": False, "bright or dark": False}),
)
"""Each prompt, with the attributes that it asks for (`ATTRIBUTES`) and whether they should measure high."""
