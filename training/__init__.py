"""Trains musicgen-pocket: a codec and a language model learn synthesised music and its captions.

Each stage is a module with a `main`, in this order: `codec`, `diffusion`, `tokens`, `text_encoder`, `language_model`,
`export`, `measure`.
"""
