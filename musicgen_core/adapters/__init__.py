"""Adapters: small trained changes (LoRA) to a loaded model, read from PEFT's format and applied row by row."""
