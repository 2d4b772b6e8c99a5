"""Puts measured tables and plots into docs/performance.md, between the markers of each benchmark.

python benchmarks/performance_page.py                    # from runs/benchmarks, where the scripts write
python benchmarks/performance_page.py --results elsewhere
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
_SECTION = re.compile(r"(<!-- (\w+):begin -->\n).*?(<!-- \2:end -->)", re.DOTALL)


def fill(text: str, results: Path, plots: Path) -> tuple[str, list[str]]:
    """Replace what stands between the markers of those benchmarks that have results.

    Args:
        text: the page.
        results: folder with ``<name>.json``, ``.md`` and ``.png``.
        plots: folder that plots are copied to, next to the page.

    Returns:
        The new page and the names of the sections that were filled.
    """
    filled = []

    def section(match: re.Match[str]) -> str:
        name = match[2]
        if not (results / f"{name}.json").exists():
            return match[0]
        filled.append(name)
        return match[1] + content(name, results, plots) + match[3]

    return _SECTION.sub(section, text), filled


def content(name: str, results: Path, plots: Path) -> str:
    """Return the command, the machine, the tables and the plot of one benchmark."""
    described = json.loads((results / f"{name}.json").read_text(encoding="utf-8"))
    tables = (results / f"{name}.md").read_text(encoding="utf-8").partition("\n\n")[2].strip()
    parts = [f"```bash\n{described['command']}\n```", machine_line(described), tables]
    if (results / f"{name}.png").exists():
        plots.mkdir(exist_ok=True)
        shutil.copyfile(results / f"{name}.png", plots / f"{name}.png")
        parts.append(f"![{name.replace('_', ' ')}]({plots.name}/{name}.png)")
    return "\n\n".join(parts) + "\n"


def machine_line(described: dict[str, Any]) -> str:
    """Return what the numbers were measured on."""
    machine = described["machine"]
    text = f"{machine['processor']}, {machine['cores']} cores, {machine['instructions']}, PyTorch {machine['torch']}"
    versions = [
        f"{package} {version}"
        for of in described.get("codes", {}).values()
        for package, version in of.items()
        if package in ("mace-torch", "nequip")
    ]
    load = machine.get("load_at_start")
    busy = f"; load of the machine at the start {load:.1f}" if load is not None else ""
    return ", ".join([text, *versions]) + busy + "."


def main() -> None:
    """Fill the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("runs/benchmarks"), help="folder of the results")
    args = parser.parse_args()
    page, filled = fill(PAGE.read_text(encoding="utf-8"), args.results, PAGE.parent / "plots")
    PAGE.write_text(page, encoding="utf-8")
    print(f"filled: {', '.join(filled) or 'nothing'} ({PAGE})")


if __name__ == "__main__":
    main()
