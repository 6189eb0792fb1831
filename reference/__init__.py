"""Our engine beside audiocraft 1.3.0, the reference implementation, on the same weights.

`write` runs in audiocraft's environment (scripts/audiocraft-env.sh) and writes weights, inputs and what audiocraft
makes of them; `ours` computes the same with our engine; `compare` prints how far the two are apart. Data goes between
them as files. tests/golden/ holds such files for small shapes: `make golden` writes them, and
tests/musicgen_core/test_golden.py holds the engine to them.
"""
