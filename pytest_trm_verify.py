"""The pytest plugin: certificates as test fixtures. Outside the package, so that pytest starts without torch.

    def test_it_settles(certify):
        assert certify(make_model()).proves(contraction(rate=0.9))

`pytest` alone proves what each test asks. `pytest --trm-certificates DIR --trm-update` stores the certificates too, and
`pytest --trm-certificates DIR` only re-checks the stored ones, exactly, against the models that the tests make.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from trm_verify.testing import Certified

SUFFIX = ".trmcert.json"
LONGEST_NAME = 80
MARKER = (
    "trm(**options): defaults for the test's `certify` calls, as verify_fixed_point has them (norm, timeout, eps, …); "
    "`-m trm` selects every test that uses `certify`"
)
_PROPERTY = "trm_verify."


@dataclass
class Record:
    """What one `certify` call found, as it travels in the report of its test (strings: JUnit properties are)."""

    test: str
    found: dict[str, str] = field(default_factory=dict)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--trm-certificates` and `--trm-update`."""
    group = parser.getgroup("trm_verify", "certificates of recursive models")
    group.addoption(
        "--trm-certificates", metavar="DIR", default=None,
        help="re-check the certificates stored in DIR instead of proving; a stale or missing one fails its test",
    )  # fmt: skip
    group.addoption("--trm-update", action="store_true", help="prove, and store the certificates in DIR")


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker; refuses options that do not fit together before anything runs."""
    config.addinivalue_line("markers", MARKER)
    folder, update = config.getoption("trm_certificates"), config.getoption("trm_update")
    if update and folder is None:
        raise pytest.UsageError("--trm-update: expected --trm-certificates DIR with it, found none")
    if folder is None:
        return
    path = _folder(config)
    if path.exists() and not path.is_dir():
        raise pytest.UsageError(f"--trm-certificates: expected a folder, found the file {folder!r}")
    if not path.exists() and not update:
        raise pytest.UsageError(
            f"--trm-certificates: expected a folder of certificates, found no {folder!r}; make it with --trm-update"
        )
    try:
        for _ in path.iterdir() if path.exists() else ():
            break
    except OSError as error:
        raise pytest.UsageError(f"--trm-certificates: expected to read {folder!r}, found: {error.strerror}") from error


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that use `certify` can be selected with `-m trm`."""
    for item in items:
        if "certify" in getattr(item, "fixturenames", ()) and item.get_closest_marker("trm") is None:
            item.add_marker(pytest.mark.trm)


@pytest.fixture
def certify(request: pytest.FixtureRequest) -> Iterator[Callable[..., Certified]]:
    """`certify(model, x=None, name=None, **options)`: as `verify_fixed_point`, or from a stored certificate.

    Each call of a test has a certificate of its own, named after the test and the call's number, or `name`.
    """
    item, calls = request.node, 0
    defaults: dict[str, Any] = {}
    for mark in reversed(list(item.iter_markers("trm"))):  # the closest one last: it wins
        if mark.args:
            raise pytest.UsageError(f"{item.nodeid}: expected keyword options in the marker trm, found {mark.args}")
        defaults |= mark.kwargs

    def call(model: Any, x: Any = None, *, name: str | None = None, **options: Any) -> Certified:
        nonlocal calls
        calls += 1
        return _certify(item, model, x, name or (str(calls) if calls > 1 else ""), {**defaults, **options})

    yield call


def _certify(item: pytest.Item, model: Any, x: Any, name: str, options: dict[str, Any]) -> Certified:
    __tracebackhide__ = True
    from trm_verify.testing import CertificateProblem, certify

    config = item.config
    path = None if config.getoption("trm_certificates") is None else _folder(config) / _file_name(item.nodeid, name)
    try:
        found = certify(model, x, path=path, update=bool(config.getoption("trm_update")), **options)
    except CertificateProblem as problem:
        _record(item, {"verdict": "stale" if "stale" in str(problem) else "invalid", "certificate": str(path)})
        pytest.fail(f"{problem}\nrenew it: {_renewal(item)}", pytrace=False)
    record = {"verdict": found.verdict.value}
    for key, value in (("rate", found.rate), ("margin", found.margin)):
        record |= {} if value is None else {key: repr(value)}
    if found.path is not None and found.digest is not None:
        record |= {"certificate": str(found.path), "sha256": found.digest}
        record["source"] = "checked" if found.stored else "proved"
    _record(item, record)
    item.add_report_section("call", "trm_verify", found.explain())
    return found


def _record(item: pytest.Item, found: dict[str, str]) -> None:
    """As properties of the test: they reach JUnit files, and the controller of pytest-xdist."""
    item.user_properties += [(_PROPERTY + key, value) for key, value in found.items()]


def _folder(config: pytest.Config) -> Path:
    return Path(config.invocation_params.dir, config.getoption("trm_certificates")).absolute()


def _file_name(nodeid: str, name: str) -> str:
    """A readable name that no other call has: the test's, and a digest of what was left out of it."""
    plain = re.sub(r"[^\w.-]+", "-", re.sub(r"\.py::|/|::", "-", nodeid)).strip("-.")
    digest = hashlib.sha256(f"{nodeid}\0{name}".encode()).hexdigest()[:10]
    label = re.sub(r"[^\w-]+", "-", name)[:20]
    return "-".join(part for part in (plain[-LONGEST_NAME:].strip("-."), label, digest) if part) + SUFFIX


def _renewal(item: pytest.Item) -> str:
    folder = item.config.getoption("trm_certificates")
    return shlex.join(["pytest", item.nodeid, "--trm-certificates", str(folder), "--trm-update"])


def _records(reporter: Any) -> list[Record]:
    """Every `certify` call of the session."""
    found: dict[str, list[Record]] = {}
    for report in (report for reports in reporter.stats.values() for report in reports):
        records: list[Record] = []
        for key, value in getattr(report, "user_properties", ()):
            if key == _PROPERTY + "verdict":
                records.append(Record(report.nodeid))
            if records and str(key).startswith(_PROPERTY):
                records[-1].found[key.removeprefix(_PROPERTY)] = value
        if len(records) > len(found.get(report.nodeid, ())):  # set-up, call and tear-down repeat what came before
            found[report.nodeid] = records
    return [record for records in found.values() for record in records]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How many are proved, refuted, unknown; the weakest rate and margin, and whose they are."""
    records = _records(terminalreporter)
    if not records:
        return
    verdicts = [record.found["verdict"] for record in records]
    counts = [f"{verdicts.count(v)} {v}" for v in ("proved", "refuted", "unknown", "stale", "invalid")]
    terminalreporter.section("certificates of recursive models")
    terminalreporter.line(", ".join(text for text in counts if not text.startswith("0 ")))
    # A rate is weak when it is large, a margin when it is small.
    for name, label, choose in (("rate", "weakest rate", max), ("margin", "weakest margin", min)):
        known = [(float(record.found[name]), record.test) for record in records if name in record.found]
        if known:
            value, test = choose(known)
            terminalreporter.line(f"{label} {_rounded(value, up=name == 'rate')} in {test}")
    stored = [record.found["source"] for record in records if "source" in record.found]
    if stored:
        folder = terminalreporter.config.getoption("trm_certificates")
        said = [f"{stored.count(s)} {w}" for s, w in (("checked", "re-checked"), ("proved", "proved and stored"))]
        terminalreporter.line(f"{', '.join(text for text in said if not text.startswith('0 '))} in {folder}")


def _rounded(value: float, up: bool) -> str:
    """Six digits, rounded so that what is printed stays a bound."""
    from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

    rounding = ROUND_CEILING if up else ROUND_FLOOR
    return str(Context(prec=6, rounding=rounding).create_decimal(Decimal(value)))
