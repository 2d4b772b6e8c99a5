"""Transition1x: configurations along reaction paths found with nudged elastic bands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py

from lam.data.recipes.base import Label, Part, Recipe, files_with
from lam.data.recipes.common import check_numbers, molecule_frames, singlet_if_even
from lam.data.recipes.hdf5 import SUFFIXES, cut_groups, dataset, open_hdf5, whole
from lam.data.recipes.hdf5 import read as read_array
from lam.data.structure import Structure
from lam.errors import LamError

_ENERGY = "wB97x_6-31G(d).energy"
_FORCES = "wB97x_6-31G(d).forces"
_DATA = "data"  # all reactions; train, val and test link to the same ones
_ENDS = ("reactant", "product")


def parts(path: Path) -> Iterator[Part]:
    """Cut the file into parts; ``start`` and ``stop`` count reactions."""
    with open_hdf5(path) as file:
        data = _data(file, path)
        yield from cut_groups(path, (_length(data[formula][reaction]) for formula, reaction in _reactions(data)))


def read(part: Part) -> Iterator[Structure | LamError]:
    """Yield the reactant, the product and the configurations of some reactions."""
    with open_hdf5(part.path) as file:
        data = _data(file, part.path)
        for formula, reaction in list(_reactions(data))[part.start : part.stop]:
            group, where = data[formula][reaction], f"{part.path.name}/{formula}/{reaction}"
            try:
                for end in _ENDS:
                    if end in group:
                        yield from _configurations(group[end], f"{where}/{end}", formula, group)
                yield from _configurations(group, where, formula, group)
            except LamError as error:
                yield error


def _data(file: h5py.File, path: Path) -> h5py.Group:
    data = file.get(_DATA)
    if not isinstance(data, h5py.Group):
        raise LamError(
            f"'{path}' has no group '{_DATA}' (it has {', '.join(file) or 'nothing'}); is this Transition1x?"
        )
    return data


def _reactions(data: h5py.Group) -> Iterator[tuple[str, str]]:
    for formula in data:
        for reaction in data[formula]:
            yield formula, reaction


def _length(group: h5py.Group) -> int:
    return group["positions"].shape[0] if "positions" in group else 1


def _configurations(
    group: h5py.Group, where: str, formula: str, reaction: h5py.Group
) -> Iterator[Structure | LamError]:
    # The reactant and the product have the atomic numbers of their own, or share those of the reaction.
    owner = group if "atomic_numbers" in group else reaction
    numbers = check_numbers(whole(dataset(owner, "atomic_numbers", where)), where)
    frames = dataset(group, "positions", where).shape[0]
    shape = (frames, len(numbers), 3)
    yield from molecule_frames(
        numbers,
        read_array(group, "positions", shape, where),
        read_array(group, _ENERGY, (frames,), where),
        read_array(group, _FORCES, shape, where),
        name=where,
        group=formula,
        charge=0.0,
        multiplicity=singlet_if_even(numbers, 0.0),
    )


TRANSITION1X = Recipe(
    name="transition1x",
    title="Transition1x: configurations along 1e4 organic reaction paths (9.6e6, H, C, N, O)",
    level_of_theory="wB97X/6-31G(d), ORCA",
    licence="MIT",
    doi="10.1038/s41597-022-01870-w",
    files="Transition1x.h5 from figshare, 10.6084/m9.figshare.19614657.",
    labels=(
        Label("positions", "positions", "Angstrom"),
        Label("energy", _ENERGY, "eV", "total energy; .atomization_energy is not read"),
        Label("forces", _FORCES, "eV/Angstrom"),
        Label("total_charge", "", "e", "not in the file; all reactions are neutral"),
        Label("spin_multiplicity", "", "", "not in the file; singlets"),
    ),
    find=files_with(*SUFFIXES),
    parts=parts,
    read=read,
    notes="The group is the formula, not the reaction: many reactions share their reactant. The group 'data' holds all "
    "reactions, 'train', 'val' and 'test' link to them and are not read again. The transition state is among the "
    "configurations of its reaction and is not read twice. That all are neutral singlets is not stated in the file.",
)

RECIPES = (TRANSITION1X,)
