"""The code blocks of a Markdown page, and what running them means.

A fence says by its language what happens to it:

| fence | what the tests do |
|---|---|
| `python` | run, in order, in the one namespace of the page; what it prints must be the `text` block right below it |
| `bash` | run by bash in the page's folder, with this checkout's `trm-verify`; must exit 0 and print the `text` below |
| any of `python`, `toml`, `yaml`, `json` with `title="FILE"` | written to that file of the folder, for later blocks |
| `sh` | shown, not run: every line must be a command that exists, with arguments that parse |
| `yaml`, `toml`, `json` | data: must parse |
| `text` | the output of the block right above it, or data |

A page runs in an empty folder that holds links to `certificates`, `docs` and `examples`. Tests that it defines are run
at its end; one that takes fixtures belongs to a file with a title, for pytest to run.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import invalidate_caches
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

import torch
import yaml
from markdown_it import MarkdownIt

from trm_verify.cli.arguments import parser

ROOT = Path(__file__).resolve().parents[2]
DATA = {"yaml": yaml.safe_load, "toml": tomllib.loads, "json": json.loads}
LANGUAGES = {"python", "bash", "sh", "text", *DATA}
TITLE = re.compile(r'title="(?P<name>[\w.-]+)"')


class PageError(AssertionError):
    """A block does not do what the page says."""


@dataclass(frozen=True)
class Block:
    """One code block.

    Attributes:
        page: its file. line: of the first line of code. language: of the fence; "" for an indented block.
        title: the file that it is written to, or "". code: its text. shown: the output below it, or None.
    """

    page: Path
    line: int
    language: str
    title: str
    code: str
    shown: str | None = None

    def error(self, message: str) -> PageError:
        return PageError(f"{self.page.relative_to(ROOT)}:{self.line}: {message}")


def pages() -> list[Path]:
    """Every page that people read."""
    found = [ROOT / name for name in ("README.md", "TRUST.md", "CHANGELOG.md", "certificates/README.md")]
    return found + sorted([*ROOT.glob("docs/**/*.md"), *ROOT.glob("proofs/**/*.md")])


def blocks(page: Path, markdown: str | None = None) -> list[Block]:
    """The blocks of a page, in order; a `text` block right below one that runs is that block's output.

    Raises:
        PageError: a fence without one of the languages above, or an indented block in a page of docs/, which says
            nothing about what it is.
    """
    tokens = MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8") if markdown is None else markdown)
    found: list[Block] = []
    previous = None
    for token in tokens:
        if token.type in ("fence", "code_block"):
            language, _, rest = token.info.strip().partition(" ")
            title = TITLE.fullmatch(rest.strip()) if rest else None
            line = (token.map or [0])[0] + (2 if token.type == "fence" else 1)
            block = Block(page, line, language, title["name"] if title else "", token.content)
            if token.type == "code_block" and page.is_relative_to(ROOT / "docs"):
                raise block.error("expected a fence that says what the block is, found an indented block")
            if token.type == "fence" and (language not in LANGUAGES or (rest and not title)):
                raise block.error(f"expected a fence of {', '.join(sorted(LANGUAGES))}, found {token.info!r}")
            runs = previous is not None and previous.language in ("python", "bash") and not previous.title
            if language == "text" and previous is not None and runs:
                found[-1] = Block(**{**vars(previous), "shown": token.content})
                previous = None
                continue
            found.append(block)
            previous = block
        else:
            previous = None
    return found


def run(page: Path, folder: Path, markdown: str | None = None) -> None:
    """Run a page in an empty folder, which becomes the current directory meanwhile.

    Raises:
        PageError: names the page and the line.
    """
    for name in ("certificates", "docs", "examples"):
        (folder / name).symlink_to(ROOT / name)
    namespace: dict[str, Any] = {"__name__": "page"}
    with contextlib.chdir(folder), _own_modules(folder), _same_torch():
        found = blocks(page, markdown)
        for block in found:
            _run(block, namespace)
        for name, value in namespace.items():
            if name.startswith("test_") and callable(value):
                _test(found[-1], name, value)


@contextlib.contextmanager
def _own_modules(folder: Path) -> Iterator[None]:
    """Files that a page writes can be imported by it, and by nobody after it."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(str(folder) + os.sep):
                del sys.modules[name]


@contextlib.contextmanager
def _same_torch() -> Iterator[None]:
    """What a page sets up in torch ends with the page."""
    dtype = torch.get_default_dtype()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_default_dtype(dtype)


def _run(block: Block, namespace: dict[str, Any]) -> None:
    if block.language in DATA:
        _parse(block)
    if block.title:
        Path(block.title).write_text(block.code, encoding="utf-8")
        invalidate_caches()
    elif block.language == "python":
        _compare(block, _python(block, namespace))
    elif block.language == "bash":
        _compare(block, _bash(block))
    elif block.language == "sh":
        for line in _commands(block.code):
            _known(block, line)
    elif not block.language:
        for line in _commands(block.code):
            if line.startswith("trm-verify "):
                _known(block, line)


def _test(last: Block, name: str, test: Callable[[], object]) -> None:
    if signature(test).parameters:
        raise last.error(f"{name}: expected a test without fixtures, or one in a file with a title, for pytest")
    test()


def _parse(block: Block) -> None:
    try:
        DATA[block.language](block.code)
    except (yaml.YAMLError, ValueError) as error:
        raise block.error(f"expected {block.language}, found: {error}") from error


def _python(block: Block, namespace: dict[str, Any]) -> str:
    printed = io.StringIO()
    # Line numbers of the page, so that a traceback leads there.
    code = "\n" * (block.line - 1) + block.code
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(code, str(block.page), "exec"), namespace)
    except Exception as error:
        raise block.error(f"expected code that runs, found {type(error).__name__}: {error}") from error
    return printed.getvalue()


def _bash(block: Block) -> str:
    shim = Path(".bin")
    if not shim.exists():
        shim.mkdir()
        # Not a link: an interpreter finds its packages by the place it is called from.
        for name, command in (("trm-verify", "-m trm_verify.cli"), ("python", "")):
            (shim / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
            (shim / name).chmod(0o755)
    environment = {
        **os.environ, "PATH": f"{shim.resolve()}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
        "COLUMNS": "100",
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.code], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise block.error(f"expected exit 0, found {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def _compare(block: Block, printed: str) -> None:
    if block.shown is None and printed and block.language == "python":
        raise block.error(f"expected a text block below with what it prints:\n{printed}")
    if block.shown is not None and printed != block.shown:
        raise block.error(f"the page shows\n{block.shown}\nand the block prints\n{printed}")


def _commands(code: str) -> list[str]:
    """The lines of a shell block, continued lines joined, without comments."""
    lines = (line.strip() for line in code.replace("\\\n", " ").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


@cache
def _extras() -> frozenset[str]:
    return frozenset(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])


def _known(block: Block, line: str) -> None:
    """A command that is shown: it exists, and takes these arguments."""
    words = shlex.split(line, comments=True)
    if not words:
        raise block.error(f"expected a command, found {line!r}")
    program, arguments = words[0], words[1:]
    # The words of the command itself: what comes after a pipe or a redirection is the shell's.
    ends = [i for i, word in enumerate(arguments) if word in ("|", ">", ">>", "||", "&&", ";")]
    arguments = arguments[: ends[0]] if ends else arguments
    if program == "trm-verify":
        try:
            parser().parse_args(arguments)
        except Exception as error:
            raise block.error(f"{line}: {error}") from error
    elif program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        targets = [word for word in arguments if "=" not in word]
        if missing := [t for t in targets if not re.search(rf"^{re.escape(t)}:", makefile, re.MULTILINE)]:
            raise block.error(f"expected targets of the Makefile, found {', '.join(missing)}")
    elif program == "pip":
        named = {e for word in arguments for e in re.findall(r"trm-verify\[(.*?)\]", word)}
        if unknown := {e for extras in named for e in extras.split(",")} - _extras():
            raise block.error(f"expected extras of pyproject.toml, found {', '.join(sorted(unknown))}")
    elif program == "python":
        _script(block, arguments)
    elif program not in ("pytest", "git", "openssl", "z3", "model_signing", "pre-commit"):
        raise block.error(f"expected a command that the tests know (see tests/docs/blocks.py), found {program!r}")


def _script(block: Block, arguments: list[str]) -> None:
    """`python -m MODULE`, `python FILE` or `python … "$(trm-verify kernel-path)"`."""
    words = [word for word in arguments if word not in ("-I", "-S", "-E")]
    if words[:1] == ["-m"]:
        good = find_spec(words[1]) is not None
    else:
        good = words[0] == "$(trm-verify kernel-path)" or (ROOT / words[0]).is_file()
    if not good:
        raise block.error(f"expected a module or a file of the repository, found {' '.join(words[:2])}")
