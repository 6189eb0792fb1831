"""Fine-tuning: an archive of music in, a LoRA adapter out.

    from pathlib import Path
    from finetuning.fine_tune import fine_tune

    tuned = fine_tune(Path("my-songs.zip"), "facebook/musicgen-melody", Path("adapters/my-songs"))

Stands on musicgen_core alone, which knows nothing of it; needs the extra `finetuning`.
"""
