"""Reword source files, to test that wording changes no digest."""

import ast
from pathlib import Path


def reword(path: Path) -> None:
    """Change every docstring of a module, add comments and blank lines, and reformat it."""
    module = ast.parse(path.read_text())
    for node in ast.walk(module):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = [ast.Expr(ast.Constant("Other words."))]
            node.body = text + (node.body[1:] if ast.get_docstring(node) else node.body)
    path.write_text("# A comment.\n\n\n" + ast.unparse(ast.fix_missing_locations(module)) + "\n\n\n# Another.\n")
