"""pyslang's view of one text; run as a script by `itercli.verifiers.slang`, inside the sandbox.

Nothing of this package is imported here: the guest sees this file and pyslang alone.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def look(code: str, *, elaborate: bool) -> dict[str, Any]:
    """Parse a text and, if asked, elaborate it.

    Returns:
        errors: Names of the syntax errors, the first five; `first`: the first with its line;
        does: whether it drives a value; unknown: modules that it instantiates and does not
        define (with `elaborate` alone).
    """
    from pyslang import SourceManager
    from pyslang.syntax import SyntaxTree

    try:
        tree = SyntaxTree.fromText(code, SourceManager(), "candidate", "candidate.sv")
    except RuntimeError:  # nested deeper than the parser's stack allows
        return {"errors": ["NestedTooDeeply"], "first": "nested too deeply", "does": False, "unknown": []}
    errors = [d for d in tree.diagnostics if d.isError()]
    names = [str(d.code).removeprefix("DiagCode(").removesuffix(")") for d in errors[:5]]
    first = f"line {tree.sourceManager.getLineNumber(errors[0].location)}: {names[0]}" if errors else ""
    does = not errors and _does_something(tree)
    unknown = _unknown(tree) if elaborate and not errors else []
    return {"errors": names, "first": first, "does": does, "unknown": unknown}


def _unknown(tree: Any) -> list[str]:
    import pyslang

    compilation = pyslang.ast.Compilation()
    compilation.addSyntaxTree(tree)
    found = set()
    for diagnostic in compilation.getAllDiagnostics():
        if "UnknownModule" in str(diagnostic.code):
            found.add(str(diagnostic.args[0]) if diagnostic.args else "?")
    return sorted(found)


def _does_something(tree: Any) -> bool:
    """Whether any module drives a value: an assignment, an initialised net, an instance."""
    from pyslang.syntax import SyntaxKind, SyntaxNode

    found = False
    in_net = False

    def visit(node: object) -> None:
        nonlocal found, in_net
        if found or not isinstance(node, SyntaxNode):
            return
        kind = node.kind
        name = kind.name
        if name == "NetDeclaration":
            in_net = True
        elif name.endswith(("Statement", "DataDeclaration", "ModuleDeclaration")):
            in_net = False
        found = (
            name.endswith("AssignmentExpression")
            or kind in (SyntaxKind.HierarchicalInstance, SyntaxKind.PrimitiveInstantiation)
            or (in_net and kind == SyntaxKind.EqualsValueClause)
        )

    tree.root.visit(visit)
    return found


def main() -> None:
    """Answer one question from standard input: the folder of pyslang, the text, whether to elaborate."""
    asked = json.loads(sys.stdin.buffer.read())
    sys.path.append(asked["path"])
    json.dump(look(asked["code"], elaborate=asked["elaborate"]), sys.stdout)


if __name__ == "__main__":
    main()
