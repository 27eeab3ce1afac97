"""What a constraint says: an expression over paths, evaluated by simpleeval, which runs no other code."""

import ast
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from simpleeval import EvalWithCompoundTypes, InvalidExpression

from ristune.errors import InputError

FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **{function.__name__: function for function in (abs, float, int, len, max, min, round)},
    **{function.__name__: function for function in (math.log, math.log2, math.log10, math.sqrt)},
}
# To Python `a < 1 & b < 2` is `a < (1 & b) < 2`.
_BITWISE = (ast.BitAnd, ast.BitOr, ast.BitXor, ast.Invert)


@dataclass(frozen=True)
class Outcome:
    """What an expression gave.

    Attributes:
        holds: whether it is true.
        fault: why it gave no truth value; else empty.
        mistaken: whether the fault is of the expression, and not of these values (a division by zero).
    """

    holds: bool
    fault: str = ""
    mistaken: bool = False


def paths_of(text: str) -> tuple[str, ...]:
    """The paths that a constraint reads, each once.

    Raises:
        InputError: if the text is no expression over paths.
    """
    return _compiled(text).paths


def evaluate(text: str, values: Mapping[str, Any]) -> Outcome:
    """A constraint at a point.

    Args:
        text: of the constraint.
        values: of all paths that it reads.

    Raises:
        InputError: if the text is no expression over paths.
    """
    expression = _compiled(text)
    expression.evaluator.names = values
    try:
        found = expression.evaluator.eval(text, previously_parsed=expression.node)
    except (ArithmeticError, ValueError) as error:
        return Outcome(False, str(error))
    # What simpleeval leaves to Python: a comparison of text with a number, an index that is not there.
    except (InvalidExpression, TypeError, LookupError) as error:
        return Outcome(False, str(error), mistaken=True)
    if not isinstance(found, bool):
        return Outcome(False, f"it gives {found!r}, which is neither true nor false", mistaken=True)
    return Outcome(found)


@dataclass(frozen=True)
class _Expression:
    node: ast.expr
    paths: tuple[str, ...]
    evaluator: EvalWithCompoundTypes


class _Flat(ast.NodeTransformer):
    """Makes one name of each dotted path, so that no attribute of any object is ever looked up."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.paths: dict[str, None] = {}

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        parts: list[str] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
            inner = inner.value
        if not isinstance(inner, ast.Name):
            raise _refused(self.text, f"it must be of paths and values, and {ast.unparse(node)!r} is neither")
        path = ".".join([inner.id, *reversed(parts)])
        self.paths[path] = None
        return ast.copy_location(ast.Name(path, ast.Load()), node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        self.paths[node.id] = None
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS:
            known = ", ".join(sorted(FUNCTIONS))
            raise _refused(self.text, f"its functions must be of {known}, and are {ast.unparse(node.func)!r}")
        node.args = [self.visit(argument) for argument in node.args]
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, _BITWISE):
            raise _refused(self.text, "its parts must be joined by and, or, not")
        return super().generic_visit(node)


@lru_cache(maxsize=256)
def _compiled(text: str) -> _Expression:
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        raise _refused(text, f"it must be an expression ({error.msg})") from error
    flat = _Flat(text)
    node = flat.visit(tree.body)
    return _Expression(node, tuple(flat.paths), EvalWithCompoundTypes(functions=dict(FUNCTIONS)))


def _refused(text: str, rule: str) -> InputError:
    return InputError(
        "space: constraints", text, rule, "write it like 'training.batch_size * task.width <= 4096'"
    )
