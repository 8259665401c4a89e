# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The ``deploy:`` block: where the repository is served, how it is reached, what it promises, how it scales."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from trtkit.project.spec_values import ModelName, Reference, Strict

# names of Kubernetes objects, with room for a suffix such as -metrics (RFC 1123 label: at most 63 characters)
DnsName = Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=48)]
ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
Host = Annotated[
    str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", max_length=253)
]
Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$")]
MigProfile = Annotated[str, Field(pattern=r"^[1-7]g\.[0-9]{1,3}gb$")]
KubeVersion = Annotated[str, Field(pattern=r"^1\.[0-9]{2}$")]
Release = Annotated[str, Field(pattern=r"^[0-9]{2}\.[0-9]{2}$")]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Ratio = Annotated[float, Field(gt=0, lt=1)]
# https://kubernetes.io/docs/concepts/overview/working-with-objects/labels: an optional DNS prefix, and a name
LabelKey = Annotated[
    str, Field(pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
]
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")]
Labels = dict[LabelKey, LabelValue]


class Gpu(Strict):
    """What each pod has of a GPU, on a target that runs on one."""

    count: Count = Field(1, description="GPUs, or slices of one, for each pod")
    product: Reference | None = Field(
        None, description="the node label nvidia.com/gpu.product, e.g. NVIDIA-L40S; default: any node that fits"
    )
    memory_mib: Count | None = Field(None, description="of one GPU, or slice; default: what the product has")
    mig: MigProfile | None = Field(None, description="a MIG slice instead of a whole GPU, e.g. 1g.10gb")
    mig_strategy: Literal["mixed", "single"] = Field("mixed", description="of NVIDIA's device plugin")
    time_slicing: Annotated[int, Field(ge=2)] | None = Field(
        None, description="pods that share one GPU in turn; its memory is not divided between them"
    )
    mps: Annotated[int, Field(ge=2)] | None = Field(None, description="pods that share one GPU by MPS (experimental)")

    @model_validator(mode="after")
    def _one_way_to_share(self) -> Gpu:
        given = [name for name in ("mig", "time_slicing", "mps") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other: a GPU is shared in one way; leave one out")
        return self


class PodResources(Strict):
    """Of the server's container, instead of what `trtkit deploy plan` computes."""

    cpu: Quantity | None = Field(None, description="cores requested, e.g. 4 or 500m")
    memory: Quantity | None = Field(None, description="host memory, requested and limited, e.g. 12Gi")
    shm: Quantity | None = Field(None, description="size of /dev/shm; it counts as host memory")
    temporary: Quantity | None = Field(None, description="size of /tmp, where remote repositories are copied to")


class Storage(Strict):
    """Where the server finds the repository."""

    kind: Literal["pvc", "baked", "s3", "gcs", "azure"] = Field(
        "pvc", description="a persistent volume claim; in the image; or a bucket that the server reads by itself"
    )
    uri: Reference | None = Field(
        None,
        description="of a bucket: s3://bucket/path, s3://https://host:443/bucket/path, gs://bucket/path, "
        "as://account/container/path",
    )
    claim: ObjectName | None = Field(None, description="an existing claim; default: one is rendered")
    path: Reference | None = Field(None, description="the repository's folder in the claim; default: its root")
    size: Quantity | None = Field(None, description="of the rendered claim; default: from the repository's size")
    storage_class: ObjectName | None = Field(None, description="of the rendered claim; default: the cluster's")
    access_mode: Literal["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce"] = Field(
        "ReadWriteMany", description="of the rendered claim; pods on several nodes need one of the first two"
    )
    secret: ObjectName | None = Field(
        None, description="a Secret with the bucket's keys, as the variables the server reads"
    )
    identity: Reference | None = Field(
        None,
        description="workload identity instead of keys: an AWS role ARN, a Google service account, an Azure client id",
    )
    region: Reference | None = Field(None, description="of an S3 bucket")

    @model_validator(mode="after")
    def _consistent(self) -> Storage:
        if self.kind in ("s3", "gcs", "azure"):
            scheme = {"s3": "s3://", "gcs": "gs://", "azure": "as://"}[self.kind]
            if self.uri is None or not self.uri.startswith(scheme):
                raise ValueError(f"storage {self.kind} needs `uri: {scheme}…`, got {self.uri or 'none'}")
            if self.secret and self.identity:
                raise ValueError("secret and identity exclude each other: static keys win over workload identity")
            if self.kind == "s3" and self.region is None:
                raise ValueError("storage s3 needs `region:`; the server finds none by itself (AWS_DEFAULT_REGION)")
        elif self.uri is not None or self.secret is not None or self.identity is not None:
            raise ValueError(f"uri, secret and identity belong to buckets; storage is {self.kind}")
        if self.kind == "pvc" and self.access_mode == "ReadOnlyMany" and self.claim is None:
            raise ValueError(
                "a rendered claim of access_mode ReadOnlyMany could never be filled; name an existing `claim:`, or "
                "leave access_mode out"
            )
        if self.kind != "pvc" and (self.claim or self.size or self.storage_class):
            raise ValueError(f"claim, size and storage_class belong to storage pvc; storage is {self.kind}")
        return self


class ServerSettings(Strict):
    """How tritonserver is started."""

    release: Release | None = Field(
        None, description="NGC release that an image of your own is made from, e.g. 25.01; flags and metrics follow it"
    )
    control_mode: Literal["none", "explicit", "poll"] = Field(
        "none",
        description="none: all models, once; explicit: those of `models`, and chosen by itself where there are some; "
        "poll is refused: it reads half copies",
    )
    strict: bool = Field(True, description="a model that does not load ends the server; false: it serves the others")
    rate_limit: bool | None = Field(None, description="default: when a model has a rate_limiter")
    response_cache_bytes: Count | None = Field(
        None, description="size of the local cache; default: when a model uses it"
    )
    log_verbose: Natural = Field(0, description="level of the server's verbose log")
    exit_timeout_seconds: Count = Field(60, description="how long requests in flight may take after SIGTERM")
    pre_stop_seconds: Natural = Field(
        15, description="from leaving the Service to SIGTERM; the endpoints have to spread"
    )
    startup_seconds: Count | None = Field(
        None, description="how long the start may take until the pod is restarted; default: twice the load time"
    )
    max_request_bytes: Count = Field(64 << 20, description="largest HTTP request; also the proxies' limit")
    summary_latencies: bool = Field(True, description="latency quantiles of each pod as metrics")
    options: list[Reference] = Field(
        default=[], description="further options of tritonserver, e.g. --log-format=ISO8601"
    )


class Exposure(Strict):
    """How clients outside of the cluster reach the server."""

    kind: Literal["none", "ingress", "gateway"] = Field(
        "none", description="an Ingress for nginx, or routes of the Gateway API"
    )
    host: Host | None = Field(None, description="e.g. digits.example.com")
    grpc_host: Host | None = Field(None, description="for gRPC; default: grpc- and the host")
    grpc: bool = Field(True, description="whether gRPC is reachable too")
    tls_secret: ObjectName | None = Field(None, description="a Secret with the certificate; for an Ingress or Gateway")
    class_name: ObjectName = Field("nginx", description="the IngressClass, or the GatewayClass of a rendered Gateway")
    gateway: ObjectName | None = Field(None, description="an existing Gateway; default: one is rendered")
    gateway_namespace: DnsName | None = Field(None, description="of the existing Gateway")
    timeout_seconds: Count = Field(300, description="for one request")
    requests_per_second: Count | None = Field(None, description="most requests per second and client; more get 429")

    @model_validator(mode="after")
    def _has_a_host(self) -> Exposure:
        if self.kind != "none" and self.host is None:
            raise ValueError(f"exposure by {self.kind} needs a `host:`")
        return self


class ModelSlo(Strict):
    """What is promised for a model."""

    latency_p99_ms: Positive | None = Field(None, description="of the whole request, or of the first response")
    queue_ms: Positive | None = Field(None, description="mean time that a request waits in the server")
    error_ratio: Ratio | None = Field(None, description="largest share of failed requests, e.g. 0.01")


class Slo(ModelSlo):
    """What is promised: alerts, thresholds and the simulation follow from it."""

    error_ratio: Ratio | None = Field(0.01, description="largest share of failed requests")
    queue_ms: Positive | None = Field(100, description="mean time that a request waits in the server")
    models: dict[ModelName, ModelSlo] = Field(default={}, description="for one model, instead of the above")


class Cron(Strict):
    """More replicas at certain hours (KEDA)."""

    timezone: Reference = Field("UTC", description="e.g. Asia/Shanghai")
    start: Reference = Field(description="cron expression, e.g. 0 8 * * 1-5")
    end: Reference = Field(description="cron expression")
    replicas: Count = Field(description="between start and end")


class Queue(Strict):
    """A RabbitMQ queue whose length decides (KEDA)."""

    name: Reference = Field(description="of the queue")
    length: Count = Field(20, description="messages for each replica")
    secret: ObjectName = Field("rabbitmq", description="a Secret whose key `host` is the amqp:// or http:// address")


class Scaling(Strict):
    """How many replicas there are."""

    kind: Literal["none", "hpa", "keda"] = Field("none", description="what changes the number of replicas")
    min_replicas: Natural = Field(
        2, description="also the number without scaling; 0 only with KEDA and a queue or cron"
    )
    max_replicas: Count = Field(4, description="the largest number of replicas")
    metric: Literal["pending", "queue", "rps", "gpu", "cpu"] | None = Field(
        None,
        description="pending requests of a pod; mean queue time in ms; requests per second of a pod; GPU or CPU "
        "utilization in percent; default: rps where a pod's capacity was measured, else pending",
    )
    target: Positive | None = Field(None, description="of the metric; default: from the measurement, else its preset")
    down_stabilization_seconds: Natural = Field(300, description="how long load has to be low before pods go")
    up_stabilization_seconds: Natural = Field(0, description="how long load has to be high before pods come")
    up_percent: Count = Field(100, description="most pods that come in a period, of those there are")
    up_period_seconds: Count = Field(15, description="of up_percent")
    down_percent: Annotated[int, Field(ge=1, le=100)] = Field(25, description="most pods that go in a period")
    down_period_seconds: Count = Field(120, description="of down_percent")
    prometheus_url: Reference = Field("http://prometheus-operated.monitoring:9090", description="where KEDA asks")
    cron: list[Cron] = Field(default=[], description="hours with more replicas")
    queue: Queue | None = Field(None, description="a RabbitMQ queue whose length decides")
    vpa: Literal["Off", "Initial", "InPlaceOrRecreate", "Recreate", "Auto"] | None = Field(
        None, description="a VerticalPodAutoscaler; Off only recommends. Recreate and Auto restart GPU pods: refused"
    )
    hpa: bool | None = Field(None, description="not with kind keda: KEDA makes an HPA of its own")

    @model_validator(mode="after")
    def _consistent(self) -> Scaling:
        if self.kind == "keda" and self.hpa:
            raise ValueError("hpa and keda exclude each other: KEDA makes an HPA of its own; leave hpa out")
        if self.kind != "keda" and (self.cron or self.queue):
            raise ValueError(f"cron and queue are triggers of KEDA; scaling is {self.kind}: set `kind: keda`")
        if self.kind != "none" and self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} is more than max_replicas {self.max_replicas}")
        if self.min_replicas == 0 and not (self.queue or self.cron):
            raise ValueError(
                "min_replicas 0 cannot wake up again: without a pod the server's metrics do not exist; "
                "add a queue or cron trigger (kind keda), or keep 1"
            )
        return self


class Rollout(Strict):
    """How pods are replaced; default: from the free GPUs."""

    max_surge: Natural | None = Field(None, description="pods above the wanted number; each needs free GPUs")
    max_unavailable: Natural | None = Field(None, description="pods below the wanted number")

    @model_validator(mode="after")
    def _moves(self) -> Rollout:
        if self.max_surge == 0 and self.max_unavailable == 0:
            raise ValueError("max_surge and max_unavailable are both 0; no pod could ever be replaced")
        return self


class Cluster(Strict):
    """What the cluster has, as far as it is known; `trtkit doctor cluster` finds it out."""

    nodes: Count | None = Field(None, description="that the pods may run on")
    gpus_per_node: Count | None = Field(None, description="of those nodes")
    free_gpus: Natural | None = Field(None, description="GPUs, or slices, that nobody uses")
    quota_gpus: Natural | None = Field(None, description="of the namespace; a ResourceQuota is rendered with it")
    quota_cpu: Quantity | None = Field(None, description="of the namespace, cores requested")
    quota_memory: Quantity | None = Field(None, description="of the namespace, memory requested")
    node_memory: Quantity | None = Field(None, description="host memory of a node")
    node_selector: Labels = Field(default={}, description="further labels that a node has to have")


class Monitoring(Strict):
    """How Prometheus finds the server, and who is told."""

    kind: Literal["podmonitor", "servicemonitor", "static", "none"] = Field(
        "podmonitor", description="the Prometheus operator's object, or a static scrape configuration"
    )
    labels: Labels = Field({"release": "prometheus"}, description="that the Prometheus selects monitors and rules by")
    interval_seconds: Count = Field(15, description="between two scrapes")
    namespace: DnsName = Field("monitoring", description="where Prometheus runs")
    webhook_url_file: Reference | None = Field(
        None,
        description="a file with the address that alerts are sent to, as Alertmanager's container sees it: absolute",
    )


class ComposeSettings(Strict):
    """Of the Compose project."""

    http_port: Count = Field(8000, description="of Envoy on the host; gRPC is one more, metrics stay inside")
    address: Reference = Field("127.0.0.1", description="the host's interface that ports are bound to")
    redis: bool = Field(False, description="a Redis response cache, shared by all servers")
    rabbitmq: bool = Field(False, description="a RabbitMQ queue")
    s3: bool = Field(False, description="an S3 server for trials, as a profile")


class CiSettings(Strict):
    """Of the rendered pipelines."""

    gpu_runner: Reference | None = Field(None, description="the label of a runner with the target's GPU")
    package: Reference | None = Field(
        None, description="what pip installs as trtkit in the jobs; default: this version with the extras of the models"
    )
    python: Literal["3.10", "3.11", "3.12"] = Field("3.12", description="version of Python that the jobs use")
    perf_gate: Reference | None = Field(
        None, description="a condition of `trtkit perf compare --fail-if` against the stored baseline"
    )
    branch: Reference = Field("main", description="whose commits are deployed")


class Measurements(Strict):
    """Files that measurements were written to; figures follow from them."""

    load: Reference | None = Field(None, description="of `trtkit deploy measure`")
    perf: list[Reference] = Field(default=[], description="of `trtkit perf --json` or --export")


class Deploy(Strict):
    """The whole block; an environment may change any key of it."""

    name: DnsName | None = Field(None, description="of the objects; default: the name of the project's folder")
    target: ModelName | None = Field(None, description="of `targets:`; default: the first")
    image: Reference | None = Field(None, description="the tritonserver image; default: the target's")
    registry: Reference | None = Field(
        None,
        description="what the image made by `trtkit deploy docker` is called, e.g. registry.example.com/team/digits",
    )
    namespace: DnsName = Field("triton", description="of every object")
    models: list[ModelName] = Field(default=[], description="those that are served; default: all of the repository")
    labels: Labels = Field(default={}, description="further labels of every object")
    gpu: Gpu = Field(Gpu(), description="what each pod has of a GPU")
    resources: PodResources = Field(
        PodResources(), description="of the server's container, where the computed ones do not suit"
    )
    storage: Storage = Field(Storage(), description="where the server finds the repository")
    server: ServerSettings = Field(ServerSettings(), description="how tritonserver is started")
    exposure: Exposure = Field(Exposure(), description="how clients outside of the cluster reach it")
    slo: Slo = Field(Slo(), description="what is promised; alerts and thresholds follow")
    scaling: Scaling = Field(Scaling(), description="how many replicas there are")
    rollout: Rollout = Field(Rollout(), description="how pods are replaced")
    cluster: Cluster = Field(Cluster(), description="what the cluster has")
    monitoring: Monitoring = Field(Monitoring(), description="how Prometheus finds the server")
    compose: ComposeSettings = Field(ComposeSettings(), description="of the Compose project")
    ci: CiSettings = Field(CiSettings(), description="of the rendered pipelines")
    measurements: Measurements = Field(Measurements(), description="files with measurements that figures follow from")
    kserve: bool = Field(False, description="also render KServe's InferenceService")
    kube_version: KubeVersion = Field("1.30", description="of the cluster; fields that it does not know are left out")
    environments: dict[DnsName, dict[str, Any]] = Field(
        default={}, description="overlays, such as staging and production: any of these keys, on top"
    )


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """A block with an environment's keys on top; mappings are merged, null takes a key away, the rest is replaced."""
    result = dict(base)
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result
