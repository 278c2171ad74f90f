"""Diagnosis: what state a model is in, by evidence, and what to do next."""

from uncollapse.diagnosis.verdicts import MISMATCH, NEGLIGIBLE, least_marginal_kl, verdict

__all__ = ["MISMATCH", "NEGLIGIBLE", "least_marginal_kl", "verdict"]
