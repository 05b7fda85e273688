"""How the columns of plans are shown: on a terminal and on a page alike."""

from __future__ import annotations

import pytest

from code_opt.planning import Column
from code_opt.planning.columns import SCHEMA, schema_of


@pytest.mark.parametrize(
    ("name", "value", "text", "unit"),
    [
        ("growth", 1.5, "1.5", ""),
        ("max_loss_points", 2.0, "2", "points"),
        ("cost", 1234567.5, "1,234,567.50", ""),
        ("cost", 0.1 + 0.2, "0.30", ""),
        ("cost", 5204.522939, "5,204.52", ""),
        ("cost", 2.274e-12, "0", ""),
        ("units", 12345, "12,345", ""),
        ("gap", 3.6e-8, "0", "%"),
        ("gap", 0.00123, "0.123", "%"),
        ("rerouted_gap", 0.0100001, "1.01", "%"),
        ("served_share", 0.95, "95.0", "%"),
        ("utilization", 1.0, "100.0", "%"),
        ("accuracy", 0.71828, "0.7183", ""),
        ("accuracy_loss_points", 1.005, "+1.00", "points"),
        ("accuracy_loss_points", -0.0001, "+0.00", "points"),
        ("throughput_per_s", 40.0, "40.0000", "1/s"),
        ("capacity_flop_per_s", 2e9, "2.000 G", "FLOP/s"),
        ("load_bytes_per_s", 1.5e6, "1.500 M", "B/s"),
        ("latency_s", 0.0025, "2.500 ms", ""),
        ("gain_resolved", 1e-13, "0", "objective"),
        ("gain_resolved", -0.5, "-0.5", "objective"),
        ("floors_kept", False, "no", ""),
        ("status", None, "–", ""),
    ],
)
def test_a_value_is_shown_as_what_it_is(name: str, value: object, text: str, unit: str) -> None:
    schema = SCHEMA[name]
    assert (schema.text(value, {}), schema.unit) == (text, unit)
    assert schema_of(schema.column) is schema


@pytest.mark.parametrize(
    ("type_", "unit", "value", "text", "shown_unit"),
    [
        ("number", None, 0.25, "0.250000", ""),
        ("number", "bytes/s", 2e9, "2.000 G", "B/s"),
        ("number", "points", 1.0, "+1.00", "points"),
        ("number", "kWh", 3.0, "3.00000", "kWh"),
        ("number", "currency", 2.0, "2", ""),
        ("integer", "servers", 1000, "1,000", "servers"),
        ("boolean", None, True, "yes", ""),
        ("text", None, "a_b", "a_b", ""),
    ],
)
@pytest.mark.parametrize("name", ["served_share", "extra_load_flop_per_s", "cost", "kept_points"])
def test_a_column_of_a_stranger_is_shown_by_its_type_and_unit(
    name: str, type_: str, unit: str | None, value: object, text: str, shown_unit: str
) -> None:
    column = Column.model_validate({"name": name, "type": type_, "unit": unit})
    if name in SCHEMA and SCHEMA[name].column.type == type_ and SCHEMA[name].column.unit == unit:
        assert schema_of(column) is SCHEMA[name]
        return
    schema = schema_of(column)
    assert (schema.text(value, {}), schema.unit) == (text, shown_unit)
    assert schema.is_number == (type_ in ("number", "integer"))


def test_names_and_headings_are_told_apart() -> None:
    """Two columns of one heading differ in their unit, and names end with their unit."""
    seen = {(s.heading, s.unit) for name, s in SCHEMA.items() if "bytes" not in name}
    assert len(seen) == sum("bytes" not in name for name in SCHEMA)
    assert SCHEMA["capacity_flop_per_s"].heading == SCHEMA["capacity_bytes_per_s"].heading
    assert SCHEMA["served_per_s"].heading == SCHEMA["served_share"].heading == "Served"
