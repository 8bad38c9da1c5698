"""What runs on the node: each process' command and configuration. Writes files, starts nothing."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tools.cluster.certificates import Authority, KeyPair, write_secret, write_signing_key
from tools.cluster.layout import Layout

PROGRAMS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coredns",
)
"""What build.py brings for the node; containerd, runc and the CNI plug-ins are Debian's."""

CNI_PLUGINS = Path("/usr/lib/cni")
PAUSE_IMAGE = "localhost/levada/pause:cluster"
DOMAIN = "cluster.local"


@dataclass(frozen=True)
class Component:
    """A process of the node. `needs_api`: it is started once the API server is ready."""

    name: str
    command: tuple[str, ...]
    needs_api: bool = True


def write_credentials(layout: Layout) -> None:
    """Make all keys, certificates and kubeconfigs of a new cluster."""
    pki, kubeconfigs = layout.certificates, layout.kubeconfigs
    pki.mkdir(mode=0o700)
    kubeconfigs.mkdir(mode=0o700)
    node, service = str(layout.node), str(layout.services[1])
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{DOMAIN}"]

    etcd = Authority("levada-etcd-ca")
    etcd.pair.write(pki, "etcd-ca")
    etcd.issue("etcd", hosts=[node, "127.0.0.1"]).write(pki, "etcd")
    etcd.issue("kube-apiserver").write(pki, "etcd-client")
    proxies = Authority("levada-front-proxy-ca")
    proxies.pair.write(pki, "front-proxy-ca")
    proxies.issue("front-proxy").write(pki, "front-proxy")
    write_signing_key(pki, "accounts")

    authority = Authority("levada-ca")
    authority.pair.write(pki, "ca")
    authority.issue("kube-apiserver", hosts=[node, "127.0.0.1", service, "localhost", *names]).write(pki, "apiserver")
    authority.issue("apiserver-to-kubelet", organisation="system:masters").write(pki, "kubelet-client")
    authority.issue(layout.name, hosts=[layout.name, node]).write(pki, "kubelet-server")
    users = {
        "kube-controller-manager": ("system:kube-controller-manager", ""),
        "kube-scheduler": ("system:kube-scheduler", ""),
        "kubelet": (f"system:node:{layout.name}", "system:nodes"),
        "kube-proxy": ("system:kube-proxy", ""),
        "coredns": ("system:coredns", ""),
    }
    for name, (user, group) in users.items():
        pair = authority.issue(user, organisation=group)
        write_secret(kubeconfigs / name, _kubeconfig(layout, authority.pair, pair))
    admin = authority.issue("admin", organisation="system:masters")
    write_secret(layout.kubeconfig, _kubeconfig(layout, authority.pair, admin))


def write_components(layout: Layout, programs: Mapping[str, Path]) -> list[Component]:
    """Write every configuration; returns the processes in the order in which they are started."""
    return [
        _etcd(layout, programs["etcd"]),
        _api_server(layout, programs["kube-apiserver"]),
        _containerd(layout),
        _controller_manager(layout, programs["kube-controller-manager"]),
        _scheduler(layout, programs["kube-scheduler"]),
        _kubelet(layout, programs["kubelet"]),
        _proxy(layout, programs["kube-proxy"]),
        _dns(layout, programs["coredns"]),
    ]


def _etcd(layout: Layout, program: Path) -> Component:
    pki, client, peer = layout.certificates, f"https://{layout.node}:2379", "http://127.0.0.1:2380"
    flags = {
        "data-dir": layout.state / "etcd",
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"default={peer}",
        # Pods reach the node's address: nobody but the API server may come in.
        "client-cert-auth": "true",
        "trusted-ca-file": pki / "etcd-ca.crt",
        "cert-file": pki / "etcd.crt",
        "key-file": pki / "etcd.key",
        "log-level": "warn",
        # The state does not outlive the machine, and a killed etcd loses nothing that it has written.
        "unsafe-no-fsync": "true",
    }
    return Component("etcd", _command(program, flags), needs_api=False)


def _api_server(layout: Layout, program: Path) -> Component:
    pki = layout.certificates
    flags = {
        "advertise-address": layout.node,
        "bind-address": layout.node,
        "secure-port": "6443",
        "allow-privileged": "true",
        "anonymous-auth": "false",
        "authorization-mode": "Node,RBAC",
        "client-ca-file": pki / "ca.crt",
        "enable-admission-plugins": "NodeRestriction",
        "etcd-servers": f"https://{layout.node}:2379",
        "etcd-cafile": pki / "etcd-ca.crt",
        "etcd-certfile": pki / "etcd-client.crt",
        "etcd-keyfile": pki / "etcd-client.key",
        "kubelet-certificate-authority": pki / "ca.crt",
        "kubelet-client-certificate": pki / "kubelet-client.crt",
        "kubelet-client-key": pki / "kubelet-client.key",
        "kubelet-preferred-address-types": "InternalIP",  # nobody resolves the node's name
        "profiling": "false",
        "proxy-client-cert-file": pki / "front-proxy.crt",
        "proxy-client-key-file": pki / "front-proxy.key",
        "requestheader-allowed-names": "front-proxy",
        "requestheader-client-ca-file": pki / "front-proxy-ca.crt",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-username-headers": "X-Remote-User",
        "service-account-issuer": f"https://kubernetes.default.svc.{DOMAIN}",
        "service-account-key-file": pki / "accounts.pub",
        "service-account-signing-key-file": pki / "accounts.key",
        "service-cluster-ip-range": layout.services,
        "tls-cert-file": pki / "apiserver.crt",
        "tls-private-key-file": pki / "apiserver.key",
    }
    return Component("kube-apiserver", _command(program, flags), needs_api=False)


def _containerd(layout: Layout) -> Component:
    network = {
        "cniVersion": "1.0.0",
        "name": "levada",
        "plugins": [
            {
                # A link per pod and routes: Services work without bridge netfilter, and policies see every packet.
                "type": "ptp",
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": str(layout.pods)}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "dataDir": str(layout.state / "cni" / "addresses"),
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }
    folder = layout.state / "cni"
    folder.mkdir(exist_ok=True)
    (folder / "10-levada.conflist").write_text(json.dumps(network, indent=1))
    config = layout.state / "containerd.toml"
    config.write_text(f"""version = 2
root = "{layout.state}/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
address = "{layout.containerd_socket}"
[plugins."io.containerd.internal.v1.opt"]
path = "{layout.state}/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
# Where CAP_SYS_RESOURCE is missing, lowering a score is an error that no sandbox survives.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{CNI_PLUGINS}"
conf_dir = "{folder}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
""")
    return Component("containerd", ("containerd", "--config", str(config)), needs_api=False)


def _controller_manager(layout: Layout, program: Path) -> Component:
    pki, kubeconfig = layout.certificates, layout.kubeconfigs / "kube-controller-manager"
    flags = {
        "kubeconfig": kubeconfig,
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "bind-address": layout.node,
        "leader-elect": "false",
        "profiling": "false",
        "root-ca-file": pki / "ca.crt",
        "service-account-private-key-file": pki / "accounts.key",
        "use-service-account-credentials": "true",
    }
    return Component("kube-controller-manager", _command(program, flags))


def _scheduler(layout: Layout, program: Path) -> Component:
    kubeconfig = layout.kubeconfigs / "kube-scheduler"
    flags = {
        "kubeconfig": kubeconfig,
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "bind-address": layout.node,
        "leader-elect": "false",
        "profiling": "false",
    }
    return Component("kube-scheduler", _command(program, flags))


def _kubelet(layout: Layout, program: Path) -> Component:
    pki = layout.certificates
    resolver = layout.state / "resolv.conf"
    resolver.write_text(f"nameserver {layout.node}\n")
    settings = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": str(layout.node),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.cgroup}",
        "clusterDNS": [str(layout.node)],
        "clusterDomain": DOMAIN,
        "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
        # The disk is the machine's, and full when the user says so.
        "evictionHard": {"memory.available": "64Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "podLogsDir": str(layout.logs / "pods"),
        "resolvConf": str(resolver),
        "serializeImagePulls": False,
        "tlsCertFile": str(pki / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(pki / "kubelet-server.key"),
        "volumePluginDir": str(layout.state / "volume-plugins"),
    }
    flags = {
        "config": _write_yaml(layout.state / "kubelet.yaml", settings),
        "kubeconfig": layout.kubeconfigs / "kubelet",
        "root-dir": layout.state / "kubelet",
        "hostname-override": layout.name,
        "node-ip": layout.node,
    }
    return Component("kubelet", _command(program, flags))


def _proxy(layout: Layout, program: Path) -> Component:
    settings = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": str(layout.node),
        "clientConnection": {"kubeconfig": str(layout.kubeconfigs / "kube-proxy")},
        "clusterCIDR": str(layout.pods),
        "healthzBindAddress": f"{layout.node}:10256",
        "metricsBindAddress": f"{layout.node}:10249",
        "hostnameOverride": layout.name,
        "mode": "iptables",
        "nodePortAddresses": [f"{layout.node}/32"],
        # Nothing here may change the machine's own limits.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
    config = _write_yaml(layout.state / "kube-proxy.yaml", settings)
    return Component("kube-proxy", _command(program, {"config": config}))


def _dns(layout: Layout, program: Path) -> Component:
    config = layout.state / "Corefile"
    config.write_text(f""".:53 {{
    bind {layout.node}
    errors
    kubernetes {DOMAIN} in-addr.arpa {{
        kubeconfig {layout.kubeconfigs / "coredns"}
        pods insecure
        ttl 5
    }}
    cache 5
}}
""")
    return Component("coredns", _command(program, {"conf": config}))


def _command(program: Path, flags: Mapping[str, object]) -> tuple[str, ...]:
    return (str(program), *(f"--{name}={value}" for name, value in flags.items()))


def _write_yaml(path: Path, content: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def _kubeconfig(layout: Layout, authority: KeyPair, user: KeyPair) -> bytes:
    def encoded(data: bytes) -> str:
        return b64encode(data).decode()

    server = {"server": layout.server, "certificate-authority-data": encoded(authority.certificate)}
    client = {"client-certificate-data": encoded(user.certificate), "client-key-data": encoded(user.key)}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": layout.name, "cluster": server}],
        "users": [{"name": layout.name, "user": client}],
        "contexts": [{"name": layout.name, "context": {"cluster": layout.name, "user": layout.name}}],
        "current-context": layout.name,
    }
    return yaml.safe_dump(content, sort_keys=False).encode()
