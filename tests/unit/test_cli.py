"""The front page of the command line: fast, light, and clear about slips."""

from __future__ import annotations

import ast
import errno
import importlib
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vision_mem import __version__, cli
from vision_mem.errors import InputError, SourceError
from vision_mem.runs.folder import tell_notes

HEAVY = ("torch", "cv2", "av", "numpy", "sam2")


@pytest.mark.parametrize("words", [["--help"], ["trak"], ["--version"]])
def test_the_front_page_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys; from vision_mem.cli import main; main(sys.argv[1:]);"
        f"heavy = [m for m in {HEAVY} if m in sys.modules]; sys.exit(repr(heavy) if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_help_of_a_command_does_not_wait_for_torch() -> None:
    code = (
        "import sys; from vision_mem.cli import main; main(['track', '--help']);"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--box" in done.stdout


def _seconds(*words: str) -> float:
    """Of the processor for a Python command: the best of three."""

    def once() -> float:
        begin = os.times()
        subprocess.run([sys.executable, *words], capture_output=True, check=False)
        end = os.times()
        spent = end.children_user + end.children_system
        return spent - begin.children_user - begin.children_system

    return min(once() for _ in range(3))


@pytest.mark.skipif(os.name == "nt", reason="needs the times of child processes")
@pytest.mark.parametrize(
    ("words", "most"),
    [
        (["--help"], 0.5),
        (["track", "--help"], 0.8),
        (["mots", "--help"], 0.8),
        (["ask", "--help"], 0.8),
        (["demo", "--help"], 0.8),
        (["doctor", "--help"], 0.8),
        (["track", "nowhere.mp4", "--box", "1,2,3,4"], 0.7),
    ],
)
def test_help_and_slips_are_quick(words: list[str], most: float) -> None:
    # The promise is for an idle machine; an import of known cost tells how busy this one is.
    slower = max(1.0, _seconds("-c", "import numpy") / 0.12)
    assert _seconds("-m", "vision_mem", *words) < most * slower


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, line in cli.COMMANDS.items():
        assert name in shown
        assert line.split(",")[0][:20] in shown
    assert cli.main([]) == 0


EVERY_COMMAND = [
    *([name] for name in cli.COMMANDS),
    *(["navigate", name] for name in ("build", "where", "route", "recall", "follow", "eval")),
    *(["eval", name] for name in ("lasot", "mot17", "touchdown")),
    ["score", "mot17"],
]


@pytest.mark.parametrize("words", EVERY_COMMAND, ids=" ".join)
def test_help_is_in_words_of_people(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    for odd in ("[[", "]...]", "......", "<", "range]", "x>=", "manieth", "list[", "{source}"):
        assert odd not in shown
    usage = shown.partition("\n\n")[0]
    if words[0] not in ("navigate", "eval", "score") or len(words) > 1:
        assert usage.endswith("[OPTIONS]")
    assert "..." not in shown.partition("Commands:")[2], "a line of help is cut off"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"vision-mem {__version__}"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["trak"], "'track'"),
        (["--vershun"], "--version"),
        (["track", "x.mp4", "--boks", "1,2,3,4"], "--box"),
        (["track", "x.mp4", "--pont", "1,2"], "no such option: --pont; did you mean '--point'?\n"),
        (
            ["track", "x.mp4", "--out", ""],
            "--out is an empty text; give a value, or leave it out\n",
        ),
        (["mots", "x.mp4", "--only="], "--only is an empty text"),
        (["track", "", "--box", "1,2,3,4"], "the source is an empty text"),
        (["ask", "x.vmem", ""], "a question is an empty text"),
        (["track"], "SOURCE"),
        (["track", "x.mp4", "--stride", "two"], "--stride"),
        (["doctor", "--jsn"], "--json"),
        (["doctor", "here"], "too many words: here"),
        (["track", "x.mp4", "--box"], "'--box' needs a value"),
        (["mots", "x.mp4", "--min-score", "3"], "'--min-score': expected a number from 0 to 1\n"),
        (["mots", "x.mp4", "--min-score", "nan"], "expected a number from 0 to 1\n"),
        (["studio", "--port", "99999"], "'--port': expected a whole number from 0 to 65535\n"),
        (["track", "x.mp4", "--stride", "0"], "'--stride': expected a whole number, 1 or more\n"),
        (["track", "x.mp4", "--end", "1.5"], "'--end': expected a whole number\n"),
        (["navigate", "where", "x", "--map", "m", "--at", "now"], "'--at': expected a number\n"),
        (["eval", "crowd"], "no benchmark 'crowd'; did you mean 'crowds'?\n"),
    ],
)
def test_slips_are_one_line_with_a_hint(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert says in shown.err
    assert shown.out == ""


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (InputError("a box\nof no area"), 2, "error: a box of no area"),
        (SourceError("gone"), 1, "error: gone"),
        (
            OSError(errno.ENAMETOOLONG, "File name too long", "m" * 300),
            2,
            f"error: {'m' * 197}... cannot be used: File name too long; check the path",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/x"),
            2,
            "error: /x cannot be used: P",
        ),
        (OSError(errno.EIO, "broken"), 1, "error: unexpected OSError"),
        (KeyboardInterrupt(), 130, "error: stopped"),
        (RuntimeError("boom"), 1, "error: unexpected RuntimeError: boom (add -v"),
    ],
)
def test_errors_become_exit_codes(
    error: BaseException,
    code: int,
    says: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(words: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "_dispatch", fail)
    monkeypatch.setattr("vision_mem.config._own", {})  # other tests of this process load some
    assert cli.main(["track"]) == code
    shown = capsys.readouterr().err
    assert shown.startswith(says)
    assert "Traceback" not in shown
    assert cli.main(["track", "-v"]) == code
    assert "Traceback" in capsys.readouterr().err


def test_doctor_finds_this_machine_fit(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import json

    assert cli.main(["doctor", "--json", "--out", str(tmp_path)]) == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert {f["area"] for f in findings} >= {"versions", "devices", "codecs", "models", "disk"}
    assert cli.main(["doctor", "--out", str(tmp_path)]) == 0
    assert "everything that tracking needs is here" in capsys.readouterr().out


def test_doctor_says_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vision_mem.runs import doctor

    def broken(path: Path, frames: object, fps: float) -> None:
        raise OSError("no such encoder")

    monkeypatch.setattr(doctor, "write_video", broken)
    assert cli.main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "FAILS   no such encoder" in shown
    assert "missing or broken, and needed: write H.264 (PyAV)" in shown


def test_old_words_are_taken_and_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = {"doctor": {"--results": "--out"}, "track deep": {"--a": "--b"}}
    monkeypatch.setattr(cli, "OLD_WORDS", table)
    taken = cli._renewed(["doctor", "--results", "x", "--results=y", "--", "--results"])
    assert taken == ["doctor", "--out", "x", "--out=y", "--", "--results"]
    said = capsys.readouterr().err.splitlines()
    assert said == ["note: --results is now --out and goes away in 0.3"] * 2
    for words in (["track", "--a", "--results"], ["eval", "--results=1"], []):
        assert cli._renewed(list(words)) == words
    assert cli._renewed(["track", "deep", "--a"]) == ["track", "deep", "--b"]
    capsys.readouterr()
    assert cli.main(["doctor", "--results=nowhere", "--jsn"]) == 2
    note, error = capsys.readouterr().err.splitlines()
    assert note.startswith("note: ")
    assert error.startswith("error: ")


@pytest.mark.parametrize("command", sorted(cli.OLD_WORDS))
def test_new_words_are_options_and_old_ones_are_none(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*command.split(), "--help"]) == 0
    words = capsys.readouterr().out.split()
    for old, new in cli.OLD_WORDS[command].items():
        assert new in words
        assert old not in words


def _complete(shell: str, line: str) -> subprocess.CompletedProcess[str]:
    """What the shell is told when Tab is pressed at the end of a line, and what was imported."""
    words = line.split(" ")
    asked = {"_VISION_MEM_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": line}
    asked |= {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    asked["_TYPER_COMPLETE_FISH_ACTION"] = "get-args"
    code = (
        "import atexit, sys; atexit.register(lambda: print([m for m in "
        f"{('torch', 'cv2', 'rich')} if sys.modules.get(m)], file=sys.stderr));"
        "from vision_mem.cli import main; sys.exit(main())"
    )
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("line", "wanted", "unwanted"),
    [
        ("vision-mem tr", ["track"], ["mots", "tracking"]),
        ("vision-mem track --pr", ["--preset", "--precision"], ["--model"]),
        ("vision-mem track clip.mp4 --preset s", ["samurai", "sam2"], ["none"]),
        ("vision-mem navigate bu", ["build"], ["where"]),
        ("vision-mem navigate build --ov", ["--overwrite"], ["--map"]),
    ],
)
def test_tab_completes_commands_options_and_presets(
    shell: str, line: str, wanted: list[str], unwanted: list[str]
) -> None:
    done = _complete(shell, line)
    assert all(word in done.stdout for word in wanted), done
    assert not [
        word for word in unwanted if f"{word}\n" in done.stdout or f'"{word}"' in done.stdout
    ]
    if "navigate" not in line:
        assert done.stderr == "[]\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_shown_and_installed(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    program = f"{sys.executable} -m vision_mem"
    for words in ("--show-completion", "--install-completion"):
        done = subprocess.run(
            [shell, "-c", f"{program} {words}; exit $?"], capture_output=True, text=True,
            env={**os.environ, "HOME": str(tmp_path)}, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        said = done.stdout
        if words == "--show-completion":
            assert "_VISION_MEM_COMPLETE" in said
    assert "completion installed in" in said
    assert [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("ending", ["slip", "begins", "fails", "ends"])
def test_remarks_wait_for_a_run_that_begins(
    ending: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def run(words: list[str]) -> int:
        logging.getLogger("vision_mem.sources.open").warning("the clip is odd")
        said.append(capsys.readouterr().err)
        if ending == "slip":
            raise InputError("no such box")
        if ending == "fails":
            raise SourceError("gone")
        if ending == "begins":
            tell_notes()
            said.append(capsys.readouterr().err)
            logging.getLogger("vision_mem.sinks.video").warning("and so on")
        return 0

    monkeypatch.setattr(cli, "_dispatch", run)
    code = cli.main(["track"])
    rest = capsys.readouterr().err
    assert said[0] == ""
    expected = {
        "slip": (2, [""], "error: no such box\n"),
        "fails": (1, [""], "WARNING: the clip is odd\nerror: gone\n"),
        "begins": (0, ["", "WARNING: the clip is odd\n"], "WARNING: and so on\n"),
        "ends": (0, [""], "WARNING: the clip is odd\n"),
    }
    assert (code, said, rest) == expected[ending]
    assert cli.main(["studio"]) == code  # it runs for hours: nothing is held back
    assert (said[-1] if ending != "begins" else said[-2]) == "WARNING: the clip is odd\n"


SLIPS = [
    (["track", "CLIP"], "say what to follow"),
    (["track", "nowhere.mp4", "--box", "1,2,3,4"], "no such file"),
    (["track", "CLIP", "--box", "1,2,x,4"], "expected 4 numbers"),
    (["track", "CLIP", "--box", "cup=500,500,9,9"], "box x,y,w,h 500,500,9,9 of cup lies outside"),
    (["track", "CLIP", "--box", "500,500,9,9@3"], "outside the frame"),
    (["track", "CLIP", "--box", "1,2,30,40", "--preset", "samuri"], "did you mean 'samurai'"),
    (["track", "CLIP", "--box", "1,2,30,40", "--set", "policy.chioce=iou"], "selection.choice"),
    (["track", "CLIP", "--box", "1,2,30,40", "--save", "vdeo"], "did you mean 'video'"),
    (["track", "CLIP", "--box", "1,2,30,40", "--out", "FULL"], "holds results already"),
    (["track", "CLIP", "--box", "1,2,30,40", "--model", "embeded"], "did you mean 'embedded'"),
    (["track", "CLIP", "--resume"], "no snapshot"),
    (["track", "CLIP", "--box", "1,2,30,40", "--model", "sam3"], "did you mean 'sam2.1-hiera-tiny"),
    (
        ["track", "CLIP", "--box", "1,2,30,40", "--preset", "nope.yaml"],
        "preset file nope.yaml; exp",
    ),
    (["track", "cilp.mp4", "--box", "1,2,30,40"], "did you mean 'clip.mp4'"),
    (["mots", "CLIP", "--save", "vdeo"], "did you mean 'video'"),
    (["mots", "CLIP", "--preset", "motoin"], "did you mean 'motion'"),
    (["mots", "CLIP", "--set", "birth.max_overlpa=1"], "max_overlap"),
    (["mots", "CLIP", "--region", "1,2,3"], "expected x,y,w,h"),
    (["mots", "CLIP", "--model", "sam2-hiera-tny"], "did you mean 'sam2-hiera-tiny'"),
    (["mots", "CLIP", "--detect", "dfin"], "did you mean dfine"),
    (["mots", "CLIP", "--detect", "file:nowhere.txt"], "nowhere.txt"),
    (["mots", "CLIP", "--out", "FULL"], "holds results already"),
    (["ask", "nowhere.mp4", "red?"], "no such file"),
    (["ask", "nowhere.vmem", "red?"], "no memory file"),
    (["ask", "CLIP", "red?", "--memory", "clip.mp4"], "memory file clip.mp4 is damaged, or a file"),
    (["navigate", "build", "full", "--map", "clip.mp4"], "map clip.mp4 is damaged, or a file of"),
    (["ask", "CLIP", "red?", "--preset", "fifoo"], "did you mean 'fifo'"),
    (["ask", "CLIP", "red?", "--set", "memory.budgte=3"], "memory.budget"),
    (["ask", "CLIP", "red?", "--scope", "past"], "auto"),
    (["demo", "--out", "FULL"], "holds results already"),
    (["demo", "--preset", "samuri"], "did you mean 'samurai'"),
]


def test_what_typing_shows_is_said_before_torch_is_imported(
    small_clip: Path, tmp_path: Path
) -> None:
    (tmp_path / "full" / "results").mkdir(parents=True)
    (tmp_path / "full" / "results" / "x.txt").touch()
    (tmp_path / "clip.mp4").write_bytes(b"no video at all")
    given = {"CLIP": str(small_clip), "FULL": str(tmp_path / "full")}
    commands = [[given.get(word, word) for word in words] for words, _ in SLIPS]
    code = (
        "import sys; from vision_mem.cli import main\n"
        f"for words in {commands!r}:\n"
        "    print(main(words), 'torch' in sys.modules, *words)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    results, errors = done.stdout.splitlines(), done.stderr.splitlines()
    assert len(results) == len(errors) == len(SLIPS), done
    for result, error, (words, says) in zip(results, errors, SLIPS, strict=True):
        assert result.split()[0] in ("1", "2"), words
        assert result.split()[1] == "False", f"torch was imported for {words}"
        assert error.startswith("error: ")
        assert says in error


def _lines_of_body(function: ast.FunctionDef) -> int:
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1


@pytest.mark.parametrize("name", ["track", "mots", "ask", "demo", "doctor"])
def test_a_pipeline_is_a_screen_long(name: str) -> None:
    module = importlib.import_module(cli.module_of(name))
    tree = ast.parse(Path(module.__file__ or "").read_text(encoding="utf-8"))
    mains = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "main"]
    assert [_lines_of_body(main) for main in mains if _lines_of_body(main) >= 60] == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("redirect", "code", "errors"),
    [
        (">&- 2>&-", 0, ""),
        ("> /dev/full", 1, "error: standard output cannot be written (no space left); results"),
    ],
)
def test_closed_and_full_outputs_end_well(redirect: str, code: int, errors: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f'"$0" -m vision_mem --help {redirect}', sys.executable],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code
    assert done.stderr.startswith(errors) and done.stderr.count("\n") == bool(errors)
