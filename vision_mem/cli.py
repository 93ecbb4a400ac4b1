"""The ``vision-mem`` command: a table of pipelines, loaded by name when one is called.

Nothing heavy is imported here, so that help and typing errors answer at once. Errors made on
purpose become one line on standard error; log lines and tracebacks come with ``-v``.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import typer

from vision_mem._version import __version__
from vision_mem.errors import InputError, VisionMemError
from vision_mem.text import PrintableStream, one_line, short, trimmed

log = logging.getLogger("vision_mem")

COMMANDS = {
    "track": "Follow objects through a video, image folder, camera or stream.",
    "mots": "Find, segment and follow everything in a video, image folder, camera or stream.",
    "ask": "Watch videos, image folders, cameras or streams, and answer questions about them.",
    "navigate": "Keep a map of places and things, ask where they are and how to get there.",
    "reconstruct": "Rebuild a moving scene in 3D from a depth camera: what stays, and what moves.",
    "watch": "Follow, ask, rebuild and map one stream in one reading, under one budget.",
    "studio": "Open a page on live streams and files: click on things, correct, ask, take home.",
    "mcp": "Serve memories, maps and streams to agents, by the Model Context Protocol.",
    "batch": "Run track, mots, ask or reconstruct on many videos, on processes or a cluster.",
    "fleet": "Follow what many cameras show at once, with fair shares of one copy of the weights.",
    "export": "Write a model as graphs that run without its framework, with its memory as inputs.",
    "demo": "Generate a clip, follow an object through it, and say how well that went.",
    "eval": "Run a tracker on a benchmark: result files, scores, what its server wants.",
    "score": "Score result files of any tracker on a benchmark, several trackers side by side.",
    "doctor": "Say what works on this machine: versions, devices, codecs, what is missing.",
}
"""Command to what it does; see ``module_of``."""

OLD_WORDS: dict[str, dict[str, str]] = {
    "eval": {"--limit": "--max-sequences"},
    "navigate build": {"--find-poses": "--track-poses"},
    "navigate demo": {"--frames": "--max-frames"},
    "navigate follow": {"--limit": "--max-steps"},
    "navigate recall": {"--limit": "--max-results"},
}
"""Command, or two words of one, to its options that were renamed; they work for one version."""

_COMPLETES = "_VISION_MEM_COMPLETE"
"""Set by the shell when it wants words that go on a line; Typer reads the line and answers."""

_ABOUT = """Memory for video streams.

Follow objects through files, cameras and network streams, for as long as they run, in memory
that does not grow. `vision-mem COMMAND --help` explains a command.
"""
_VERBOSE = "-v, -vv: log lines and tracebacks; may stand anywhere."


def module_of(command: str) -> str:
    """Name of the module that has a command's ``main``, or the ``app`` of its own commands."""
    return f"vision_mem.pipelines.{'evaluate' if command == 'eval' else command}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        argv: words after the program's name; those of the process when left out.

    Returns:
        The exit code: 0 done, 1 a run that failed, 2 wrong use, 130 stopped by Ctrl-C.
    """
    _open_closed_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    verbose = sum(len(word) - 1 for word in words if word in ("-v", "-vv"))
    verbose += words.count("--verbose")
    words = [word for word in words if word not in ("-v", "-vv", "--verbose")]
    streams = sys.stdout, sys.stderr
    if _COMPLETES not in os.environ:
        # Names of files, objects and classes come from strangers, and end up on a terminal.
        clean: Any = map(PrintableStream, streams)
        sys.stdout, sys.stderr = clean
    try:
        return _run(_renewed(words), verbose)
    finally:
        sys.stdout, sys.stderr = streams


def _run(words: list[str], verbose: int) -> int:
    _set_up_logging(verbose, runs=words[:1] != [] and words[0] in _RUNS)
    try:
        code = _dispatch(words)
        sys.stdout.flush()  # a full disk behind it shows itself here, not after the last line
        _tell_held(code)
        return code
    except KeyboardInterrupt:
        return _report("stopped", 130, verbose)
    except BrokenPipeError:
        # The reader of our output went away (`| head`); there is nobody left to tell.
        _silence_output()
        return 1
    except VisionMemError as error:
        return _report(str(error), error.exit_code, verbose)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
            _silence_output()
            text = "standard output cannot be written (no space left); results so far are kept"
            return _report(text, 1, verbose)
        if isinstance(error, OSError) and error.errno in _NO_PLACE and error.filename is not None:
            said = f"{short(str(error.filename), 200)} cannot be used: {error.strerror}"
            return _report(f"{said}; check the path", InputError.exit_code, verbose)
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # Typer's own
            return _report(_typing_slip(error), int(error.exit_code), verbose)
        text = f"{type(error).__name__}: {error}"[:500]
        # Settings are loaded by then, if anything of the user's own is.
        settings = sys.modules.get("vision_mem.config")
        named = settings.blamed(error, text) if settings else text
        text = f"unexpected {named}" if named.startswith(text) else named
        return _report(f"{text} (add -v for where it happened)", 1, verbose)


_NO_PLACE = (
    errno.EACCES, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.ENXIO,
    errno.EPERM, errno.EROFS,
)  # fmt: skip
"""What the system says of a file that was named, and can be none."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _silence_output() -> None:
    """Let what is still to be printed go nowhere, instead of failing again at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_closed_streams() -> None:
    """Fill closed streams (``>&- 2>&-``): the next file would get their number, and our words."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w" if number else "r"))  # noqa: SIM115


def _renewed(words: list[str]) -> list[str]:
    """The words with old options in their new spelling, and a line for each on standard error."""
    end = words.index("--") if "--" in words else len(words)
    for command, renamed in OLD_WORDS.items():
        if words[: len(command.split())] != command.split():
            continue
        for place, word in enumerate(words[:end]):
            old, equals, value = word.partition("=")
            if old in renamed:
                words[place] = f"{renamed[old]}{equals}{value}"
                text = f"note: {old} is now {renamed[old]} and goes away in 0.3"
                print(text, file=sys.stderr)
    return words


def _dispatch(words: list[str]) -> int:
    program = "vision-mem"
    if _COMPLETES in os.environ:
        # Rich would take longer to load than all the rest; help is plain text here anyway.
        sys.modules["rich"] = None  # type: ignore[assignment]
        typed = os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS", "")
        app = _front_page(*typed.split()[1:2])
    elif words and words[0] in COMMANDS:
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        program, inner = f"{program} {words[0]}", _add_command(app, words[0])
        app, words = inner or app, words[1:] or (["--help"] if inner else [])
    else:
        app, words = _front_page(), words or ["--help"]
    code = app(args=words, prog_name=program, standalone_mode=False)
    return code if isinstance(code, int) else 0


def _add_command(app: typer.Typer, name: str) -> typer.Typer | None:
    """Load a command and add it; commands with commands of their own are given back."""
    module = import_module(module_of(name))
    if hasattr(module, "app"):
        app.add_typer(module.app, name=name)
        return module.app  # type: ignore[no-any-return]
    options = import_module("vision_mem.pipelines.options")
    kind = getattr(module, "COMMAND", options.GroupedCommand)
    app.command(name, cls=kind)(options.grouped(module.main))
    return None


def _front_page(real: str = "") -> typer.Typer:
    """What answers ``--help``, ``--version``, misspelled commands and completion.

    Args:
        real: a command that is there with its options; of the others there are just the names.
    """
    app = typer.Typer(rich_markup_mode=None)

    def say_version(wanted: bool) -> None:
        if wanted:
            print(f"vision-mem {__version__}")
            raise typer.Exit

    @app.callback(help=_ABOUT, epilog=_VERBOSE)
    def options(
        version: bool = typer.Option(
            False, "--version", callback=say_version, is_eager=True, help="Print the version."
        ),
    ) -> None:
        del version

    for name, line in COMMANDS.items():
        if name == real:
            _add_command(app, name)
        else:
            app.command(name, short_help=line)(lambda: None)
    return app


_RUNS = frozenset({"track", "mots", "ask", "reconstruct", "navigate", "watch"})
"""Commands whose remarks on what goes in and out matter only to a run that begins."""


class _StandardError(logging.Handler):
    """Writes to whatever standard error is now: progress bars put themselves in its place.

    Attributes:
        held: remarks, until ``flush`` says that the run has begun: what was wrong in the
            command line comes first, and alone. None: nothing is held back.
    """

    held: list[logging.LogRecord] | None = None

    def flush(self) -> None:
        """Write what was held back; from now on all is written at once."""
        records, self.held = self.held or (), None
        for record in records:
            self.emit(record)

    def emit(self, record: logging.LogRecord) -> None:
        if self.held is not None and not getattr(record, "at_once", False):
            self.held.append(record)
            return
        text = self.format(record)
        print(text if record.exc_info else trimmed(one_line(text)), file=sys.stderr, flush=True)


def _handler() -> _StandardError | None:
    there = logging.getLogger().handlers
    return next((each for each in there if isinstance(each, _StandardError)), None)


def _tell_held(code: int) -> None:
    """Write the remarks that were held back, unless the command line was wrong."""
    if (handler := _handler()) is not None:
        if code == InputError.exit_code:
            handler.held = None
        handler.flush()


def _set_up_logging(verbose: int, *, runs: bool) -> None:
    root = logging.getLogger()
    handler = _handler()
    if handler is None:
        handler = _StandardError()
        handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
        root.addHandler(handler)
    handler.held = None if verbose or not runs else []
    # Other packages' remarks are for those who look for a fault.
    root.setLevel([logging.ERROR, logging.WARNING, logging.INFO][min(verbose, 2)])
    log.setLevel([logging.WARNING, logging.INFO, logging.DEBUG][min(verbose, 2)])
    if not verbose:
        warnings.simplefilter("ignore")
        # OpenCV and its FFmpeg write to standard error by themselves; we say it in one line.
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


_SLIPS = {
    r"\.? \(Possible options: ([^,)]+).*\)": r"; did you mean '\1'?",
    r"\. Did you mean '?([^?',]+).*": r"; did you mean '\1'?",
    r"Got unexpected extra arguments?(\(s\))? \((.*)\)": r"too many words: \2",
    r"requires an argument": "needs a value",
}
"""What Typer says of wrong words, and how all other errors would say it."""
_NO_SUCH_VALUE = re.compile(r": (Input should be |Unable to parse |.* is not (a valid|in the) ).*")
"""How Typer, or what it checks values with, begins to say that a value does not fit."""


def _typing_slip(error: Any) -> str:
    said, param = str(error.format_message()), getattr(error, "param", None)
    if near := _near_option(error):
        return f"no such option: {error.option_name}{near}"
    for words, ours in _SLIPS.items():
        said = re.sub(words, ours, said)
    if param is not None and (expected := _expected(param)):
        said = _NO_SUCH_VALUE.sub(f": expected {expected}", said)
    return said[:1].lower() + said[1:].rstrip(".")


def _near_option(error: Any) -> str:
    """Which option a misspelt one is nearest to; Typer names several, by the alphabet."""
    typed, known = getattr(error, "option_name", ""), getattr(error, "possibilities", None)
    settings = sys.modules.get("vision_mem.config")
    if not typed or not known or settings is None:
        return ""
    plain = {name.lstrip("-"): name for name in known}
    found = str(settings.nearest(typed.lstrip("-"), list(plain)))
    return found.replace("mean '", "mean '--")


def _expected(param: Any) -> str:
    """The values that an option takes, in words; empty where they are no numbers."""
    kind = {"N": "a whole number", "NUMBER": "a number"}.get(param.metavar)
    ranged = param if hasattr(param, "min") else param.type  # the latter in older Typers
    low, high = getattr(ranged, "min", None), getattr(ranged, "max", None)
    if kind is None or low is None:
        return kind or ""
    return f"{kind}, {low} or more" if high is None else f"{kind} from {low} to {high}"


def _report(message: str, code: int, verbose: int) -> int:
    if verbose:
        log.info("traceback", exc_info=True)
    _tell_held(code)
    print("error: " + trimmed(" ".join(message.split())), file=sys.stderr)
    return code
