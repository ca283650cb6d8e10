"""Reads benchmarks, and own folders of images, into rows of the schema."""

from .catalogue import BENCHMARKS, parse_benchmark, read_listing
from .checking import VERDICTS, Check, Finding, check_benchmark, check_tables
from .conversion import load_benchmark, read_rows


__all__ = [
    "BENCHMARKS",
    "VERDICTS",
    "Check",
    "Finding",
    "check_benchmark",
    "check_tables",
    "load_benchmark",
    "parse_benchmark",
    "read_listing",
    "read_rows",
]
