"""`audit fleet` measured: `python -m benchmarks.fleet`."""
