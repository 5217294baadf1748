"""Import every module of ours, so that Python writes the bytecode of what is used; most modules of the packages are not.

It ends with exit code 1 if an import fails, as after kubernetes/image/trim_packages.sh has removed too much.
"""

import sys
from importlib import import_module
from pkgutil import walk_packages

PACKAGES = ("cli", "components", "models", "pipeline", "serving", "tour")


def main() -> None:
    """Import all modules and print how many are loaded."""
    for package in PACKAGES:
        for module in walk_packages(import_module(package).__path__, f"{package}."):
            import_module(module.name)
    print(f"{len(sys.modules)} modules are imported")


if __name__ == "__main__":
    main()
