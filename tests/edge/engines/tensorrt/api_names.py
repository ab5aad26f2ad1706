"""Which names of TensorRT a source uses, found in its syntax tree by following types, and which of them a version lacks.

``trt`` is the module wherever it stands. From there types follow: a class is called, a method's documentation says what
it returns, a local function gets what its callers give. So ``builder.create_network(...)`` is looked up in the class
Builder, and not only ``trt.Builder`` in the module.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Runs in its own process, because only one version can be loaded by one. pybind11 writes types into the documentation.
_DESCRIBE = """
import json, re, sys, importlib
module = importlib.import_module(sys.argv[1])
def returned(thing):
    found = re.search(r"-> ([\\w.:]+)", str(getattr(thing, "__doc__", "") or ""))
    return re.split("[.:]", found.group(1))[-1] if found else ""
def described(thing):
    members = {}
    for name in dir(thing):
        member = getattr(thing, name)
        if isinstance(member, type):
            members[name] = ["class", name]
        elif isinstance(member, property):
            members[name] = ["value", returned(member.fget)]
        elif callable(member):
            members[name] = ["call", returned(member)]
        else:
            members[name] = ["value", type(member).__name__]
    return members
classes = {name: described(thing) for name, thing in vars(module).items() if isinstance(thing, type)}
for thing in list(vars(module).values()):
    if isinstance(thing, type):
        inner = {n: m for n, m in vars(thing).items() if isinstance(m, type)}
        classes.update({name: described(member) for name, member in inner.items() if name not in classes})
print(json.dumps({"": described(module), **classes}))
"""
Api = dict[str, dict[str, tuple[str, str]]]
"""Class -> member -> (kind, type of its value or of what it returns); the module itself is the class with no name."""


def describe(module: str, path: Path, libraries: Path) -> Api:
    """Import a module in a process of its own. path: where it lies. libraries: a folder of shared libraries."""
    environment = {**os.environ, "PYTHONPATH": str(path), "LD_LIBRARY_PATH": str(libraries)}
    done = subprocess.run(
        [sys.executable, "-c", _DESCRIBE, module], capture_output=True, text=True, env=environment, timeout=300
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    found: Api = json.loads(done.stdout)
    return found


@dataclass
class Names:
    """used: ``Class.member`` of everything looked up, of the module with a bare ``member``. missing: those that are not
    there. lost: expressions on something from TensorRT whose type could not be followed."""

    used: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)


Kind = tuple[str, str]
"""("module", ""), ("class", C), ("instance", C), ("call", C that is returned), or ("lost", expression)."""


def names(source: str, api: Api) -> Names:
    """Everything that a module's source uses of TensorRT."""
    walker = _Walker(api)
    tree = ast.parse(source)
    for _ in range(4):  # until the types of arguments and attributes have got around
        walker.found = Names()
        walker.walk(tree)
    return walker.found


class _Walker:
    def __init__(self, api: Api) -> None:
        self.api = api
        self.found = Names()
        self._scope: dict[str, Kind] = {}
        self._attributes: dict[str, Kind] = {}
        self._arguments: dict[str, dict[int, Kind]] = {}

    def walk(self, node: ast.AST) -> None:
        if isinstance(node, ast.FunctionDef):
            outer, self._scope = self._scope, dict(self._scope)
            given = self._arguments.get(node.name, {})
            for index, argument in enumerate(node.args.args):
                self._scope.pop(argument.arg, None)
                if index in given:
                    self._scope[argument.arg] = given[index]
            for statement in node.body:
                self.walk(statement)
            self._scope = outer
        elif isinstance(node, ast.ClassDef):
            for base in map(self.type_of, node.bases):
                if base is not None and base[0] == "class":
                    for statement in node.body:
                        if isinstance(statement, ast.FunctionDef) and not statement.name.startswith("_"):
                            self.member(base[1], statement.name, ast.unparse(node.bases[0]))
            for statement in node.body:
                self.walk(statement)
        elif isinstance(node, ast.Assign):
            kind = self.type_of(node.value)
            for target in node.targets:
                if isinstance(target, ast.Name):
                    self._scope.pop(target.id, None)
                    if kind is not None:
                        self._scope[target.id] = kind
                elif isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
                    if kind is not None:
                        self._attributes[target.attr] = kind
                else:
                    self.walk(target)
                    if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                        self.unpack(target, node.value)
        elif isinstance(node, ast.expr):
            self.type_of(node)
        else:
            for child in ast.iter_child_nodes(node):
                self.walk(child)

    def unpack(self, targets: ast.Tuple, values: ast.Tuple) -> None:
        for target, value in zip(targets.elts, values.elts, strict=True):
            kind = self.type_of(value)
            if isinstance(target, ast.Name) and kind is not None:
                self._scope[target.id] = kind

    def type_of(self, node: ast.expr) -> Kind | None:
        if isinstance(node, ast.Name):
            return ("module", "") if node.id == "trt" else self._scope.get(node.id)
        if isinstance(node, ast.Attribute):
            if node.attr == "trt":
                return ("module", "")
            if isinstance(node.value, ast.Name) and node.value.id == "self":
                return self._attributes.get(node.attr)
            base = self.type_of(node.value)
            if base is None:
                return None
            if base[0] in ("lost", "call"):
                self.found.lost.add(ast.unparse(node))
                return None
            return self.member(base[1], node.attr, ast.unparse(node))
        if isinstance(node, ast.Call):
            return self.call(node)
        for child in ast.iter_child_nodes(node):
            self.walk(child)
        return None

    def call(self, node: ast.Call) -> Kind | None:
        called = self.type_of(node.func)
        given = [self.type_of(argument) for argument in node.args]
        for keyword in node.keywords:
            self.walk(keyword.value)
        if isinstance(node.func, ast.Name) and called is None:
            known = {index: kind for index, kind in enumerate(given) if kind is not None}
            self._arguments.setdefault(node.func.id, {}).update(known)
        if called is None or called[0] == "lost":
            return None
        if called[0] == "class":
            return ("instance", called[1])
        return self.instance(called[1], ast.unparse(node))

    def member(self, owner: str, name: str, expression: str) -> Kind | None:
        label = f"{owner}.{name}" if owner else name
        self.found.used.add(label)
        there = self.api[owner].get(name)
        if there is None:
            self.found.missing.add(label)
            return None
        kind, result = there
        return ("class", result) if kind == "class" else ("call", result) if kind == "call" else self.instance(result, expression)

    def instance(self, result: str, expression: str) -> Kind | None:
        for name in (result, result.removeprefix("I")):  # a few are documented by their C++ name
            if name in self.api:
                return ("instance", name)
        plain = ("int", "bool", "str", "bytes", "None", "float", "list", "List", "capsule", "function", "type")
        return None if result in plain else ("lost", expression)


def flags(api: Api) -> set[str]:
    """The builder flags of a version."""
    return {name for name, (kind, type_) in api["BuilderFlag"].items() if (kind, type_) == ("value", "BuilderFlag")}


def cuda_names(source: str) -> set[str]:
    """What a source uses of CUDA's runtime API, as dotted names from the module on: whatever attribute begins with cuda."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        text = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        parts: list[Any] = text.split(".")
        first = next((i for i, part in enumerate(parts) if part.startswith("cuda") and part != "cuda"), None)
        if first is not None and first > 0:
            found.add(".".join(parts[first:]))
    return found
