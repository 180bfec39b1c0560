"""Results for people: terminal tables with rich, figures with matplotlib, and a page of its own without either."""

from __future__ import annotations

from trm_verify.report.accuracy import AccuracyCurve, AccuracyPoint, certified_accuracy
from trm_verify.report.answers import answers_figure
from trm_verify.report.figures import Curve, accuracy_figure, convergence_figure, run_figure, save_figure
from trm_verify.report.maps import attractor_figure, print_attractors
from trm_verify.report.obligations import print_obligations
from trm_verify.report.page import report_page
from trm_verify.report.reading import ModelDirectory, read_directory
from trm_verify.report.tables import (
    fields,
    print_certificate,
    print_check,
    print_refutations,
    print_results,
    print_run,
    statements,
)
from trm_verify.report.text import abbreviated, short, size, upper

__all__ = [
    "AccuracyCurve",
    "AccuracyPoint",
    "Curve",
    "ModelDirectory",
    "abbreviated",
    "accuracy_figure",
    "answers_figure",
    "certified_accuracy",
    "attractor_figure",
    "convergence_figure",
    "fields",
    "print_attractors",
    "print_certificate",
    "print_check",
    "print_obligations",
    "print_refutations",
    "print_results",
    "print_run",
    "read_directory",
    "report_page",
    "run_figure",
    "save_figure",
    "short",
    "size",
    "statements",
    "upper",
]
