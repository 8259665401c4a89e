# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""metric_tags and model_metrics (core: metric_model_reporter.cc; model_config_utils.cc, ValidateModelMetrics)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from trtkit.lint.edits import removed
from trtkit.lint.finding import Severity
from trtkit.lint.model import Found, Model
from trtkit.lint.rule import rule
from trtkit.pbtxt import Path

MODEL_METRICS_SINCE = (2, 52)
"""The first servers that may know the field: 2.51 does not."""
FIRST_RESPONSE = "nv_inference_first_response_histogram_ms"
_LABEL = re.compile(r"_(?!_)[a-zA-Z0-9_]*")


@rule("MET001", "metric-tag-no-label", server=True)
def tag_no_label(model: Model) -> Iterator[Found]:
    """A metric tag's key cannot be part of a Prometheus label.

    The label is the key with an underscore before it, and a label has letters, digits and underscores and does
    not begin with two underscores. The server does not refuse another: it ends with "Invalid label name", and
    with it every other model (core: metric_model_reporter.cc; measured with 2.51).

    Wrong:
        metric_tags { key: "team-name" value: "vision" }

    Right:
        metric_tags { key: "team_name" value: "vision" }
    """
    for key in sorted(model.config.metric_tags):
        if not _LABEL.fullmatch(f"_{key}"):
            yield model.found(
                ("metric_tags", key),
                f"Invalid label name: the metric tag '{key}' would be the label '_{key}', which ends the whole server; "
                "use letters, digits and underscores, and no underscore first",
            )


@rule("MET002", "model-metrics-unknown-to-server", server=True, fixable=True, depends_on_server=True)
def unknown_to_server(model: Model) -> Iterator[Found]:
    """The server is too old for model_metrics.

    A field that the server does not know makes the whole file unreadable to it (measured with 2.51).

    Wrong:
        model_metrics {    # for tritonserver 2.51
          metric_control {
            metric_identifier { family: "nv_inference_first_response_histogram_ms" }
            histogram_options { buckets: [ 10, 100 ] }
          }
        }

    Right:
        metric_tags { key: "team" value: "vision" }
    """
    if model.config.HasField("model_metrics") and not model.server.is_from(MODEL_METRICS_SINCE):
        yield model.found(
            ("model_metrics",),
            f"failed to read text proto from {model.path(model.config_file)}; tritonserver "
            f"{model.server.version_text} does not know model_metrics",
            fix=removed(model.document, ("model_metrics",)),
        )


def _controls(model: Model) -> Iterator[tuple[Path, Any]]:
    """The metric controls, for servers that know them."""
    if model.config.HasField("model_metrics") and model.server.is_from(MODEL_METRICS_SINCE):
        for index, control in enumerate(model.config.model_metrics.metric_control):
            yield ("model_metrics", "metric_control", index), control


@rule("MET003", "metric-control-without-identifier", server=True)
def no_identifier(model: Model) -> Iterator[Found]:
    """A metric control does not say which metric it is for.

    A control changes one metric (core: model_config_utils.cc, ValidateModelMetrics).

    Wrong:
        model_metrics { metric_control { histogram_options { buckets: [ 10, 100 ] } } }

    Right:
        model_metrics {
          metric_control {
            metric_identifier { family: "nv_inference_first_response_histogram_ms" }
            histogram_options { buckets: [ 10, 100 ] }
          }
        }
    """
    for path, control in _controls(model):
        if not control.HasField("metric_identifier"):
            yield model.found(
                path, f"metric control must specify 'metric_identifier'; e.g. family: \"{FIRST_RESPONSE}\""
            )


@rule("MET004", "metric-identifier-without-family", server=True)
def no_family(model: Model) -> Iterator[Found]:
    """A metric identifier names no family.

    The family is the metric's name, as ``/metrics`` shows it (core: model_config_utils.cc, ValidateModelMetrics).

    Wrong:
        model_metrics { metric_control { metric_identifier { } histogram_options { buckets: [ 10 ] } } }

    Right:
        model_metrics {
          metric_control {
            metric_identifier { family: "nv_inference_first_response_histogram_ms" }
            histogram_options { buckets: [ 10 ] }
          }
        }
    """
    for path, control in _controls(model):
        if control.HasField("metric_identifier") and not control.metric_identifier.family:
            yield model.found(
                (*path, "metric_identifier"),
                f"metric identifier must specify non-empty 'family'; e.g. \"{FIRST_RESPONSE}\"",
            )


@rule("MET005", "metric-control-without-histogram", server=True)
def no_histogram(model: Model) -> Iterator[Found]:
    """A metric control has no options for its histogram.

    They are all that a control can change (core: model_config_utils.cc, ValidateModelMetrics).

    Wrong:
        model_metrics {
          metric_control { metric_identifier { family: "nv_inference_first_response_histogram_ms" } }
        }

    Right:
        model_metrics {
          metric_control {
            metric_identifier { family: "nv_inference_first_response_histogram_ms" }
            histogram_options { buckets: [ 10, 100 ] }
          }
        }
    """
    for path, control in _controls(model):
        if not control.HasField("histogram_options"):
            yield model.found(path, "metric control must specify 'histogram_options'")


@rule("MET006", "histogram-without-buckets", server=True)
def no_buckets(model: Model) -> Iterator[Found]:
    """A histogram has no buckets.

    A histogram counts how many values fall into each of them (core: model_config_utils.cc, ValidateModelMetrics).

    Wrong:
        model_metrics {
          metric_control {
            metric_identifier { family: "nv_inference_first_response_histogram_ms" }
            histogram_options { }
          }
        }

    Right:
        model_metrics {
          metric_control {
            metric_identifier { family: "nv_inference_first_response_histogram_ms" }
            histogram_options { buckets: [ 10, 100 ] }
          }
        }
    """
    for path, control in _controls(model):
        if control.HasField("histogram_options") and not control.histogram_options.buckets:
            yield model.found((*path, "histogram_options"), "histogram options must specify non-empty 'buckets'")


@rule("MET007", "buckets-not-ascending", Severity.WARNING)
def buckets_not_ascending(model: Model) -> Iterator[Found]:
    """The upper bounds of a histogram's buckets do not ascend.

    The server's Prometheus library throws "Bucket Boundaries must be strictly sorted" once the histogram is made.

    Wrong:
        model_metrics {
          metric_control {
            metric_identifier { family: "nv_inference_first_response_histogram_ms" }
            histogram_options { buckets: [ 100, 10 ] }
          }
        }

    Right:
        model_metrics {
          metric_control {
            metric_identifier { family: "nv_inference_first_response_histogram_ms" }
            histogram_options { buckets: [ 10, 100 ] }
          }
        }
    """
    for path, control in _controls(model):
        buckets = control.histogram_options.buckets
        if any(upper <= lower for lower, upper in pairwise(buckets)):
            shown = ", ".join(f"{bound:g}" for bound in buckets)
            yield model.found(
                (*path, "histogram_options", "buckets"), f"Bucket Boundaries must be strictly sorted; got {shown}"
            )


RULES = (
    tag_no_label,
    unknown_to_server,
    no_identifier,
    no_family,
    no_histogram,
    no_buckets,
    buckets_not_ascending,
)
