"""What commands read: models, inputs, exact numbers; and the errors of reading them, one line each."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trm_verify.cli.outcome import Exit, Failure, cannot, usage
from trm_verify.naming import WEIGHTS

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from trm_verify.box import Box
    from trm_verify.export import Exported
    from trm_verify.tasks import Task

_FACTORY = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def is_factory(text: str) -> bool:
    """Whether a MODEL is spelled `package.module:factory`."""
    return _FACTORY.fullmatch(text) is not None


@dataclass(frozen=True)
class Loaded:
    """A model, and the weights file that a certificate of it would be about (None: it has no file yet)."""

    module: nn.Module
    name: str
    weights: Path | None


def exported(module: nn.Module) -> Exported:
    """The exact graph and tensors that a certificate of this model is about."""
    from trm_verify.export import export
    from trm_verify.models import ConfiguredModel

    return export(module.bake() if isinstance(module, ConfiguredModel) else module)


@contextmanager
def model_errors(what: str) -> Iterator[None]:
    """Turns what the library says about unusable models and arguments into the exit codes of the command line."""
    from trm_verify.export import ExportError, NonFiniteWeights
    from trm_verify.kernel.errors import CheckError
    from trm_verify.pretrained import PretrainedError

    try:
        yield
    except (PretrainedError, NonFiniteWeights) as error:
        raise Failure(Exit.INVALID, str(error)) from error
    except ExportError as error:
        raise usage(f"{what} cannot be exported exactly: {error}") from error
    except ValueError as error:
        raise usage(f"{what}: {error}") from error
    except ModuleNotFoundError as error:  # an optional package, or one that the model needs
        raise usage(str(error)) from error
    except CheckError as error:
        raise RuntimeError(f"the kernel rejected what the prover wrote: {error}") from error


def load_model(text: str) -> Loaded:
    """A saved model, or what a factory returns.

    Raises:
        Failure: no such model, or files that cannot be used.
    """
    source = Path(text)
    if source.is_dir():
        from trm_verify.pretrained import from_pretrained

        try:
            with model_errors("the model"):
                return Loaded(from_pretrained(source), "model", source / WEIGHTS)
        except OSError as error:
            raise cannot("read the saved model's", error, "write one with trm-verify train --out DIR") from error
    if source.exists() or not is_factory(text):
        found = "a file" if source.exists() else "no such directory"
        raise usage(
            f"expected MODEL to be a directory written by save_pretrained or package.module:factory, found {found} "
            f"{text!r}; write one with trm-verify train --out DIR"
        )
    module, name = text.split(":")
    return Loaded(_made(module, name), name, None)


def _made(module: str, name: str) -> nn.Module:
    from torch import nn

    if "" not in sys.path:
        sys.path.append("")  # the current directory, last: it cannot replace an installed module
    try:
        made: Any = getattr(import_module(module), name)
        if not isinstance(made, nn.Module):
            made = made()
    except Exception as error:  # the user's own code, which can raise anything
        raise usage(
            f"expected {module}:{name} to give a model, found {type(error).__name__}: {error}; it has to be importable "
            "from here and callable without arguments"
        ) from error
    if not isinstance(made, nn.Module):
        raise usage(
            f"expected {module}:{name} to return a torch.nn.Module, found {type(made).__name__}; see tv.recursive"
        )
    return made


def load_array(text: str) -> np.ndarray:
    """The array of a .npy file.

    Raises:
        Failure: a missing file, or another kind of file.
    """
    import numpy as np

    try:
        array = np.load(text, allow_pickle=False)
    except OSError as error:
        raise cannot("read the input file", error, "write it with numpy.save") from error
    except Exception as error:  # numpy raises whatever its parsers do on a broken header
        raise usage(f"expected a .npy file with one array of numbers in {text!r}, found: {error}") from error
    if not isinstance(array, np.ndarray):
        raise usage(f"expected a .npy file with one array in {text!r}, found an archive of several")
    return array


def load_task_named(name: str | None, model: str) -> Task:
    """A task by name; without one, that of the run which trained the model, at the size it was deployed at, or digits.

    Raises:
        Failure: no such task, the data it needs are not installed, or a record of a run that is none.
    """
    from trm_verify.tasks import load_task
    from trm_verify.train.config import recorded

    try:
        config = recorded(Path(model)) if name is None else None
        if config is None:
            return load_task(name or "digits")
        task = config.load()
        return task if config.size in (None, task.difficulty) else task.at(config.size)
    except OSError as error:
        raise cannot("read the record of the training run", error, "name the task with --task") from error
    except ModuleNotFoundError as error:
        raise usage(str(error)) from error
    except ValueError as error:
        raise usage(f"{error}; name the task with --task" if name is None else str(error)) from error


def region_of(options: Any) -> Any:
    """What `--region` or `--invariant-region` says, as the calls take it."""
    return options.region if isinstance(options.region, str) else box(options.region, "region")


def box(ends: list[str] | None, what: str) -> Box | None:
    """`--domain LO HI` as a box, its ends exact.

    Raises:
        Failure: no numbers, or an inverted box.
    """
    if ends is None:
        return None
    from trm_verify.box import Box

    try:
        return Box(*ends)
    except ValueError as error:
        raise usage(f"--{what}: {error}") from error


def writable(folder: Path, flag: str) -> None:
    """Refuse, before any work, a folder that the result could not be written to.

    Raises:
        Failure: the folder cannot be made or written.
    """
    import tempfile

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        failure = cannot("write to the folder", error, f"choose another with {flag}")
        raise usage(failure.message if error.filename else f"{failure.message} ({folder})") from error
