# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``rollout.sh``: applies an environment, waits as long as its plan allows, and goes back when that does not hold."""

from __future__ import annotations

from trtkit.deploy.ci.facts import Facts, Stage, quoted

_SCRIPT = """#!/bin/sh
# Apply one environment, wait until its pods are replaced, go back when they are not. Usage: rollout.sh ENVIRONMENT
# Rendered by `trtkit deploy ci`. kubectl takes the cluster from KUBECONFIG.
set -eu
environment=${1:?usage: rollout.sh ENVIRONMENT}
case $environment in
%s
*)
  echo "there is no environment '$environment'; there are: %s" >&2
  exit 2
  ;;
esac

# the server's own opinion first: admission, quota, unknown fields. A namespace that is not there yet cannot be asked
if kubectl get namespace "$namespace" >/dev/null 2>&1; then
  kubectl apply --dry-run=server --kustomize "$overlay" >/dev/null
fi
before=$(kubectl --namespace "$namespace" get deployment "$name" \\
  --output 'jsonpath={.metadata.annotations.deployment\\.kubernetes\\.io/revision}' 2>/dev/null || true)
kubectl apply --kustomize "$overlay"
if kubectl --namespace "$namespace" rollout status "deployment/$name" --timeout="${timeout}s"; then
  exit 0
fi

echo "deployment/$name was not replaced within $timeout s:" >&2
kubectl --namespace "$namespace" get pods --selector "app.kubernetes.io/instance=$name" --output wide >&2 || true
kubectl --namespace "$namespace" logs "deployment/$name" --tail=50 >&2 || true
after=$(kubectl --namespace "$namespace" get deployment "$name" \\
  --output 'jsonpath={.metadata.annotations.deployment\\.kubernetes\\.io/revision}')
if [ -z "$before" ] || [ "$before" = "$after" ]; then
  echo "there is no earlier revision to go back to" >&2
  exit 1
fi
kubectl --namespace "$namespace" rollout undo "deployment/$name" --to-revision="$before"
kubectl --namespace "$namespace" rollout status "deployment/$name" --timeout="${timeout}s"
echo "went back to revision $before; only the pods did, other objects stay as applied" >&2
[ -z "$bucket" ] || echo "$bucket keeps the new models: take the new versions out of it, and restart the pods" >&2
exit 1
"""


def script(facts: Facts) -> str:
    """The shell script, with a case for each environment."""
    names = ", ".join(stage.name for stage in facts.stages)
    return _SCRIPT % ("\n".join(_case(stage) for stage in facts.stages), names)


def _case(stage: Stage) -> str:
    return "\n".join(
        [
            f"{quoted(stage.name)})",
            f"  namespace={_always_quoted(stage.plan.namespace)}",
            f"  name={_always_quoted(stage.plan.name)}",
            f"  overlay={_always_quoted(stage.overlay)}",
            f"  bucket={_always_quoted(stage.plan.spec.storage.uri or '')}",
            f"  timeout={stage.timeout.whole} # s: {stage.timeout.why}",
            "  ;;",
        ]
    )


def _always_quoted(text: str) -> str:
    """Also where it need not be, since a name may be that of a command."""
    return quoted(text) if quoted(text) != text else f"'{text}'"
