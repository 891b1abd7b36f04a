"""The JSON Schema of a report, from its columns; docs/report.schema.json holds it."""

from __future__ import annotations

import json
from typing import Any

from hfp8sim.analysis.accuracy import HISTOGRAM_BINS
from hfp8sim.network import PHASES
from hfp8sim.report.columns import COLUMNS, Column
from hfp8sim.report.json import SCHEMA_VERSION
from hfp8sim.report.record import IDENTITY, REQUIRED_FACTS

_TEXT, _COUNT = {"type": "string"}, {"type": "integer", "minimum": 0}
_PROFILE = {
    "type": "object",
    "description": "every field of the profile; formats by name, or their facts where they have none",
    "properties": {"name": _TEXT},
    "required": ["name"],
}

#: The facts of a run and their meanings.
FACTS: dict[str, dict[str, Any]] = {
    "workload": {**_TEXT, "description": "the workload's name"},
    "digest": {**_TEXT, "description": "SHA-256 of its layers and tensors"},
    "machine": {
        "type": "object",
        "description": "every value of the machine",
        "properties": {"name": _TEXT},
        "required": ["name"],
    },
    "peak_macs_per_cycle": {**_COUNT, "description": "of the machine, for operands of 8 bits"},
    "peak_macs_per_cycle_16bit": {**_COUNT, "description": "the same for wider operands"},
    "time_model": {**_TEXT, "description": "what the cycles assume"},
    "profile": _PROFILE,
    "policy": {
        "type": "array",
        "description": "layers with another profile, by rule; the first rule that fits holds",
        "items": {
            "type": "object",
            "properties": {"rule": _TEXT, "profile": _PROFILE},
            "required": ["rule", "profile"],
        },
    },
    "seed": {**_COUNT, "description": "of drawn tensors and stochastic rounding"},
    "phases": {"type": "array", "items": {"enum": list(PHASES)}, "minItems": 1},
    "max_macs": {
        "type": ["integer", "null"],
        "description": "rows of more multiply-accumulates were emulated on a sample; null: none",
    },
    "time_only": {
        "type": "boolean",
        "description": "whether no values were computed: rows have their time and nothing else",
    },
    "events_every": {
        "type": "integer",
        "minimum": 1,
        "description": "events were counted in one of so many blocks of rows",
    },
    "calibration": {
        **_TEXT,
        "description": "how the operands' biases and scales were chosen; none: as the profile has them",
    },
    "versions": {
        "type": "object",
        "description": "of hfp8sim, Python and the packages that compute",
        "properties": {"hfp8sim": _TEXT},
        "required": ["hfp8sim"],
        "additionalProperties": _TEXT,
    },
    "command": {**_TEXT, "description": "the command line, where there was one"},
    "system": {
        "type": "object",
        "description": "the chips that share the mini-batch and their links, and the weights of each layer "
        "with the bytes of one in the layer's format",
        "properties": {
            "name": _TEXT,
            "chips": _COUNT,
            "weights": {"type": "object", "additionalProperties": _COUNT},
            "weight_bytes": {"type": "object", "additionalProperties": _COUNT},
        },
        "required": [
            *("name", "chips", "link", "topology", "protocol", "overlap"),
            *("weights", "weight_bytes"),
        ],
    },
}


def value_schema(column: Column) -> dict[str, Any]:
    """What a value of this column may be. Infinities are the words "inf" and "-inf"."""
    kinds: dict[type, dict[str, Any]] = {
        str: {"type": ["string", "null"]},
        int: {"type": ["integer", "null"]},
        float: {"anyOf": [{"type": ["number", "null"]}, {"enum": ["inf", "-inf"]}]},
        list: {
            "type": ["array", "null"],
            "items": _COUNT,
            "minItems": len(HISTOGRAM_BINS),
            "maxItems": len(HISTOGRAM_BINS),
        },
    }
    unit = f" ({column.unit})" if column.unit else ""
    return {"description": column.meaning + unit, **kinds[column.kind]}


def schema() -> dict[str, Any]:
    """The JSON Schema of a report."""
    row = {
        "type": "object",
        "properties": {column.name: value_schema(column) for column in COLUMNS},
        "additionalProperties": False,
    }
    own: dict[str, dict[str, Any]] = {
        "schema": {"const": SCHEMA_VERSION, "description": "version of this layout"},
        "partial": {"type": "boolean", "description": "whether the run was interrupted"},
        "planned_rows": {**_COUNT, "description": "rows the whole run has"},
        "notes": {"type": "array", "items": _TEXT},
        "histogram_bins": {
            "const": list(HISTOGRAM_BINS),
            "description": "what the entries of histograms count: errors of 0, below 2^-4 ulp, from 2^-4 "
            "to below 2^-3, …, from 2^12 up",
        },
        "columns": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"name": _TEXT, "unit": _TEXT, "meaning": _TEXT},
                "required": ["name", "unit", "meaning"],
                "additionalProperties": False,
            },
        },
        "layers": {"type": "array", "items": {"$ref": "#/$defs/row", "required": list(IDENTITY)}},
        "total": {"$ref": "#/$defs/row"},
    }
    step = {
        "type": "object",
        "description": "a training step on the system: seconds, and bytes of its exchange",
        "required": [
            "compute",
            "exposed_reduce",
            "exposed_distribute",
            "step",
            "efficiency",
            "layers",
        ],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Report of hfp8sim",
        "type": "object",
        "properties": {**FACTS, **own, "step": step},
        "required": [*REQUIRED_FACTS, *own],
        "additionalProperties": False,
        "$defs": {"row": row},
    }


def document() -> str:
    """The schema's text, as docs/report.schema.json holds it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
