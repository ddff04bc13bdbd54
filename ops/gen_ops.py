#!/usr/bin/env python3
"""Writes the C++ face of the op table: typed functions and Tensor methods for every op.

Reads the schemas where the ops are defined (core/pointwise.def, TG_OP in ops/*.cpp), so that no op has to be declared
a second time. Outputs in --out: ops/ops.h, ops/ops_gen.cpp, ops/tensor_methods.inc.
"""

from __future__ import annotations

import argparse
import pathlib
import re
from dataclasses import dataclass

CPP_TYPES = {
    "Tensor": "const Tensor&",
    "Tensor[]": "TensorList",
    "Operand": "const Operand&",
    "int": "int64_t",
    "int[]": "IntList",
    "float": "double",
    "float[]": "const std::vector<double>&",
    "bool": "bool",
    "Scalar": "Scalar",
    "str": "Str",
    "dtype": "DType",
    "device": "Device",
    "Generator": "Generator*",
    "Index": "const std::vector<IndexItem>&",
}
RETURN_TYPES = {"Tensor": "Tensor", "Tensor[]": "std::vector<Tensor>", "bool": "bool", "int": "int64_t", "float": "double"}


@dataclass
class Param:
    type: str
    name: str
    optional: bool
    default: str | None

    def cpp_type(self) -> str:
        base = CPP_TYPES[self.type]
        if not self.optional or self.type in ("Tensor", "Generator"):
            return base
        if self.type == "int[]":
            return "OptIntList"  # an optional list that braces can fill
        return f"std::optional<{base.removeprefix('const ').removesuffix('&')}>"

    def cpp_default(self) -> str | None:
        d = self.default
        if d is None:
            return None
        if d == "None":
            return "nullptr" if self.type == "Generator" else "{}" if self.type == "Tensor" else "std::nullopt"
        if self.type == "bool":
            return d.lower()
        if self.type == "str":
            return '"' + d.strip("'") + '"'
        if self.type == "dtype":
            return "DType::" + {"int64": "I64", "float32": "F32", "bool": "Bool"}[d]
        if d.startswith("["):
            return "IntList{" + d[1:-1] + "}"
        return d


@dataclass
class Op:
    name: str
    params: list[Param]
    returns: str
    flags: str
    doc: str
    inplace: bool = False
    required: int = 0  # leading parameters that get no C++ default, so that overloads stay apart

    @property
    def base(self) -> str:
        return self.name.split(".")[0]

    def cpp_return(self) -> str:
        if self.inplace:
            return "const Tensor&"
        if self.returns.startswith("("):
            n = self.returns.count("Tensor")
            return "std::tuple<" + ", ".join(["Tensor"] * n) + ">"
        return RETURN_TYPES[self.returns]

    def signature(self, params: list[Param], defaults: bool) -> str:
        out: list[str] = []
        tail = True  # C++ allows defaults only at the end
        required = self.required - (len(self.params) - len(params))
        for i, p in reversed(list(enumerate(params))):
            d = p.cpp_default() if defaults and tail and i >= required else None
            tail = tail and d is not None
            out.append(f"{p.cpp_type()} {p.name}" + (f" = {d}" if d is not None else ""))
        return ", ".join(reversed(out))

    def is_method(self) -> bool:
        if not self.params or self.params[0].type not in ("Tensor", "Operand") or self.params[0].optional:
            return False
        if self.inplace:
            return True
        return not re.search(r"kFunctionOnly|kNN\b|kHidden", self.flags) and self.params[0].name in ("input", "self")


def split_top(text: str) -> list[str]:
    parts, depth, cur = [], 0, ""
    for ch in text:
        depth += ch in "(["
        depth -= ch in ")]"
        if ch == "," and depth == 0:
            parts.append(cur)
            cur = ""
        else:
            cur += ch
    return [p.strip() for p in [*parts, cur] if p.strip()]


def parse_schema(schema: str, flags: str, doc: str) -> Op:
    m = re.fullmatch(r"([\w.]+)\((.*)\) -> (.+)", schema)
    if not m:
        raise SystemExit(f"gen_ops: cannot read schema {schema!r}")
    params = []
    for text in split_top(m.group(2)):
        if text == "*":
            continue
        pm = re.fullmatch(r"([A-Za-z]+(?:\[\])?)(\?)? (\w+)(?:=(.+))?", text)
        if not pm or pm.group(1) not in CPP_TYPES:
            raise SystemExit(f"gen_ops: cannot read parameter {text!r} of {schema!r}")
        params.append(Param(pm.group(1), pm.group(3), bool(pm.group(2)), pm.group(4)))
    return Op(m.group(1), params, m.group(3).strip(), flags, doc)


def strings(text: str) -> str:
    return "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', text))


def read_ops(root: pathlib.Path) -> list[Op]:
    ops: list[Op] = []
    row = re.compile(r'^TG_P(\d)\((\w+), (?:"([^"]*)", )?(\w+), ([^,]*), .*"((?:[^"\\]|\\.)*)"\)$')
    for line in (root / "core/pointwise.def").read_text().splitlines():
        if line.startswith("TG_P"):
            m = row.match(line)
            if not m:
                raise SystemExit(f"gen_ops: cannot read row {line!r}")
            flags = m.group(5).replace("INP", "kMakeInplace").replace("CMP", "kMakeInplace")
            ops.append(parse_schema(f"{m.group(2)}{m.group(3) or '(Tensor input)'} -> Tensor", flags, m.group(6)))
    for path in sorted((root / "ops").glob("*.cpp")):
        text = path.read_text()
        for m in re.finditer(r'^TG_OP\(\s*((?:"[^"]*"\s*)+)', text, re.M):
            body = text[m.end() : m.end() + text[m.end() :].find("\nTG_OP(") if "\nTG_OP(" in text[m.end() :] else len(text)]
            fm = re.search(r"\.flags = ([^,;]*)", body)
            dm = re.search(r'\.doc =\s*((?:"(?:[^"\\]|\\.)*"\s*)+)', body)
            ops.append(parse_schema(strings(m.group(1)), fm.group(1) if fm else "", strings(dm.group(1)) if dm else ""))
    first: dict[str, Op] = {}
    for op in ops:
        other = first.setdefault(op.base, op)
        if other is not op:
            pairs = list(zip(op.params, other.params))
            same = next((i for i, (p, q) in enumerate(pairs) if p.cpp_type() != q.cpp_type()), len(pairs))
            op.required = same + 1
    for op in list(ops):
        if "kMakeInplace" in op.flags:
            base, _, overload = op.name.partition(".")
            name = f"{base}_.{overload}" if overload else f"{base}_"
            params = [Param("Tensor", op.params[0].name, False, None), *op.params[1:]]
            ops.append(Op(name, params, "Tensor", op.flags, f"In-place form of {base}.", True, op.required))
    return ops


def body(op: Op) -> str:
    vals = ", ".join(f"Value({p.name})" for p in op.params)
    head = f'static const OpDef& op = find_op("{op.name}");\n  const Value v[] = {{{vals}}};\n  Outputs o;\n  '
    if not op.params:
        head = f'static const OpDef& op = find_op("{op.name}");\n  const Value* v = nullptr;\n  Outputs o;\n  '
    head += f"call(op, {{v, {len(op.params)}}}, o);\n  "
    if op.inplace:
        return head + f"return {op.params[0].name};"
    if op.returns == "Tensor":
        return head + "return std::move(o[0]);"
    if op.returns == "Tensor[]":
        return head + "return o.list();"
    if op.returns.startswith("("):
        n = op.returns.count("Tensor")
        return head + "return {" + ", ".join(f"std::move(o[{i}])" for i in range(n)) + "};"
    return head + "return " + {"bool": "o.value.i() != 0", "int": "o.value.i()", "float": "o.value.d()"}[op.returns] + ";"


def write(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--root", type=pathlib.Path, required=True)
    ap.add_argument("--out", type=pathlib.Path, required=True)
    args = ap.parse_args()
    ops = read_ops(args.root)
    decls, defs, methods = [], [], []
    for op in ops:
        if op.name.endswith(".method"):  # a method whose parameters are in another order than the function's
            ret, params = op.cpp_return(), op.params[1:]
            methods.append(f"  {ret} {op.base}({op.signature(params, True)}) const;")
            code = body(op).replace(f"Value({op.params[0].name})", "Value(*this)", 1)
            code = code.replace(f"return {op.params[0].name};", "return *this;")
            defs.append(f"{ret} Tensor::{op.base}({op.signature(params, False)}) const {{\n  {code}\n}}")
            continue
        ret, doc = op.cpp_return(), op.doc.replace("\\n", " ")
        decls.append(f"// {doc}\nTG_API {ret} {op.base}({op.signature(op.params, True)});")
        defs.append(f"{ret} {op.base}({op.signature(op.params, False)}) {{\n  {body(op)}\n}}")
        if op.is_method():
            rest = op.params[1:]
            methods.append(f"  {ret} {op.base}({op.signature(rest, True)}) const;")
            call = ", ".join(["*this", *(p.name for p in rest)])
            stmt = f"tg::{op.base}({call});\n  return *this;" if op.inplace else f"return tg::{op.base}({call});"
            defs.append(f"{ret} Tensor::{op.base}({op.signature(rest, False)}) const {{\n  {stmt}\n}}")
    note = "// Generated by ops/gen_ops.py from the op table. Do not edit.\n"
    write(args.out / "ops/ops.h", f'{note}#pragma once\n#include <tuple>\n\n#include "core/op.h"\n#include "ops/operators.h"\n\nnamespace tg {{\n\n' + "\n".join(decls) + "\n\n}  // namespace tg\n")
    write(args.out / "ops/ops_gen.cpp", f'{note}#include "ops/ops.h"\n\nnamespace tg {{\n\n' + "\n\n".join(defs) + "\n\n}  // namespace tg\n")
    write(args.out / "ops/tensor_methods.inc", note + "\n".join(methods) + "\n")


if __name__ == "__main__":
    main()
