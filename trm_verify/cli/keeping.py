"""What a certificate on disk proves that the one about to replace it does not."""

from __future__ import annotations

import re
from pathlib import Path

from trm_verify.kernel.check import Valid, check
from trm_verify.kernel.claims import Conclusion, implies
from trm_verify.kernel.document import MAX_BYTES, read_file
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.expect import describe, find, parse_expectation

NAMED = 3  # lost claims that the message names


def refusal(target: Path, weights: bytes, new: Valid) -> str | None:
    """Why the new certificate may not silently take the place of the file at the target; None where it may.

    A file that proves nothing about these weights (a stale or a broken one) has nothing to lose.

    Raises:
        OSError: the file cannot be read.
    """
    from trm_verify.report.text import short

    try:
        old = check(read_file(target, MAX_BYTES), weights)
    except CheckError:
        return None
    same_graph = old.graph.digest == new.graph.digest
    lost = [describe(claim) for claim in old.claims if not (same_graph and _proved(claim, new))]
    if not lost:
        return None
    texts = [short(text) for text in lost[:NAMED]]
    more = f" and {len(lost) - NAMED} more" if len(lost) > NAMED else ""
    about = "" if same_graph else ", about another graph of the same weights"
    return (
        f"expected it to prove all that {target} proves{about}, found that it does not prove {'; '.join(texts)}{more}; "
        f"keep both with --out {target.with_name('NAME.trmcert.json')}, or replace the old one with --force"
    )


def _proved(old: Conclusion, new: Valid) -> bool:
    """Whether some claim of the new certificate says at least as much: larger sets, or the same with better bounds."""
    if any(implies(claim, old) for claim in new.claims):
        return True
    text = re.sub(r"(?:box|point) of dimension \d+ ", "", describe(old))  # a set is named by its digest alone
    try:
        find(new, parse_expectation(text))
    except (CheckError, ValueError):  # ValueError: a number too long to be printed, so that nothing can be said simply
        return describe(old) in map(describe, new.claims)
    return True
