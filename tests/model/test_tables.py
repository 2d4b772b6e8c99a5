"""Tables that are saved with the weights must be those of the harmonics that compute the messages."""

from __future__ import annotations

import pytest
import torch

from lam.errors import LamError
from lam.model.angular import coupling, quadrature
from lam.model.product import NodeProduct


def test_coefficients_do_not_depend_on_the_grid() -> None:
    finer = quadrature(3)[0][:, :4], quadrature(3)[1][:4]  # the rule of l = 3, for l <= 1
    torch.testing.assert_close(coupling(*finer), coupling(*quadrature(1)), atol=1e-13, rtol=0)


def test_the_same_product_by_another_rule_is_loaded() -> None:
    product, weights = NodeProduct(2, 4), NodeProduct(2, 4).state_dict()
    order = torch.randperm(len(weights["to_grid.value"]), generator=torch.Generator().manual_seed(0))
    weights["to_grid.value"], weights["from_grid.value"] = (
        weights["to_grid.value"][order],
        weights["from_grid.value"][:, order],
    )
    product.load_state_dict(weights)
    assert torch.equal(product.to_grid(), weights["to_grid.value"])


@pytest.mark.parametrize("change", ["sign", "order", "not a number"])
def test_tables_of_other_harmonics_are_refused(change: str) -> None:
    product, weights = NodeProduct(2, 4), NodeProduct(2, 4).state_dict()
    to_grid, from_grid = weights["to_grid.value"].clone(), weights["from_grid.value"].clone()
    if change == "sign":
        to_grid[:, 2] *= -1.0
        from_grid[2] *= -1.0
    elif change == "order":
        to_grid, from_grid = to_grid[:, [0, 2, 3, 1, 4, 5, 6, 7, 8]], from_grid[[0, 2, 3, 1, 4, 5, 6, 7, 8]]
    else:
        to_grid[0, 0] = float("nan")
    weights["to_grid.value"], weights["from_grid.value"] = to_grid, from_grid
    with pytest.raises(LamError, match="other spherical harmonics"):
        product.load_state_dict(weights)
