"""Total charge and spin: absent where molecules are charged, or at odds with the number of electrons."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from lam.data.audit.check import Check, Context, View
from lam.data.audit.finding import Examples, Finding
from lam.data.audit.ledger import Ledger

ODD_SHARE = 0.5
"""Share of molecules with an odd number of electrons beyond which the set is probably of ions."""
F_ELEMENTS = (*range(57, 72), *range(89, 104))
WHOLE = 0.05  # e: partial charges that sum to a whole number within this are a total charge
_ION_WORDS = re.compile(
    r"(?<![a-z])(an|cat|di[ -]?an|di[ -]?cat|zwitter)?ions?(?![a-z])|(?<![a-z])(anionic|cationic|charged|protonated|"
    r"deprotonated)(?![a-z])|charge\s*[=:]?\s*[-+]\s*[1-9]",
    re.IGNORECASE,
)
_NEUTRAL_WORDS = re.compile(r"zwitterion|(not|un|non)[- ]?charged|solvent|charge\s*[=:]?\s*0", re.IGNORECASE)
_SMILES_ION = re.compile(r"\[[A-Za-z@0-9]+[+-][0-9+-]*(:[0-9]+)?\]")
_SALT = re.compile(r"^[A-Z][A-Za-z0-9]*[+-]{1,2}[0-9]?$")  # Na+, PF6-, Ca2+, but not "cell-"
_TEXT_KEYS = ("smiles", "name", "config_type", "group", "label", "id", "identifier", "subset", "formula")
_CHARGE_ARRAYS = ("charges", "initial_charges", "mulliken_charges", "hirshfeld_charges", "mbis_charges")


class State(Check):
    """What molecules state of charge and spin, and what speaks against it."""

    columns = {"electrons": ("i4", ())}

    def __init__(self) -> None:
        self.molecules = self.not_stated = 0
        self.odd, self.parity, self.named, self.partial = (Examples() for _ in range(4))

    def see(self, view: View) -> None:
        """Look at one molecule."""
        s = view.structure
        neutral = int(s.numbers.sum())
        view.put(electrons=neutral - round(s.total_charge or 0.0))
        self._look_at_names(view)
        if s.pbc.any():
            return
        self.molecules += 1
        self.not_stated += s.total_charge is None or s.spin_multiplicity is None
        if np.isin(s.numbers, F_ELEMENTS).any():
            return  # methods disagree on whether f electrons count
        odd = (neutral - round(s.total_charge or 0.0)) % 2 == 1
        if s.spin_multiplicity is None:
            if odd and s.total_charge is None and len(s) > 1:
                self.odd.add(view.name)
        elif s.spin_multiplicity in (range(1, 100, 2) if odd else range(2, 100, 2)):
            self.parity.add(view.name, f"{neutral - round(s.total_charge or 0)} electrons, {s.spin_multiplicity:g}")

    def _look_at_names(self, view: View) -> None:
        s = view.structure
        if s.total_charge is not None:
            return
        word = _ion_in(s.group, ("group",)) if s.group else ""
        if view.atoms is not None:
            word = word or _ion_in_info(view.atoms.info)
            for key in _CHARGE_ARRAYS:
                values = view.atoms.arrays.get(key)
                if values is not None and getattr(values, "shape", ()) == (len(s),):
                    total = float(np.sum(values))
                    if abs(total - round(total)) < WHOLE and round(total):
                        self.partial.add(view.name, f"{key} sum to {total:+.2f} e")
        if word:
            self.named.add(view.name, word)

    def judge(self, ledger: Ledger, context: Context) -> Iterator[Finding]:
        """Tell what is absent or impossible."""
        yield from self._judge_electrons()
        action = "state total_charge (e) and spin_multiplicity (2S+1), for each structure or for the whole data set"
        if self.partial:
            message = f"partial charges of {self.partial.count} structures sum to an ion's, but state no total charge"
            yield self.partial.finding("warning", "state", message, confidence=0.95, why="summed", action=action)
        if self.named:
            message = f"{self.named.count} structures are ions by name, but state no total charge"
            why = "names, SMILES or groups speak of ions"
            yield self.named.finding("warning", "state", message, confidence=0.8, why=why, action=action)
        about = " ".join(str(context.about.get(key, "")) for key in ("level_of_theory", "notes"))
        stated = np.isfinite(ledger["charge"]).any()
        told = _ION_WORDS.search(about)
        if told and not stated and not self.named and self.not_stated and not _NEUTRAL_WORDS.search(told.group()):
            message = f"the data set's description says '{told.group().strip()}', but no structure states a charge"
            yield Finding("warning", "state", message, (), self.not_stated, 0.8, "its notes speak of ions", action)
        if self.not_stated and not stated:
            text = "molecules do not state both total charge and spin multiplicity: 0 and 1 are assumed"
            yield Finding("note", "state", f"{self.not_stated} {text}", (), self.not_stated, 1.0, "counted", "")

    def _judge_electrons(self) -> Iterator[Finding]:
        if self.odd:
            share = self.odd.count / self.molecules
            text = "molecules have an odd number of electrons, but state neither charge nor multiplicity"
            hint = " (most of the data set: probably ions)" if share > ODD_SHARE else ""
            yield self.odd.finding(
                "warning",
                "state",
                f"{self.odd.count} {text}: ions or radicals?{hint}",
                confidence=0.9,
                why="neutral molecules with an odd number of electrons are radicals, or ions whose charge is lost",
                action="state total_charge and spin_multiplicity of these",
            )
        if self.parity:
            yield self.parity.finding(
                "error",
                "state",
                f"{self.parity.count} molecules state a spin multiplicity that their number of electrons forbids",
                confidence=0.99,
                why="an even number of electrons has an odd multiplicity, and the other way round",
                action="correct charge or multiplicity (is it 2S+1, or the number of unpaired electrons?)",
            )


def _ion_in_info(info: dict[str, Any]) -> str:
    for key, value in info.items():
        if isinstance(value, str) and key.lower() in _TEXT_KEYS and (word := _ion_in(value, (key.lower(),))):
            return word
    return ""


def _ion_in(text: str, keys: tuple[str, ...]) -> str:
    """Return what in a name speaks of a net charge, or nothing."""
    text = str(text)
    smiles = _SMILES_ION.findall(text) if "[" in text else []
    if smiles:
        balance = sum(_smiles_charge(match.group()) for match in _SMILES_ION.finditer(text))
        return f"{text[:40]}" if balance else ""
    if _SALT.match(text) and "smiles" not in keys:
        return text[:40]
    spoken = text.replace("_", " ")
    match = _ION_WORDS.search(spoken)
    return text[:40] if match and not _NEUTRAL_WORDS.search(spoken) else ""


def _smiles_charge(bracket: str) -> int:
    match = re.search(r"([+-])([0-9]*)", bracket.split(":")[0])
    if not match:
        return 0
    sign = 1 if match.group(1) == "+" else -1
    count = int(match.group(2)) if match.group(2) else len(re.findall(re.escape(match.group(1)), bracket))
    return sign * count
