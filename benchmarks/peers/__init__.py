"""The comparison with audiocraft and transformers on the same weights."""
