# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The two scripts of the Compose project: an update without a failed request, and the share of a canary."""

from __future__ import annotations

from trtkit.deploy.compose.triton import stop_grace
from trtkit.deploy.figure import Figure
from trtkit.deploy.planned import Plan

CHECKS_S = 60
"""After the budget: three failed checks, 10 s apart and of 5 s each, and the start of the container itself."""

CANARY_SCRIPT = """#!/bin/sh
# Send so many percent of the requests to the service triton-canary: ./canary.sh 10
# Envoy takes the weights while it runs; after a restart of Envoy all requests go to the service triton again.
set -eu
cd "$(dirname "$0")"
share=${1:?how many percent, 0 to 100}
case $share in *[!0-9]*) echo "$share is no number of percent" >&2; exit 2 ;; esac
[ "$share" -le 100 ] || { echo "$share is more than 100 percent" >&2; exit 2; }
if [ "$share" -gt 0 ]; then
    canary=$(docker compose --profile canary ps --quiet triton-canary)
    if [ -z "$canary" ] || [ "$(docker inspect --format '{{.State.Health.Status}}' "$canary")" != healthy ]; then
        echo "triton-canary is not well, and its share of the requests would fail; start it first:" >&2
        echo "docker compose --profile canary up --detach --wait triton-canary" >&2
        exit 1
    fi
fi
query=
for wire in $(docker compose exec -T envoy grep -oE 'name: triton_[a-z]+_canary(_sequences)?$' /etc/envoy/envoy.yaml |
    sort -u | sed 's/name: //'); do
    stable=$(printf %s "$wire" | sed 's/_canary/_stable/')
    query="$query&traffic.$wire=$share&traffic.$stable=$((100 - share))"
done
docker compose exec -T envoy bash -c '
    exec 3<>/dev/tcp/127.0.0.1/9902
    printf "POST /runtime_modify?%s HTTP/1.0\\r\\nHost: localhost\\r\\nContent-Length: 0\\r\\n\\r\\n" "$1" >&3
    read -r _ code _ <&3
    [ "$code" = 200 ]' envoy "${query#&}"
echo "$share percent of the requests go to triton-canary"
"""

_UPDATE = """#!/bin/sh
# Serve another repository or image without a failed request: start a server beside the old one, wait until it has
# loaded all models, then stop the old one. Envoy finds the new one by DNS, sees the old one go, and sends what it
# refuses to the other. Both are there for a while: the host{gpu} has to have room for two.
set -eu
cd "$(dirname "$0")"
docker compose rm --force triton  # stopped ones, which would be started again in place of a new one
old=$(docker compose ps --quiet triton)
[ -n "$old" ] || {{ echo "triton does not run: docker compose up --detach --wait" >&2; exit 1; }}
# a server that ends again and again is never unhealthy, so the wait has a limit:
# {why}
if ! docker compose up --detach --no-deps --no-recreate --wait --wait-timeout {wait} \\
    --scale triton=$(($(echo "$old" | wc -l) + 1)) triton; then
    for new in $(docker compose ps --all --quiet triton | grep -vF "$old"); do
        docker logs --tail 40 "$new" >&2
        docker rm --force "$new"
    done
    echo "the new server did not become ready and was removed; its last lines are above. The old one serves" >&2
    exit 1
fi
sleep 5  # Envoy asks DNS every 2 s, and the new server once a second
# shellcheck disable=SC2086  # one word for each container
docker stop --time {grace} $old
# shellcheck disable=SC2086
docker rm $old
# rules and objectives belong to the models; Envoy keeps its configuration until it is restarted
docker compose kill --signal HUP prometheus alertmanager || echo "the old rules are still in force" >&2
docker compose ps triton
"""


def update_script(plan: Plan) -> str:
    """update.sh."""
    wait = start_wait(plan)
    grace = stop_grace(plan).value
    return _UPDATE.format(grace=grace, gpu="'s GPU" if plan.on_gpu else "", wait=wait.value, why=wait.why)


def start_wait(plan: Plan) -> Figure:
    """How long `docker compose up --wait` may wait for a server, s."""
    budget = plan.startup.budget
    return Figure(
        budget.whole + CHECKS_S, "s", f"{budget.whole} s to load, {CHECKS_S} s for the health checks", "computed"
    )
