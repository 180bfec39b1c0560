"""The arguments of every command, with examples. Nothing here imports more than argparse."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from trm_verify import __version__
from trm_verify.cli.outcome import usage

EXIT_CODES = """exit codes:
  0 proved / valid      1 refuted / invalid      2 usage, missing or unreadable file      3 unknown
  4 internal error      5 nothing to check       130 interrupted
  several items: the first present of 4, 2, 1, 3, 0"""

TASK_HELP = "whose test inputs (default: the task that MODEL was trained on, of its run.json; else digits)"
MODEL_HELP = "a directory written by save_pretrained, or package.module:factory (then that module is imported)"


class Said(Exception):
    """Help or version was asked for: the text to print."""


class _Help(argparse.Action):
    """Hands the help text to the caller, which may have to print JSON."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        raise Said(parser.format_help())


class _Version(argparse.Action):
    def __call__(self, *_: object) -> None:
        raise Said(f"trm-verify {__version__}\n")


class _Parser(argparse.ArgumentParser):
    """Errors are raised, never printed: `--json` must hold for wrong arguments too."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **{**options, "add_help": False, "allow_abbrev": False})
        self.add_argument("-h", "--help", action=_Help, nargs=0, help="show this text and exit")

    def error(self, message: str) -> NoReturn:
        raise usage(f"{self.prog}: {message}; see {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    top = _Parser(
        prog="trm-verify",
        description="Train tiny recursive models, prove what their loop does, re-check the proof.",
        epilog="example:\n"
        "  trm-verify train --out out/digits\n"
        "  trm-verify certify out/digits --test-images 20\n"
        "  trm-verify check out/digits/model.trmcert.json out/digits/model.safetensors --model out/digits\n"
        '  python -I -S "$(trm-verify kernel-path)" out/digits/model.trmcert.json out/digits/model.safetensors\n\n'
        + EXIT_CODES,
    )  # fmt: skip
    top.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    for name, (summary, examples, add) in COMMANDS.items():
        text = "examples:\n" + "\n".join(f"  trm-verify {name}{' ' * bool(e)}{e}" for e in examples)
        command = commands.add_parser(
            name, help=summary, description=summary[0].upper() + summary[1:] + ".", epilog=f"{text}\n\n{EXIT_CODES}"
        )
        add(command)
        command.add_argument("--json", action="store_true", help="print exactly one JSON object on stdout")
        command.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")
    return top


def asks_for_json(argv: Sequence[str]) -> bool:
    """Whether `--json` is among arguments that may not parse."""
    return "--json" in argv


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


_count.__name__ = "whole number >= 0"


def _box(command: argparse.ArgumentParser, name: str, text: str) -> None:
    command.add_argument(f"--{name}", nargs=2, metavar=("LO", "HI"), help=text)


def _region(command: argparse.ArgumentParser, text: str) -> None:
    which = command.add_mutually_exclusive_group()
    which.add_argument("--region", nargs=2, metavar=("LO", "HI"), help=text)
    which.add_argument("--invariant-region", dest="region", action="store_const", const="invariant",
                       help="the same in a box that holds init and that the loop does not leave, which is looked "
                       "for")  # fmt: skip


def _train(command: argparse.ArgumentParser) -> None:
    command.add_argument("config", metavar="CONFIG", nargs="?",
                         help="a .json or .toml file, or the name of a recipe (default: digits; a wrong name lists "
                         "them)")  # fmt: skip
    command.add_argument("--task", help="the same as CONFIG, for the recipe of that name")
    command.add_argument("--out", metavar="DIR", help="where the bundle is written (default: out/TASK)")
    command.add_argument("--epochs", type=int, help="passes over the training split")
    command.add_argument("--batch-size", type=int, help="training inputs in one optimizer step")
    command.add_argument("--lr", type=float, help="peak learning rate")
    command.add_argument("--seed", type=int, help="of parameters, shuffling and depths; the same seed, the same model")
    command.add_argument("--state", type=int, help="size of the state z, where the model has one")
    command.add_argument("--hidden", type=int, help="activation units of the step, where the model has them")
    command.add_argument("--rho", type=float, help="rate that the step aims for, where the model has one")
    command.add_argument("--checkpoint", metavar="FILE",
                         help="receives the state of the run after each epoch; --resume reads it")  # fmt: skip
    command.add_argument("--resume", action="store_true",
                         help="go on where the run that wrote --checkpoint FILE was stopped; give the "
                         "same CONFIG and options")  # fmt: skip


def _workers(command: argparse.ArgumentParser) -> None:
    command.add_argument("--workers", type=_auto_or_count, default=None, metavar="N",
                         help="processes that share the inputs (default: auto, all cores for a long job)")  # fmt: skip
    command.add_argument("--executor", default="process", choices=("process", "ray"),
                         help="where they are: on this machine, or on a Ray cluster (default: process)")  # fmt: skip
    command.add_argument("--ledger", metavar="FILE",
                         help="notes each finished input; the same command with it goes on from there")  # fmt: skip


def _auto_or_count(text: str) -> int | None:
    if text == "auto":
        return None
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


_auto_or_count.__name__ = "auto or a whole number >= 1"


def _certify(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    which = command.add_mutually_exclusive_group()
    which.add_argument(
        "--input", metavar="FILE.npy", help="one input or a batch of them; default: the model as a whole"
    )
    which.add_argument("--test-images", metavar="N", type=_count, help="the first N test inputs of --task")
    command.add_argument("--task", help=TASK_HELP)
    command.add_argument("--eps", help="radius of the l_inf ball about each input, exact: 0.001 or 1/1024")
    command.add_argument("--answer", type=int, action="append", metavar="LABEL",
                         help="answer to prove (repeat: one per position); default: the model's own")  # fmt: skip
    command.add_argument("--norm", default="auto", choices=("auto", "linf", "l2", "parts", "tokens", "metric"),
                         help="where to look for a contraction (default: auto, the best of all)")  # fmt: skip
    _region(command, "prove it for states in this box only, with the box's invariance")
    _box(command, "domain", "further bounds on the input")
    command.add_argument("--timeout", type=float, metavar="SECONDS", help="for each input")
    command.add_argument("--budget", type=float, metavar="SECONDS", help="for the whole call")
    _workers(command)
    command.add_argument("--out", metavar="CERT", help="where the certificate goes (default: beside the weights)")
    command.add_argument("--force", action="store_true",
                         help="replace a certificate of these weights even if it proves more")  # fmt: skip


def _curve(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    command.add_argument("--task", help=TASK_HELP)
    command.add_argument("--test-images", metavar="N", type=_count, default=20, help="the first N (default: 20)")
    command.add_argument("--eps", nargs="+", required=True, metavar="EPS", help="radii of the l_inf balls, exact")
    command.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="for each input (default: 60)")
    _workers(command)
    command.add_argument("--figure", metavar="FILE", help="receives the figure (.png, .pdf or .svg)")


def _check(command: argparse.ArgumentParser) -> None:
    command.add_argument("certificate", metavar="CERT", nargs="?",
                         help="a .trmcert.json file, or a directory: every one in it")  # fmt: skip
    command.add_argument("weights", metavar="WEIGHTS", nargs="?",
                         help="the .safetensors file (default: the one of that name beside CERT)")  # fmt: skip
    command.add_argument("--bundle", metavar="FILE", help="a .trmbundle instead: signature, digests, then proof")
    command.add_argument("--key", metavar="PUBLIC.pem", help="the key that must have signed the bundle")
    command.add_argument("--signature", metavar="FILE", help="of the bundle (default: FILE.sig beside it)")
    command.add_argument("--expect", metavar="CLAIM", action="append", default=[], help="a claim that must be proved")
    command.add_argument("--model", metavar="MODEL", help="must have this graph and these weights: " + MODEL_HELP)


def _ci(command: argparse.ArgumentParser) -> None:
    command.add_argument("paths", metavar="PATH", nargs="*",
                         help="folders, certificates, weights, or package.module:factory (default: .)")  # fmt: skip
    command.add_argument("--check", action="store_true", help="prove nothing: a missing certificate is unknown")
    command.add_argument("--expect", metavar="CLAIM", action="append", default=[],
                         help="a claim that every certificate must prove")  # fmt: skip
    command.add_argument("--cache", metavar="DIR", help="remembers verdicts and certificates, by digests")
    command.add_argument("--summary", metavar="FILE", help="receives, at its end, a Markdown summary")
    command.add_argument("--norm", default="auto", choices=("auto", "linf", "l2", "parts", "tokens", "metric"),
                         help="where to look for a contraction (default: auto, the best of all)")  # fmt: skip
    command.add_argument("--timeout", type=float, metavar="SECONDS", help="for each model that is certified")


def _show(command: argparse.ArgumentParser) -> None:
    command.add_argument("certificate", metavar="CERT", help="a .trmcert.json file")
    command.add_argument("weights", metavar="WEIGHTS", nargs="?",
                         help="the .safetensors file (default: the one of that name beside CERT)")  # fmt: skip


def _audit(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    which = command.add_mutually_exclusive_group()
    which.add_argument("--input", metavar="FILE.npy", help="one input, or a batch and --index")
    which.add_argument("--test-image", metavar="I", type=_count, help="test input number I of --task")
    command.add_argument("--index", metavar="I", type=_count, help="of a batch in --input: its row number, from 0")
    command.add_argument("--task", help=TASK_HELP)
    command.add_argument("--attractors", action="store_true",
                         help="map where many starts end; also done where convergence is not proved")  # fmt: skip
    command.add_argument("--commit", metavar="THRESHOLD", type=float,
                         help="prove the rounds that fill in open cells whose largest logit leads by it")  # fmt: skip
    command.add_argument("--blank", metavar="C", type=_count, default=0,
                         help="with --commit, the input channel of open cells (default: 0)")  # fmt: skip
    command.add_argument("--steps", type=int, help="steps to run (default: 30, or as many as a loop that settles "
                         "exactly needs; with --attractors 2000; with --commit the least that can be "
                         "proved)")  # fmt: skip
    command.add_argument("--starts", type=int, default=256, help="how many starts a map follows (default: 256)")
    command.add_argument("--seed", type=int, default=0, help="of the random starts of a map (default: 0)")
    command.add_argument("--norm", default="auto", choices=("auto", "linf", "l2", "parts", "tokens", "metric"),
                         help="where to look for a contraction (default: auto, the best of all)")  # fmt: skip
    _region(command, "for models that contract in this box of states only; the starts of a map lie in it")
    command.add_argument("--out", metavar="CERT", help="where the run certificate goes (default: beside the weights)")
    command.add_argument("--figure", metavar="FILE", help="save a figure of the run or the map (.png, .pdf or .svg)")


def _refute(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    which = command.add_mutually_exclusive_group()
    which.add_argument("--input", metavar="FILE.npy", help="one input, or a batch and --index; default: any input")
    which.add_argument("--test-image", metavar="I", type=_count, help="test input number I of --task")
    command.add_argument("--index", metavar="I", type=_count, help="of a batch in --input: its row number, from 0")
    command.add_argument("--task", help=TASK_HELP)
    command.add_argument("--eps", help="radius of the l_inf ball about the input, exact: 0.001 or 1/1024")
    command.add_argument("--norm", choices=("linf", "l2", "parts", "tokens"),
                         help="refute a contraction in this norm, with equal weights, as well")  # fmt: skip
    command.add_argument("--rate", help="at this rate, exact (default: at any rate below 1)")
    _region(command, "states in this box only")
    _box(command, "domain", "further bounds on the input")
    command.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="of the search (default: 60)")
    command.add_argument("--seed", type=int, default=0, help="of the starts (default: 0)")
    command.add_argument("--out", metavar="CERT", help="where the certificate goes (default: beside the weights)")


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise ValueError(text)
    return value


_seconds.__name__ = "number of seconds > 0"


def _obligations(command: argparse.ArgumentParser) -> None:
    command.add_argument("certificate", metavar="CERT", help="a .trmcert.json file, or a directory: every one in it")
    command.add_argument("weights", metavar="WEIGHTS", nargs="?",
                         help="the .safetensors file (default: the one of that name beside CERT)")  # fmt: skip
    command.add_argument("--out", metavar="DIR", required=True, help="where the scripts and index.json go")
    command.add_argument("--check", action="store_true", help="have solvers answer the scripts")
    command.add_argument("--solver", choices=("z3", "cvc5"), action="append",
                         help="which solver (repeat for both; default: all that are installed)")  # fmt: skip
    command.add_argument("--timeout", type=_seconds, metavar="S", help="seconds a script and solver (default: 30)")


def _report(command: argparse.ArgumentParser) -> None:
    command.add_argument("directory", metavar="DIR", help="a model directory with its certificates")
    command.add_argument("--out", metavar="FILE.html", help="where the page goes (default: DIR/report.html)")


def _bundle(command: argparse.ArgumentParser) -> None:
    command.add_argument("directory", metavar="DIR", help="a model directory with its certificates")
    command.add_argument("--out", metavar="FILE", help="where the bundle goes (default: DIR/model.trmbundle)")
    command.add_argument("--key", metavar="PRIVATE.pem", help="sign it with this elliptic-curve key, into FILE.sig")


def _onnx(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    command.add_argument("--out", metavar="DIR", required=True, help="where the files go")
    command.add_argument("--steps", metavar="K", type=_count, help="also unrolled.onnx: init, K steps, readout")
    command.add_argument("--tolerance", type=float, default=1e-4,
                         help="largest difference from the exact graph (default: 1e-4)")  # fmt: skip


def _vnnlib(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    command.add_argument("spec", metavar="SPEC", help="a .vnnlib file: X is the input, Y the logits")
    command.add_argument("--norm", default="auto", choices=("auto", "linf", "l2", "parts", "tokens", "metric"),
                         help="where to look for a contraction (default: auto, the best of all)")  # fmt: skip
    command.add_argument("--timeout", type=_seconds, metavar="S", help="seconds in all")
    command.add_argument("--out", metavar="DIR", help="receives the certificates")
    command.add_argument("--check", metavar="CERT", nargs="+", help="search nothing: do these certificates answer it?")
    command.add_argument("--result", metavar="FILE", help="receives unsat, sat with its counterexample, or unknown")


def _queries(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    which = command.add_mutually_exclusive_group()
    which.add_argument("--input", metavar="FILE.npy", help="one input or a batch of them")
    which.add_argument("--test-images", metavar="N", type=_count, help="the first N test inputs of --task")
    command.add_argument("--task", help=TASK_HELP)
    command.add_argument("--eps", help="radius of the l_inf ball about each input, exact: 0.001 or 1/1024")
    command.add_argument("--steps", metavar="K", type=_count, required=True,
                         help="steps that the written network takes from the start state; asked is the "
                         "answer after exactly K")  # fmt: skip
    command.add_argument("--timeout", type=int, default=60, metavar="S", help="seconds for a query (default: 60)")
    command.add_argument("--out", metavar="DIR", required=True, help="where onnx/, vnnlib/ and instances.csv go")


def _kernel_path(command: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


COMMANDS: dict[str, tuple[str, tuple[str, ...], Callable[[argparse.ArgumentParser], None]]] = {
    "train": (
        "train a model, save it, and certify what was trained",
        ("", "sudoku --out out/sudoku --seed 1", "mine.toml --checkpoint run.safetensors --resume"), _train,
    ),
    "certify": (
        "prove what the model's loop does, and write the certificate",
        ("out/digits", "out/digits --test-images 20 --eps 1/1024", "out/digits --input x.npy --norm l2 --json",
         "out/digits --test-images 300 --workers auto --ledger out/job.jsonl",
         "mypackage.mymodel:make --region -1 1 --out out/mine.trmcert.json"), _certify,
    ),
    "curve": (
        "certified accuracy against the radius of the ball",
        ("out/digits --eps 0.002 0.005 0.01 --test-images 50 --figure accuracy.png",), _curve,
    ),
    "check": (
        "re-check certificates with the isolated kernel",
        ("out/digits", "model.trmcert.json model.safetensors --expect 'contraction(rate<=0.9,norm=l2)'",
         "model.trmcert.json model.safetensors --model out/digits",
         "--bundle digits.trmbundle --key signing.pub"), _check,
    ),
    "ci": (
        "certify the saved models that have no certificate, re-check all others",
        ("", "models --cache .cache/trm --expect 'contraction(rate<=0.9)'", "--check models --summary summary.md",
         "mypackage.mymodel:make"), _ci,
    ),
    "show": (
        "say what a certificate states and how it is proved, after checking it (exit 3 if there are no weights)",
        ("out/digits/model.trmcert.json", "model.trmcert.json model.safetensors --json"), _show,
    ),
    "audit": (
        "run one inference and say, step by step, how far it still is and what is final",
        ("out/digits --test-image 3", "out/sudoku --test-image 0 --task sudoku --commit 0.5",
         "out/digits --input x.npy --steps 60 --figure run.png",
         "mypackage.mymodel:make --attractors --region -1 1 --figure map.png"), _audit,
    ),
    "refute": (
        "look for exact reasons why a loop does not settle, and certify them (exit 1 if there are any, else 3)",
        ("out/digits", "out/digits --test-image 3 --norm linf --rate 0.9",
         "mypackage.mymodel:make --region 0 1 --out out/mine.refutation.trmcert.json"), _refute,
    ),
    "obligations": (
        "write the side conditions of a certificate as SMT-LIB 2 scripts, for z3, cvc5 or any other solver",
        ("model.trmcert.json model.safetensors --out out/smt2", "certificates/good --out out/smt2 --check",
         "model.trmcert.json --out out/smt2 --check --solver z3 --timeout 60 --json"), _obligations,
    ),
    "report": (
        "write one self-contained HTML page about a model and what is proved of it",
        ("out/digits", "out/digits --out report.html --json"), _report,
    ),
    "bundle": (
        "pack weights, configuration, certificates and report into one file, and sign it",
        ("out/digits", "out/digits --out digits.trmbundle --key signing.key"), _bundle,
    ),
    "onnx": (
        "write the certified step, init and readout as ONNX files, checked under onnxruntime",
        ("out/digits --out out/onnx", "out/digits --out out/onnx --steps 30 --json"), _onnx,
    ),
    "vnnlib": (
        "answer a VNN-LIB query about the outputs that stay: unsat, sat, unknown or timeout",
        ("out/digits query.vnnlib", "out/digits query.vnnlib --timeout 60 --result result.txt --out out/proofs",
         "out/digits query.vnnlib --check out/proofs/query.trmcert.json"), _vnnlib,
    ),
    "queries": (
        "write unrolled ONNX and VNN-LIB files that ask other verifiers about the answer",
        ("out/digits --test-images 10 --eps 1/1024 --steps 30 --out out/queries",), _queries,
    ),
    "kernel-path": (
        "print where the kernel is, as one file that needs only Python",
        ("",), _kernel_path,
    ),
}  # fmt: skip
