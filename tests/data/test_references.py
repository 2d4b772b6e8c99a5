"""Reference energies: exact where the data determines them, near the prior where not, and said so."""

import numpy as np
import pytest

from lam.data.references import composition_matrix, fit_reference_energies, reference_report
from lam.errors import LamError

H, C, O = 1, 6, 8  # noqa: E741
TRUE = {H: -13.6, C: -1030.0, O: -2040.0}


def _compositions(*rows):
    return composition_matrix([np.repeat([H, C, O], row) for row in rows])


def _energies(compositions):
    return compositions @ np.array([TRUE.get(z, 0.0) for z in range(119)])


def test_recovers_energies_that_are_determined():
    x = _compositions((4, 1, 0), (2, 0, 1), (0, 1, 2), (6, 2, 1), (100, 50, 1))
    fit = fit_reference_energies(x, _energies(x))
    np.testing.assert_allclose(fit.energies[[H, C, O]], list(TRUE.values()), rtol=1e-5)
    assert fit.rank == fit.n_elements == 3 and fit.determined
    assert fit.residual_rms < 1e-2
    assert fit.counts[[H, C, O]].tolist() == [4, 4, 4]
    assert H not in fit.uncovered and 2 in fit.uncovered and len(fit.uncovered) == 115
    assert not fit.energies[fit.uncovered].any()


def test_one_composition_determines_one_combination():
    x = _compositions((2, 0, 1), (4, 0, 2))
    fit = fit_reference_energies(x, _energies(x))
    assert (fit.rank, fit.n_elements, fit.determined) == (1, 2, False)
    assert 2 * fit.energies[H] + fit.energies[O] == pytest.approx(2 * TRUE[H] + TRUE[O], rel=1e-8)
    assert any("rank 1 of 2" in line for line in reference_report(fit, name="water"))


def test_isolated_atoms_fill_what_compositions_leave_open():
    x = _compositions((2, 0, 1), (4, 0, 2))
    fit = fit_reference_energies(x, _energies(x) - 1.5 * x.sum(axis=1), isolated={H: TRUE[H], O: TRUE[O]})
    binding = fit.energies[[H, O]] - [TRUE[H], TRUE[O]]
    # The correction is the smallest that fits: along the composition.
    np.testing.assert_allclose(binding, np.array([2.0, 1.0]) * (-4.5 / 5.0), rtol=1e-5)


def test_a_prior_holds_where_no_data_is():
    prior = np.zeros(119)
    prior[[C, 79]] = -5.0
    x = _compositions((2, 0, 1))
    fit = fit_reference_energies(x, _energies(x), prior=prior)
    assert fit.energies[C] == fit.energies[79] == -5.0 and C in fit.uncovered


def test_a_strong_ridge_stays_at_the_prior():
    x = _compositions((4, 1, 0), (2, 0, 1), (0, 1, 2))
    fit = fit_reference_energies(x, _energies(x), isolated=TRUE | {H: -20.0}, ridge=1e8)
    assert fit.energies[H] == pytest.approx(-20.0, abs=1e-3)


def test_structures_weigh_the_same_per_atom():
    # Two inconsistent energies per atom of carbon: the large structure must not outweigh the small one.
    x = _compositions((0, 1, 0), (0, 1000, 0))
    fit = fit_reference_energies(x, np.array([-1.0, -3.0 * 1000]))
    assert fit.energies[C] == pytest.approx(-2.0)
    assert fit.residual_rms == pytest.approx(1.0)


def test_report_names_energies_and_uncovered_elements():
    x = _compositions((4, 1, 0), (2, 0, 1), (0, 1, 2))
    text = "\n".join(reference_report(fit_reference_energies(x, _energies(x)), name="demo"))
    assert "demo" in text and "rank 3 of 3" in text and "-2040" in text and "115" in text


def test_no_energies_is_an_error():
    with pytest.raises(LamError, match="energy label"):
        fit_reference_energies(np.zeros((0, 119)), np.zeros(0))
