"""The proof: runs a checkout's own three files with a fake decoder and counts its evaluations.

A base model has to take one evaluation a step, at the timesteps of PyTorch's schedule, each applied once and in order.
A turbo model, and a host without `config`, have to do what the checkout did before the patches.
"""

from .report import VerifyReport, render_report
from .run import BadRequest, verify_checkout

__all__ = ["BadRequest", "VerifyReport", "render_report", "verify_checkout"]
