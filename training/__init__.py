"""How musicgen-pocket is made: music is synthesised with its caption, then a codec and a language model learn it.

The order of a run, each a module with a `main`: `codec`, `tokens`, `text_encoder`,
`language_model`, `export`, `measure`.
"""
