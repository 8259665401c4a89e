# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""All files that `trtkit deploy monitoring` writes."""

from __future__ import annotations

from trtkit.deploy.monitoring.objects import monitoring_objects
from trtkit.deploy.monitoring.rule_tests import unit_test_file
from trtkit.deploy.monitoring.rules import rule_file
from trtkit.deploy.monitoring.stack import files
from trtkit.deploy.planned import Plan
from trtkit.deploy.yaml_out import dump_all


def monitoring_files(plan: Plan) -> dict[str, str]:
    """The files of a Prometheus of one's own, and the objects for prometheus-operator, by relative path.

    promtool reads no PrometheusRule: the rules stand beside it as a file of their own, which their tests name.
    """
    found = files(plan)
    objects = monitoring_objects(plan)
    if objects:
        found["kubernetes/monitoring.yaml"] = dump_all(objects)
        found["kubernetes/rules.yml"] = rule_file(plan, where="kubernetes")
        found["kubernetes/rules_test.yml"] = unit_test_file(plan, where="kubernetes")
    return found
