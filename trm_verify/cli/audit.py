"""`trm-verify audit`: one inference, step by step, or in rounds that commit; or a map of where the loop ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trm_verify.cli.certify import targets, write
from trm_verify.cli.loading import Loaded, load_array, load_model, load_task_named, model_errors, region_of, writable
from trm_verify.cli.outcome import Exit, Outcome, cannot, usage

SUFFIX = ".run.trmcert.json"
FIGURES = (".png", ".pdf", ".svg")


def run(options: Any) -> Outcome:
    """Run, certify the run, and say from which step on the answer is final; where that cannot be, map the loop."""
    from trm_verify.cli.attractors import mapped

    region = region_of(options)
    loaded = load_model(options.model)
    x = _required(options, loaded)
    if options.commit is not None:
        from trm_verify.cli.commit import committed

        if region is not None or options.attractors or options.figure is not None:
            raise usage("--commit: expected no --region, --attractors or --figure beside it, found one")
        return committed(options, loaded, x)
    target, weights = targets(options.out, loaded, SUFFIX)
    figure = None if options.figure is None else Path(options.figure)
    if figure is not None:
        if figure.suffix not in FIGURES:
            raise usage(f"--figure: expected a name that ends in {', '.join(FIGURES)}, found {options.figure!r}")
        writable(figure.parent, "--figure")
    if options.attractors:
        return mapped(options, loaded, x, region, figure)
    found = _audited(options, loaded, x, region)
    if isinstance(found, Outcome):
        return found
    if isinstance(found, str):
        return mapped(options, loaded, x, region, figure, found)
    write(target, weights, found.certificate, loaded)
    if figure is not None:
        from trm_verify.report import run_figure, save_figure

        try:
            save_figure(run_figure(found), figure)
        except ModuleNotFoundError as error:
            raise usage(str(error)) from error
        except OSError as error:
            raise cannot("write the figure", error, "choose another file with --figure") from error
    residuals = [None, *map(float, found.residuals)]
    data = {
        "model": options.model, "verdict": "PROVED", "answer": list(found.answer), "final": found.final,
        "radius": found.radius, "rate": found.rate, "norm": found.norm, "settles": found.settles,
        "certificate": str(target),
        "weights_file": str(weights), "figure": None if figure is None else str(figure),
        "trace": [
            {"step": k, "residual": residuals[k], "distance": float(found.distances[k]),
             "drift": float(found.drifts[k]), "answer": None if answer is None else list(answer)}
            for k, answer in enumerate(found.answers)
        ],
    }  # fmt: skip

    def show(console: Any) -> None:
        from trm_verify.report import print_run

        print_run(console, found)
        console.out(f"certificate  {target}", highlight=False)
        if figure is not None:
            console.out(f"figure       {figure}", highlight=False)

    return Outcome(Exit.GOOD, data, show)


def _audited(options: Any, loaded: Loaded, x: Any, region: Any) -> Any:
    """A `RunResult`, the outcome UNKNOWN, or why convergence is not proved."""
    from trm_verify.api import audit, verify_fixed_point
    from trm_verify.provers.answers import NotFinal

    with model_errors(options.model):
        try:
            return audit(loaded.module, x, steps=options.steps, norm=options.norm, region=region)
        except NotFinal as error:
            reason = (
                f"no answer of this run was shown to be final ({error}); {error.remedy} (--steps, --norm); or prove "
                "the answer without a run: trm-verify certify MODEL --test-images N"
            )
        except ValueError:
            # Either the arguments do not fit, or convergence cannot be proved: only the second is a verdict.
            result: Any = verify_fixed_point(loaded.module, norm=options.norm, region=region)
            if result.convergence_steps is not None or getattr(loaded.module, "iteration", None) == "implicit":
                raise
            return str(result.explain())
    data = {"model": options.model, "verdict": "UNKNOWN", "reason": reason, "certificate": None}
    return Outcome(Exit.UNKNOWN, data, lambda console: console.out(f"UNKNOWN: {reason}", highlight=False))


def _required(options: Any, loaded: Loaded) -> Any:
    """The input that was asked for; a model that has one needs it."""
    x = one_input(options)
    if x is None and getattr(loaded.module, "input_shape", None) is not None:
        raise usage("expected --input FILE.npy or --test-image I, found neither")
    return x


def one_input(options: Any) -> Any:
    """The input that was asked for; None where none was.

    Raises:
        Failure: there is no such input, or it cannot be read.
    """
    if options.test_image is not None:
        if options.index is not None:
            raise usage("--index: expected --input FILE.npy with it, found --test-image, which is one input already")
        task = load_task_named(options.task, options.model)
        test = task.test
        if options.test_image >= len(test):
            raise usage(
                f"--test-image: expected at most {len(test) - 1} in task {task.name}, found {options.test_image}"
            )
        return test.x[options.test_image].numpy()
    if options.input is None:
        if options.index is not None:
            raise usage("--index: expected --input FILE.npy with it, a batch to take the row of, found none")
        return None
    x = load_array(options.input)
    if options.index is not None:
        if x.ndim == 0 or options.index >= len(x):
            raise usage(
                f"--index: expected a row of the {len(x) if x.ndim else 0} in {options.input!r}, found {options.index}"
            )
        return x[options.index]
    return x
