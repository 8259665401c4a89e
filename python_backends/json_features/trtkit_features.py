# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Records to tensors: each feature of the schema is a column, or several, of one output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from trtkit_columns import Column
from trtkit_records import MISSING, BadRecord, check_keys, parse, shown, value_at
from trtkit_schema import BadSchema, Schema


class Features:
    """What a schema makes of records.

    Args:
        schema: which features there are.
        types: the numpy type of each output.
        most_bytes: a larger record is refused unread.

    Attributes:
        widths: the number of columns of each output.

    Raises:
        BadSchema: a feature goes to an output that is not there or cannot hold it, or an output gets none.
    """

    def __init__(self, schema: Schema, types: Mapping[str, np.dtype[Any]], most_bytes: int) -> None:
        self._known = _tree(schema) if schema.strict else {}
        self._types, self._most_bytes = types, most_bytes
        self.widths = dict.fromkeys(types, 0)
        self._columns: list[tuple[Column, slice]] = []
        for feature in schema.features:
            if feature.output not in types:
                raise BadSchema(
                    f"feature '{feature.name}' goes to output '{feature.output}', which config.pbtxt lacks; "
                    f"it has {', '.join(types)}"
                )
            begin = self.widths[feature.output]
            self.widths[feature.output] = begin + feature.width
            self._columns.append((Column(feature, types[feature.output]), slice(begin, begin + feature.width)))
        for name, width in self.widths.items():
            if not width:
                raise BadSchema(f"no feature goes to output '{name}' of config.pbtxt")

    def read(self, data: bytes, row: int) -> Any:
        """Read one record and check its form, but no values.

        Raises:
            BadRecord: it is no strict JSON, has a key that no feature uses where that is an error, or is an array with
                another number of values than there are features.
        """
        record = parse(data, row, self._most_bytes)
        if isinstance(record, dict):
            check_keys(record, self._known, row)
        elif len(record) != len(self._columns):
            raise BadRecord(f"record {row} is {shown(record)}, expected one of {len(self._columns)}, one per feature")
        return record

    def tensors(self, records: Sequence[Any]) -> dict[str, np.ndarray]:
        """All outputs, a row for each record.

        Raises:
            BadRecord: a value is not what the schema says.
        """
        tensors = {name: np.empty((len(records), self.widths[name]), kind) for name, kind in self._types.items()}
        for position, (column, columns) in enumerate(self._columns):
            values = [_value(record, column, position, row) for row, record in enumerate(records)]
            column.fill(values, tensors[column.feature.output][:, columns])
        return tensors


def _value(record: Any, column: Column, position: int, row: int) -> Any:
    path = column.feature.path
    if type(record) is list:
        value = record[position]
    elif len(path) == 1:
        value = record.get(path[0])
    else:
        return value_at(record, path, row)
    return MISSING if value is None else value


def _tree(schema: Schema) -> dict[str, Any]:
    """The keys that features use, as `check_keys` takes them."""
    tree: dict[str, Any] = {}
    for feature in schema.features:
        branch = tree
        for step in feature.path:
            branch = branch.setdefault(step, {})
    return tree
