"""Finds, inserts and removes lines in Python sources of a checkout, as text; `Patch` is the protocol of every patch."""
