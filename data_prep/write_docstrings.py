"""Write the docstrings of the scripts in this folder from the recipes; a new recipe gets a script.

Run from the root of the repository, when a recipe changes:

    python data_prep/write_docstrings.py
"""

from __future__ import annotations

import textwrap
from pathlib import Path

from lam.data.recipes import MODULES, Recipe, get

FOLDER = Path(__file__).parent
WIDTH = 118
BODY = """
from __future__ import annotations

import sys

from lam.data.recipes.script import script

if __name__ == "__main__":
    sys.exit(script("{name}", __doc__))
"""
EXAMPLES = {
    "mptrj": "MPtrj_2022.9_full.json",
    "matpes": "MatPES-PBE-2025.1.json.gz",
    "matpes-pbe": "MatPES-PBE-2025.1.json.gz",
    "matpes-r2scan": "MatPES-R2SCAN-2025.1.json.gz",
    "spice2": "SPICE-2.0.1.hdf5",
    "ani1x": "ani1x-release.h5",
    "ani1x-tz": "ani1x-release.h5",
    "ani1ccx": "ani1x-release.h5",
    "ani2x": "ANI-2x-wB97X-631Gd.h5",
    "transition1x": "Transition1x.h5",
    "md17": "md17_aspirin.npz",
    "rmd17": "rmd17/npz_data/",
    "md22": "md22_DHA.npz",
    "sgdml": "peptide.npz",
    "deepmd": "systems/",
    "deepmd-hdf5": "openlam.hdf5",
    "extxyz": "train.extxyz",
    "mace": "train.xyz",
    "nequip": "train.xyz",
}
"""What the example of a script names; by default a folder."""
OPTIONS = {
    "mace": " -o data/r2scan --head r2scan --name r2scan",
    "nequip": " -o data/nequip --key my_energy=total_energy --key my_forces=forces",
}
"""A second example, of scripts with options of their own."""


def path_of(name: str) -> Path:
    """Return the script of a recipe."""
    return FOLDER / f"{name.replace('-', '_')}.py"


def docstring(recipe: Recipe) -> str:
    """Return what the script of a recipe states."""
    lines = [f"Convert {recipe.title.split(':')[0]} to shards and a manifest.", ""]
    if ":" in recipe.title:
        lines.append(_fill(recipe.title))
    if recipe.doi:
        lines.append(f"Source: https://doi.org/{recipe.doi}")
    lines += [_fill(f"Files: {recipe.files}"), _fill(f"Level of theory: {recipe.level_of_theory}")]
    lines += [_fill(f"Licence: {recipe.licence}"), ""]
    lines += ["Labels (what it becomes: key in the source, unit, sign or meaning):", ""]
    for label in recipe.labels:
        key = f"'{label.key}'" if label.key else "-"
        unit = f", {label.unit}" if label.unit else ""
        lines.append(_fill(f"{label.name}: {key}{unit}" + (f"; {label.sign}" if label.sign else ""), "    "))
    if recipe.notes:
        lines += ["", textwrap.fill(recipe.notes, WIDTH, break_long_words=False, break_on_hyphens=False)]
    command = f"    python data_prep/{path_of(recipe.name).name} {EXAMPLES.get(recipe.name, f'{recipe.name}/')}"
    lines += ["", f"{command} -o data/{recipe.name}"]
    if recipe.name in OPTIONS:
        lines.append(command + OPTIONS[recipe.name])
    return "\n".join(lines) + "\n"


def script_text(recipe: Recipe) -> str:
    """Return the script of a recipe with the docstring as it should be; its code stays."""
    path = path_of(recipe.name)
    code = BODY.format(name=recipe.name)
    if path.is_file():
        code = path.read_text(encoding="utf-8").split('"""', 2)[2].removeprefix("\n")
    return f'"""{docstring(recipe)}"""\n{code}'


def _fill(text: str, indent: str = "") -> str:
    following = indent + "    "
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=following,
        break_long_words=False,
        break_on_hyphens=False,
    )


def main() -> None:
    """Write all scripts."""
    for name in MODULES:
        path_of(name).write_text(script_text(get(name)), encoding="utf-8")
    print(f"{len(MODULES)} scripts")


if __name__ == "__main__":
    main()
