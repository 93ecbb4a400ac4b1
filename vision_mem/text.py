"""Words of strangers: read within limits, shown without harm."""

from __future__ import annotations

import json
import math
import re
import stat
from pathlib import Path
from typing import Any, NoReturn

from vision_mem.errors import InputError

_LARGEST = 2_000_000_000  # bytes of a text file
_DEEPEST = 64  # lists and objects within each other
_DIGITS = 40  # of a whole number; 64 bits have 20
_ODD_NUMBER = re.compile(rf"\d{{{_DIGITS}}}|[eE]\+?\d{{3}}")
_YAML_MOST = 20_000  # values, those behind aliases counted each time
_YAML_KINDS = {"null", "bool", "int", "float", "str", "seq", "map", "merge", "value"}
# What moves the cursor, sets colours, turns the reading direction or is no letter at all.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""Text fit for a terminal: control characters are spelled ``\u001b``, as JSON does it.

    Line ends and tabs stay.
    """
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def one_line(text: str) -> str:
    """The same with line ends spelled too: names of files may hold them."""
    return printable(text).replace("\n", "\\n")


def short(text: str, limit: int = 40) -> str:
    """Text on one line, cut where it is long, for messages."""
    text = printable(" ".join(text[: 20 * limit].split()))
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def shown(value: Any, limit: int = 60) -> str:
    """A value as messages show it: quoted where it is text, cut where it is long."""
    if isinstance(value, str):
        return repr(short(value, limit))
    if value is None or isinstance(value, bool):
        return json.dumps(value)  # as people write it: null, true, false
    text = json.dumps(value, default=str) if isinstance(value, (dict, list)) else repr(value)
    return short(text, limit)


def trimmed(line: str, limit: int = 1000) -> str:
    """A line without its middle, where it is long: the end says what to do."""
    half = limit // 2
    return line if len(line) <= limit else f"{line[:half]} ... {line[-half:]}"


class PrintableStream:
    """A stream that passes on what is written, made ``printable``.

    Attributes:
        raw: the stream itself, for those who write control characters on purpose.
    """

    def __init__(self, stream: Any) -> None:
        self.raw = stream

    def write(self, text: str) -> int:
        """Write text; as many characters as it had count as written."""
        self.raw.write(printable(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


def read_text(path: Path, most: int = _LARGEST) -> str:
    """The text of a file.

    Args:
        path: a regular file: devices never end, and pipes may never begin.
        most: bytes.

    Raises:
        InputError: when it cannot be read, is no text, or is larger.
    """
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise InputError(f"{path} is a folder; expected a text file")
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{path} is a device or a pipe; expected a text file")
        if found.st_size > most:
            size = f"{most // 10**9} GB" if most >= 10**9 else f"{most / 10**6:g} MB"
            raise InputError(f"{path} is larger than {size}; expected a text file")
        return decoded(path.read_bytes())
    except UnicodeDecodeError:
        raise InputError(f"{path} is no text file (not UTF-8); expected lines of text") from None
    except FileNotFoundError:
        raise InputError(f"{path} cannot be read: no such file; check the path") from None
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        said = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read: {said}") from None


def decoded(content: bytes) -> str:
    """The text of a file's bytes: UTF-8, or UTF-16 as shells of Windows write it.

    Raises:
        UnicodeDecodeError: for anything else.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = content.decode("utf-16")
        if any(map(str.isascii, text)):  # else it is something that begins so by chance
            return text
    return content.decode("utf-8-sig")


def parse_json(text: str | bytes, where: str, *, nan: bool = False, unique: bool = True) -> Any:
    """The value of a JSON text that may be hostile.

    Args:
        text: all of it.
        where: file and line, for messages.
        nan: take ``NaN`` and ``Infinity`` for numbers.
        unique: refuse a key that is given twice.

    Raises:
        InputError: when it is not JSON, is nested too deeply, or holds numbers that none can use.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    numbers: dict[str, Any] = {} if nan else {"parse_constant": _no_number}
    if _ODD_NUMBER.search(text):  # asking for each number is slow; most texts need not
        numbers["parse_int"] = _whole
        if not nan:
            numbers["parse_float"] = _finite
    if unique:
        numbers["object_pairs_hook"] = _without_doubles
    try:
        value = json.loads(text.removeprefix("\ufeff"), **numbers)
    except RecursionError:
        raise InputError(f"{where} is not JSON: nested too deeply") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise InputError(f"{where} is not JSON: {error.msg} ({place}); is it whole?") from None
    except ValueError as error:
        raise InputError(f"{where} is not JSON: {error}") from None
    if "\\ud" in text.lower():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise InputError(f"{where} is not JSON: it holds half a letter") from None
    if text.count("[") + text.count("{") > _DEEPEST:
        level = [value]
        for _ in range(_DEEPEST):
            level = [each for one in level for each in _held(one) if isinstance(each, (dict, list))]
        if level:
            raise InputError(f"{where} is not JSON: nested too deeply")
    return value


def read_json(path: Path, *, nan: bool = False, unique: bool = True) -> Any:
    """The value of a JSON file; see ``read_text`` and ``parse_json``, also for what is raised."""
    return parse_json(read_text(path), str(path), nan=nan, unique=unique)


def _held(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        words = [key for key, _ in pairs]
        twice = next(word for word in words if words.count(word) > 1)
        raise ValueError(f"{short(twice)!r} is given twice")
    return made


def _whole(word: str) -> int:
    if len(word) > _DIGITS:
        raise ValueError(f"a number of {len(word)} digits")
    return int(word)


def _finite(word: str) -> float:
    if not math.isfinite(value := float(word)):
        raise ValueError(f"{short(word)} is too large a number")
    return value


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON number")


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML text that may be hostile.

    Args:
        text: all of it.
        where: what it is, for messages.

    Returns:
        Dicts, lists, texts, numbers, truth values and None. (1e-6 is a text: so says YAML 1.1.)

    Raises:
        InputError: when it is not YAML, has aliases that grow beyond measure, is nested too deeply,
            gives a key twice, or holds values of other kinds.
    """
    import yaml

    try:
        depth = 0  # the parser would take long to find it out
        for bracket in re.findall(r"[\[\]{}]", text):
            depth += 1 if bracket in "[{" else -1
            if depth > _DEEPEST:
                raise ValueError("nested too deeply")
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        _check_nodes(node)
        return None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "it holds characters that are no text"
        problem += f" (line {mark.line + 1})" if mark else ""
    except RecursionError:
        problem = "nested too deeply"
    except (ValueError, OverflowError, TypeError) as error:
        problem = str(error)
    raise InputError(f"{where} is not valid YAML: {short(problem, 120)}")


def _check_nodes(root: Any) -> None:
    """Look through a YAML tree in which aliases are not written out yet.

    Raises:
        ValueError: for what must not be written out.
    """
    count, level = 0, [] if root is None else [root]
    for _ in range(_DEEPEST):
        below: list[Any] = []
        for node in level:
            if (kind := node.tag.removeprefix("tag:yaml.org,2002:")) not in _YAML_KINDS:
                raise ValueError(f"a value of the kind {short(kind)}; put it between quotes")
            if kind == "int" and node.value.strip("-+").isdecimal():
                _whole(node.value)
            if node.id == "mapping":
                _without_doubles([(key.value, 0) for key, _ in node.value if key.id == "scalar"])
                below += [part for pair in node.value for part in pair]
            elif node.id == "sequence":
                below += node.value
            if count + len(below) > _YAML_MOST:
                raise ValueError(f"more than {_YAML_MOST} values")
        count, level = count + len(below), below
    if level:
        raise ValueError("nested too deeply")
