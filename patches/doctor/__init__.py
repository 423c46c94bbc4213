"""The doctor: what a checkout does about each known defect of LEGO, found by running its own code.

`registry.CHECKS` lists the checks, each with one module in `checks`. They run in a child process with fakes for the
models. A check that cannot be run on a checkout is skipped, with the reason.
"""
