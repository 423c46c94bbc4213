"""The parts of scripts/bench_lego.py."""
