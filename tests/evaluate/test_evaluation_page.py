"""docs/evaluation.md names all fields of the results file and all peers."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

pytest.importorskip("scipy", reason="evaluation needs the extra eval")
pytest.importorskip("ssimulacra2", reason="evaluation needs the extra eval")

from softstair.evaluate import installed_peers
from softstair.evaluate.machine import Machine
from softstair.evaluate.results import SCHEMA, CodecUsed, Complexity, Mean, Part, Results, Row, Timing

from ..conftest import ROOT

PAGE = (ROOT / "docs" / "evaluation.md").read_text()


@pytest.mark.parametrize("kind", [Results, Machine, CodecUsed, Complexity, Timing, Mean, Row])
def test_the_page_has_exactly_the_fields(kind):
    _, _, rest = PAGE.partition(f"\n`{kind.__name__}`")
    table = rest.split("\n\n")[1]
    named = [name for line in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split("|")[1])]
    assert sorted(named) == sorted(field.name for field in fields(kind))


def test_the_page_has_the_fields_of_parts_and_the_schema():
    _, _, rest = PAGE.partition("list of `Part`:")
    assert re.findall(r"`(\w+)`", rest.splitlines()[0]) == [field.name for field in fields(Part)]
    assert f"schema {SCHEMA}\n" in PAGE
    assert f"| `schema` | {SCHEMA} |" in PAGE


@pytest.mark.parametrize("peer", installed_peers(), ids=lambda peer: peer.name)
def test_the_page_has_the_peers(peer):
    assert f"`{peer.name}`" in PAGE
