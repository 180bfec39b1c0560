"""`trm-verify train`."""

from __future__ import annotations

from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trm_verify.cli.loading import model_errors, writable
from trm_verify.cli.outcome import Exit, Outcome, cannot, usage

if TYPE_CHECKING:
    from trm_verify.train.config import RunConfig

_MODEL = ("state", "hidden", "rho")
_SETTINGS = ("epochs", "batch_size", "lr", "seed")


def run(options: Any) -> Outcome:
    """Train a model, save it, certify it."""
    from trm_verify.train.run import run as whole_run

    if options.resume and options.checkpoint is None:
        raise usage("--resume: expected --checkpoint FILE with it, the state of the run to go on with, found none")
    config = chosen(options)
    out = Path(options.out or Path("out", config.task))
    writable(out, "--out")
    with model_errors("train"):
        try:
            done = whole_run(
                config, out, progress=not options.quiet, checkpoint=options.checkpoint, resume=options.resume
            )
        except OSError as error:
            raise cannot("read or write", error, "choose another --out or --checkpoint") from error
        except ModuleNotFoundError as error:
            raise usage(str(error)) from error
        except FloatingPointError as error:
            raise usage(f"{error}; choose a smaller --lr than {config.settings.lr}") from error
    report = done.report
    data = {
        "task": config.task, "saved": str(out) if report else None,
        "weights": str(out / "model.safetensors") if report else None, **report,
        "interrupted": done.trained.interrupted, "epochs": len(done.trained.history),
    }  # fmt: skip

    def show(console: Any) -> None:
        from trm_verify.report import fields

        lines = {"saved": str(out) if report else "nothing"}
        if report:
            lines |= {
                "task": f"{config.task}, {config.model} with {report['parameters']} parameters",
                "best epoch": f"{report['best_epoch']} of {report['epochs']}"
                + (" (interrupted)" if report["interrupted"] else ""),
            }
        if done.metrics is not None:
            reached = ", ".join(f"{value:.4g} after {k}" for k, value in done.metrics.items())
            lines["test"] = f"{reached} steps (baseline: {report['baseline']:.4g})"
        if done.whole is not None:
            rate = "" if done.whole.rate is None else f", rate <= {done.whole.rate:.6g} in {done.whole.norm}"
            lines["loop"] = f"{done.whole.verdict}{rate} (real arithmetic; float32 rounding not covered)"
        if done.answers is not None:
            lines["answers"] = f"{sum(map(bool, done.answers))} of {len(done.answers)} test inputs PROVED"
        console.print(fields(lines))
        if report:
            console.out(f"next: trm-verify check {out}", highlight=False)

    return Outcome(Exit.INTERRUPTED if done.trained.interrupted else Exit.GOOD, data, show)


def chosen(options: Any) -> RunConfig:
    """The configuration that was named, with what the other options change in it.

    Raises:
        Failure: no such file or recipe, or options that do not fit it.
    """
    from trm_verify.models import MODELS
    from trm_verify.train.config import read
    from trm_verify.train.recipes import RECIPES, recipe

    if options.config is not None and options.task is not None:
        raise usage("expected CONFIG or --task, found both; a configuration names its task")
    name = options.config or options.task or "digits"
    try:
        config = recipe(name) if name in RECIPES or options.config is None else read(Path(name))
        settings = {key: getattr(options, key) for key in _SETTINGS if getattr(options, key) is not None}
        config = replace(config, settings=replace(config.settings, **settings))
    except OSError as error:
        known = ", ".join(sorted(RECIPES))
        raise cannot("read the configuration", error, f"name a .json or .toml file, or a recipe: {known}") from error
    except ValueError as error:
        raise usage(f"train: {error}") from error
    model = {key: getattr(options, key) for key in _MODEL if getattr(options, key) is not None}
    unknown = sorted(model.keys() - signature(MODELS[config.model]).parameters.keys())
    if unknown:
        raise usage(f"expected options of {config.model}, found --{' and --'.join(unknown)}, which it does not have")
    return replace(config, model_options={**config.model_options, **model})
