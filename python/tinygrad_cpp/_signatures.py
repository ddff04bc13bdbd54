"""inspect.Signature objects from the schemas of the op table, for help() and editors."""

import ast
import inspect
import re
from typing import Any

_PARAMETER = re.compile(r"(?P<type>[A-Za-z]+(?:\[\])?\??) (?P<name>\w+)(?:=(?P<default>.+))?")
_ANNOTATIONS = {
    "Tensor": "Tensor",
    "Tensor[]": "Sequence[Tensor]",
    "Operand": "Tensor | Number",
    "int": "int",
    "int[]": "int | Sequence[int]",
    "float": "float",
    "float[]": "Sequence[float]",
    "bool": "bool",
    "Scalar": "Number",
    "str": "str",
    "dtype": "DTypeLike",
    "device": "DeviceLike",
    "Generator": "Generator",
    "Index": "Any",
}


def annotation(type_name: str, optional: bool) -> str:
    """The Python annotation of a schema type."""
    return _ANNOTATIONS[type_name] + (" | None" if optional else "")


def split_parameters(text: str) -> list[str]:
    """Pieces between commas that are outside of brackets."""
    parts, depth, current = [], 0, ""
    for ch in text:
        depth += (ch in "([") - (ch in ")]")
        if ch == "," and depth == 0:
            parts.append(current.strip())
            current = ""
        else:
            current += ch
    return [*parts, current.strip()] if current.strip() else parts


def _default(text: str | None) -> Any:
    if text is None:
        return inspect.Parameter.empty
    try:
        return ast.literal_eval(text)
    except ValueError:
        return text  # the name of a dtype


def of_schema(schema: str) -> inspect.Signature:
    """The signature of one overload."""
    inside = schema[schema.index("(") + 1 : schema.rindex(")", 0, schema.rindex(" -> "))]
    kind: Any = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = []
    for piece in split_parameters(inside):
        if piece == "*":
            kind = inspect.Parameter.KEYWORD_ONLY
            continue
        m = _PARAMETER.fullmatch(piece)
        assert m, piece
        optional = m["type"].endswith("?")
        parameters.append(
            inspect.Parameter(
                m["name"], kind, default=_default(m["default"]), annotation=annotation(m["type"].rstrip("?"), optional)
            )
        )
    required_after_default = any(
        a.default is not inspect.Parameter.empty
        and b.default is inspect.Parameter.empty
        and b.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        for a, b in zip(parameters, parameters[1:], strict=False)
    )
    if required_after_default:
        raise ValueError(f"default before a required parameter: {schema}")
    return inspect.Signature(parameters)


def of_overloads(schemas: list[str]) -> inspect.Signature:
    """The signature of a function: the overload's if there is one, else (*args, **kwargs)."""
    if len(schemas) == 1:
        return of_schema(schemas[0])
    return inspect.Signature(
        [
            inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL),
            inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
        ]
    )
