"""`lam data split`: hold out groups, compositions, prototypes, elements or sizes, and look for leaks."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lam.errors import LamError

if TYPE_CHECKING:
    from lam.data.audit import Finding
    from lam.data.describe import DataInput
    from lam.data.manifest import DatasetSpec, Manifest
    from lam.data.split_report import SplitReport
    from lam.data.splits import Split, SplitSpec
    from lam.data.stream_splits import CodedSplit

BY = ("group", "composition", "prototype", "element", "size", "block")
SAMPLE = 20_000
EPILOG = """examples:
  lam data split data/manifest.yaml --by composition
  lam data split data/manifest.yaml --by element --elements Li,Mg -o data/no-li.yaml
  lam data split data/omat24 --by prototype --test 0.05 -o data/split.yaml
  lam data split labels.extxyz --by size --max-atoms 32 -o parts

exit status: 0 if nothing leaks, 1 if something does (the split is written nevertheless), 2 if none was made."""


def add_parser(actions: argparse._SubParsersAction) -> None:
    """Add the action `split`."""
    split = actions.add_parser(
        "split",
        help="divide into train, val and test: by group, composition, prototype, element, size",
        description="Divide data into train, val and test, the same on every machine, and look for what leaks between "
        "them. A manifest is written with the split, which training and evaluation then make; an extended XYZ file is "
        "divided into files.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    split.add_argument("input", type=Path, metavar="INPUT", help="a manifest, shard, folder of shards or extxyz file")
    split.add_argument("--by", choices=BY, default="group", help="what is held out as a whole (default: group)")
    split.add_argument("--test", type=float, default=0.1, help="fraction for the test (default 0.1)")
    split.add_argument("--val", type=float, default=0.05, help="fraction for validation (default 0.05)")
    split.add_argument("--seed", type=int, default=0, help="changes what is held out (default 0)")
    split.add_argument("--elements", metavar="Li,Mg", help="with --by element: the test is all structures with these")
    split.add_argument("--max-atoms", type=int, metavar="N", help="with --by size: the test is all larger structures")
    split.add_argument("--only", metavar="NAMES", help="of a manifest, split these data sets (a,b); others stay")
    split.add_argument("-o", "--out", type=Path, help="manifest (default: the one given), or folder for extxyz files")
    split.add_argument("--force", action="store_true", help="overwrite files")
    split.add_argument("--sample", type=int, default=SAMPLE, metavar="N", help="look for leaks in N structures (20000)")
    split.add_argument("--no-check", action="store_true", help="do not compare structures; groups are counted anyway")
    split.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(args: argparse.Namespace) -> int:
    """`lam data split`: 0 if nothing leaks, 1 if something does."""
    import json

    from lam.data.convert import MANIFEST
    from lam.data.shards import is_shard
    from lam.data.splits import SplitSpec

    if args.sample < 1:
        raise LamError(f"--sample {args.sample} looks at nothing; give a number of structures.")
    if not args.input.exists():
        raise LamError(f"There is no file or folder '{args.input}'.")
    elements = [word for word in (args.elements or "").replace(",", " ").split() if word]
    spec = SplitSpec.parse(
        {"by": args.by, "test": args.test, "val": args.val, "seed": args.seed}
        | ({"elements": elements} if elements else {})
        | ({"max_atoms": args.max_atoms} if args.max_atoms is not None else {})
    )
    if args.input.suffix.lower() in (".yaml", ".yml") or (args.input / MANIFEST).is_file() or is_shard(args.input):
        results, written = _split_manifest(args, spec)
    else:
        results, written = _split_file(args, spec)
    if args.json:
        report = [values | {"leaks": [f.to_dict() for f in found or []]} for values, found in results["json"]]
        print(json.dumps({"datasets": report, "written": [str(path) for path in written]}, indent=2))
    else:
        print(f"written: {', '.join(str(path) for path in written)}")
    return 1 if results["leaking"] else 0


def _split_manifest(args: argparse.Namespace, spec: SplitSpec) -> tuple[dict[str, Any], list[Path]]:
    """Write a manifest with the split; nothing is written if a data set cannot be split so."""
    from lam.data.describe import DataInput
    from lam.data.manifest import save_manifest
    from lam.data.shards import open_shard
    from lam.data.split_files import refuse_to_overwrite
    from lam.data.split_report import blocks_of, summarize
    from lam.data.stream_splits import split_shard

    manifest, target, own = _manifest_of(args)
    if target.resolve() != own and not args.force:
        refuse_to_overwrite([target])
    chosen = _chosen(manifest, args.only)
    changed = {each.name: each.model_copy(update={"split": spec}) for each in chosen}
    done = []
    for each in changed.values():
        shard = open_shard(each.path)
        try:
            split = split_shard(shard, spec)
        except LamError as error:
            others = " Split the others with --only." if len(changed) > 1 else ""
            raise LamError(f"'{each.name}': {error}{others}") from None
        report = summarize(each.name, blocks_of(shard), split, spec)
        done.append((DataInput(each.name, each.path, each), split, report))
    if spec.by in ("element", "size") and not any(report.parts[2].structures for _, _, report in done):
        raise LamError(f"{_first_upper(done[0][2].remarks[0])}. Nothing was written.")
    datasets = [changed.get(each.name, each) for each in manifest.datasets]
    save_manifest(manifest.model_copy(update={"datasets": datasets}), target)
    return _tell(args, spec, done), [target]


def _manifest_of(args: argparse.Namespace) -> tuple[Manifest, Path, Path | None]:
    """Return the manifest, where the new one goes, and the path of the old one."""
    from lam.data.convert import MANIFEST
    from lam.data.manifest import DatasetSpec, Manifest, load_manifest
    from lam.data.shards import is_shard, open_shard

    out = args.out
    if out is not None and out.suffix.lower() not in (".yaml", ".yml"):
        out = out / MANIFEST
    if is_shard(args.input):
        if out is None:
            raise LamError("Name the manifest that states the split of a shard: -o FILE.yaml.")
        shard = open_shard(args.input)
        about = {key: str(shard.attributes[key]) for key in _FACTS if shard.attributes.get(key)}
        entry = DatasetSpec.parse({"name": _name_of(args.input), "path": args.input.resolve(), **about})
        return Manifest(datasets=[entry]), out, None
    own = args.input / MANIFEST if args.input.is_dir() else args.input
    return load_manifest(own), out or own, own.resolve()


_FACTS = ("level_of_theory", "licence", "source")


def _name_of(path: Path) -> str:
    name = path.resolve().name if path.is_dir() else path.stem
    return "".join("-" if letter in " ./" else letter for letter in name) or "data"


def _chosen(manifest: Manifest, only: str | None) -> list[DatasetSpec]:
    names = [word for word in (only or "").replace(",", " ").split() if word]
    return manifest.select(names).datasets if names else manifest.datasets


def _split_file(args: argparse.Namespace, spec: SplitSpec) -> tuple[dict[str, Any], list[Path]]:
    """Write train.extxyz, val.extxyz and test.extxyz."""
    import numpy as np

    from lam.data.describe import DataInput
    from lam.data.readers import read_structures, stem
    from lam.data.references import WIDTH
    from lam.data.split_files import outputs, refuse_to_overwrite, write_parts
    from lam.data.split_report import summarize
    from lam.data.splits import assign_splits
    from lam.data.stream_xyz import is_xyz

    if args.input.is_dir() or not is_xyz(args.input):
        raise LamError(f"'{args.input}' is no extended XYZ file, manifest or shard; make one: lam data convert.")
    if args.out is None:
        raise LamError("Name a folder for the files: -o FOLDER.")
    if args.only:
        raise LamError("--only chooses data sets of a manifest; a file is split as a whole.")
    if args.out.is_file():
        raise LamError(f"'{args.out}' is a file; name a folder for train, val and test.")
    paths = list(outputs(args.out).values())
    if args.input.resolve() in [path.resolve() for path in paths]:
        raise LamError(f"'{args.input}' would be overwritten by a part of itself; name another folder.")
    if not args.force:
        refuse_to_overwrite(paths)
    groups, rows = [], []
    for structure in read_structures(args.input):
        groups.append(structure.group)
        rows.append(np.bincount(structure.numbers, minlength=WIDTH).astype(np.int32))
    compositions = np.stack(rows)
    split = assign_splits(groups, spec, compositions)
    report = summarize(stem(args.input), [(np.array(groups, dtype=object), compositions)], split, spec)
    if spec.by in ("element", "size") and not report.parts[2].structures:
        raise LamError(f"{_first_upper(report.remarks[0])}. Nothing was written.")
    written = write_parts(args.input, split, spec, args.out)
    return _tell(args, spec, [(DataInput(stem(args.input), args.input), split, report)]), list(written.values())


def _tell(
    args: argparse.Namespace, spec: SplitSpec, done: list[tuple[DataInput, Split | CodedSplit, SplitReport]]
) -> dict[str, Any]:
    """Print each data set, and look for leaks."""
    from lam.data.split_report import leaks

    results: dict[str, Any] = {"json": [], "leaking": False}
    for data, split, report in done:
        found, looked = (None, {}) if args.no_check else leaks(data, split, sample=args.sample)
        kind = spec.by if spec.by in report.shared else "group"
        suspicious = [finding for finding in found or [] if finding.suspicious]
        results["leaking"] |= bool(suspicious or report.shared[kind])
        results["json"].append((report.to_dict() | {"looked_at": looked}, found))
        if not args.json:
            _print(report, spec, kind, found, looked)
    return results


def _print(
    report: SplitReport, spec: SplitSpec, kind: str, found: list[Finding] | None, looked: dict[str, int]
) -> None:
    from rich.table import Table

    from lam.cli.console import make_console

    console = make_console(markup=False, highlight=False, soft_wrap=True)
    asked = {"element": " " + ",".join(spec.elements), "size": f" above {spec.max_atoms} atoms"}.get(spec.by, "")
    console.print(f"{report.name}: by {spec.by}{asked}, seed {spec.seed}")
    table = Table(box=None, header_style="bold")
    for name in ("part", "structures", "share", "atoms", "largest", "groups", "compositions", "prototypes"):
        table.add_column(name, justify="left" if name == "part" else "right")
    table.add_column("elements", overflow="fold")
    total = sum(part.structures for part in report.parts)
    for part in report.parts:
        symbols = " ".join(part.elements) if len(part.elements) <= 8 else f"{len(part.elements)} elements"
        share = f"{part.structures / max(total, 1):.1%}"
        counts = (part.structures, share, part.atoms, part.largest, part.groups, part.compositions, part.prototypes)
        table.add_row(part.name, *map(str, counts), symbols)
    console.print(table)
    lines = [f"  note: {remark}" for remark in report.remarks]
    if report.unseen:
        lines.append(f"  note: not trained on, but held out: {' '.join(report.unseen)}")
    shared = report.shared[kind]
    lines.append(f"  {f'LEAK: {shared}' if shared else 'no'} {kind}(s) on more than one side (of all structures)")
    if kind != "group" and report.shared["group"]:
        lines.append(f"  note: {report.shared['group']} group(s) have structures on more than one side")
    for finding in found or []:
        lines.append(f"  {'LEAK' if finding.suspicious else 'note'}: {finding.message}")
    if found is not None:
        seen = ", ".join(f"{looked[part.name]} of {part.structures} {part.name}" for part in report.parts)
        clean = not any(finding.suspicious for finding in found)
        lines.append(f"  {'no structure or neighbouring frame on both sides' if clean else 'looked at'}: {seen}")
    for line in lines:
        console.print(line, style="yellow" if "LEAK" in line else None)


def _first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]
