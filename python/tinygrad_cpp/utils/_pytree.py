"""Nested lists, tuples and dicts as flat lists of their leaves."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class TreeSpec:
    """How the leaves are nested."""

    type: Any
    context: Any
    children_specs: list[TreeSpec]

    @property
    def num_leaves(self) -> int:
        return 1 if self.type is None else sum(c.num_leaves for c in self.children_specs)


def _children(tree: Any) -> tuple[Any, list[Any]] | None:
    """What a container needs besides its items to be made again, and the items; None for a leaf."""
    if isinstance(tree, (dict, OrderedDict)):
        return list(tree), list(tree.values())
    if isinstance(tree, (list, tuple)):
        return type(tree) if hasattr(tree, "_fields") else None, list(tree)
    return None


def tree_flatten(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> tuple[list[Any], TreeSpec]:
    """The leaves in order, and how they are nested."""
    found = None if is_leaf is not None and is_leaf(tree) else _children(tree)
    if found is None:
        return [tree], TreeSpec(None, None, [])
    leaves, specs = [], []
    for child in found[1]:
        inner, spec = tree_flatten(child, is_leaf)
        leaves += inner
        specs.append(spec)
    return leaves, TreeSpec(type(tree), found[0], specs)


def tree_unflatten(leaves: Any, treespec: TreeSpec) -> Any:
    """The nesting with other leaves."""
    return _build(iter(leaves), treespec)


def _build(leaves: Any, spec: TreeSpec) -> Any:
    if spec.type is None:
        return next(leaves)
    items = [_build(leaves, child) for child in spec.children_specs]
    if issubclass(spec.type, dict):
        return spec.type(zip(spec.context, items, strict=True))
    return spec.type(*items) if spec.context is not None else spec.type(items)


def tree_leaves(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> list[Any]:
    """The leaves in order."""
    return tree_flatten(tree, is_leaf)[0]


def tree_map(func: Callable[..., Any], tree: Any, *rests: Any, is_leaf: Callable[[Any], bool] | None = None) -> Any:
    """The nesting with func applied to every leaf, and to those of other trees at its place."""
    leaves, spec = tree_flatten(tree, is_leaf)
    others = [tree_leaves(r, is_leaf) for r in rests]
    return tree_unflatten([func(*items) for items in zip(leaves, *others, strict=True)], spec)


def tree_map_only(kind: Any, func: Callable[[Any], Any], tree: Any) -> Any:
    """tree_map for leaves of one type; the others stay."""
    return tree_map(lambda x: func(x) if isinstance(x, kind) else x, tree)
