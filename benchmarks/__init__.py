"""What `make bench` measures; `python -m benchmarks` runs all of it in its quick form."""
