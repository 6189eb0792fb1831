"""Compares our engine with audiocraft 1.3.0, the reference implementation, on the same weights.

`write` runs in audiocraft's environment (scripts/audiocraft-env.sh) and writes weights, inputs and audiocraft's
results, which the modules `audiocraft_*` compute. The modules `native_*` compute the same with our engine, and
`compare` prints the differences. The two sides exchange data as files. tests/golden/ holds such files for small shapes:
`make golden` writes them, and tests/musicgen_core/test_golden.py compares the engine with them.
"""
