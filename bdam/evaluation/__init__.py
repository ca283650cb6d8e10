"""Evaluation: metrics, protocols, studies, analyses and figures."""
