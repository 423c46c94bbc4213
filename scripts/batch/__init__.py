"""The parts of scripts/lego_batch.py."""
