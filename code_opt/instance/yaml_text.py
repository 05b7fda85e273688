"""YAML text to plain data and back, by the core schema of YAML 1.2.

PyYAML resolves plain scalars as YAML 1.1 did, where ``no`` is false, ``12:30`` a number
and ``2.0e9`` text. Here the events of its parser are read by the rules of YAML 1.2
(https://yaml.org/spec/1.2.2/#103-core-schema). Tags and aliases are refused: nothing in
an instance needs them, and a few lines of aliases can stand for gigabytes.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from code_opt.instance.problems import Problem, YamlError, shown

DEPTH = 100
"""Levels of nesting that are read; an instance needs 7."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SafeDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

_NULLS = {"", "~", "null", "Null", "NULL"}
_BOOLEANS = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMBER = re.compile(
    r"""(?P<float> [-+]? (?: \.[0-9]+ | [0-9]+ (?: \.[0-9]* )? ) (?: [eE][-+]?[0-9]+ )? )
      | (?P<octal> 0o[0-7]+ ) | (?P<hex> 0x[0-9a-fA-F]+ )
      | (?P<infinity> [-+]? \.(?: inf|Inf|INF ) ) | (?P<nan> \.(?: nan|NaN|NAN ) )""",
    re.VERBOSE,
)
_INTEGER = re.compile(r"[-+]?[0-9]{1,400}")


def read_yaml(text: str) -> tuple[Any, list[Problem]]:
    """Return the data of one YAML document, and the fields that it gives twice.

    Raises:
        YamlError: syntax errors, tags, aliases, several documents, keys that are no text,
            or nesting beyond :data:`DEPTH`.
    """
    try:
        return _Builder().build(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlError(_place(mark), f"not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise YamlError("file", f"not YAML: {' '.join(str(error).split())}") from None


def write_yaml(data: Any) -> str:
    """Return data as YAML text that reads the same under YAML 1.1 and 1.2."""
    return str(
        yaml.dump(
            data,
            Dumper=_Dumper,
            sort_keys=False,
            allow_unicode=True,
            default_flow_style=None,
            width=100,
        )
    )


class _Dumper(_SafeDumper):
    """Quotes text that YAML 1.2 would read as a number (PyYAML itself knows 1.1 only)."""


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(f"(?:{_NUMBER.pattern})$", re.VERBOSE),
    list("-+.0123456789"),
)


class _Builder:
    """Builds data from the parser's events, without recursion."""

    def __init__(self) -> None:
        self.twice: list[Problem] = []

    def build(self, text: str) -> tuple[Any, list[Problem]]:
        root: list[Any] = []
        stack: list[list[Any] | dict[str, Any]] = [root]
        keys: list[str | None] = [None]  # of each open mapping, the key that waits for a value
        for event in yaml.parse(text, Loader=_Loader):
            kind = type(event)
            if kind is yaml.ScalarEvent:
                value = self._scalar(event)
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                self._check_tag(event)
                value = {} if kind is yaml.MappingStartEvent else []
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                stack.pop()
                keys.pop()
                continue
            elif kind is yaml.AliasEvent:
                raise YamlError(
                    _place(event.start_mark), "aliases (*name) are not read; repeat the value"
                )
            elif kind is yaml.DocumentStartEvent and root:
                raise YamlError(_place(event.start_mark), "only one document can be in a file")
            else:
                continue
            top = stack[-1]
            if isinstance(top, list):
                top.append(value)
            elif keys[-1] is None:
                keys[-1] = self._key(event, value, top)
                continue
            else:
                top[keys[-1]] = value
                keys[-1] = None
            if isinstance(value, (dict, list)):
                stack.append(value)
                keys.append(None)
                if len(stack) > DEPTH:
                    raise YamlError(_place(event.start_mark), "nested too deeply")
        return (root[0] if root else None), self.twice

    def _key(self, event: Any, key: Any, mapping: dict[str, Any]) -> str:
        if not isinstance(key, str):
            raise YamlError(
                _place(event.start_mark), f"a field name must be text, not {shown(key)}"
            )
        if key in mapping:
            message = "this field stands there twice"
            self.twice.append(Problem(_place(event.start_mark), message, shown(key)))
        return key

    def _scalar(self, event: Any) -> Any:
        self._check_tag(event)
        text: str = event.value
        if not event.implicit[0]:  # quoted, or a block of text
            return text
        match = _NUMBER.fullmatch(text)
        if match is None:
            return None if text in _NULLS else _BOOLEANS.get(text, text)
        form = match.lastgroup
        if form == "float":
            return int(text) if _INTEGER.fullmatch(text) else float(text)
        if form in ("octal", "hex"):
            return int(text[2:], 8 if form == "octal" else 16)
        return float(text.replace(".", "", 1))

    @staticmethod
    def _check_tag(event: Any) -> None:
        if event.tag is not None:
            raise YamlError(
                _place(event.start_mark), f"tags are not read, found {shown(event.tag)}"
            )


def _place(mark: Any) -> str:
    return "file" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}"
