"""docs/data.md shows the recipes that there are."""

from pathlib import Path

from lam.cli.data_recipes import markdown
from lam.data.recipes import MODULES, get

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"


def test_the_table_of_recipes_is_up_to_date():
    shown = (
        PAGE.read_text(encoding="utf-8").partition("<!-- recipes:begin -->\n")[2].partition("\n<!-- recipes:end -->")[0]
    )
    assert shown == markdown([get(name) for name in MODULES]), "put the output of: lam data recipes --markdown"
