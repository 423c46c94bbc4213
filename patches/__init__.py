"""The patch kit: two series of patches for ACE-Step 1.5 checkouts, a proof that runs them, and a doctor for LEGO.

`python -m patches VERB ROOT`. `check`, `diff`, `apply` and `revert` read and write text; `verify`, `doctor` and `apply
--verify` run code of the checkout, in a child process.
"""

__version__ = "0.2.0"
