"""How musicgen-pocket is made: music is synthesised with its caption, then a codec and a language model learn it.

The order of a run, each a module with a `main`: `codec`, `diffusion`, `tokens`, `text_encoder`, `language_model`,
`export`, `measure`.
"""
