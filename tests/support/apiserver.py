"""A real Kubernetes API server (etcd and kube-apiserver, nothing else), for tests of what the API itself does."""

from __future__ import annotations

import datetime
import ipaddress
import secrets
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from levada.engines.local.embedded import free_ports
from levada.engines.local.keeper import Keeper, stop

START_SECONDS = 120.0


@dataclass(frozen=True)
class ApiServer:
    """Where the API server is, and how a cluster admin gets in."""

    url: str
    token: str = field(repr=False)
    ca: Path
    kubeconfig: Path

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a GET request."""
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self.token}"})
        context = ssl.create_default_context(cafile=str(self.ca))
        try:
            with urllib.request.urlopen(request, context=context, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


class ApiServerFailed(Exception):
    """The API server did not start; the message holds the end of its log."""


class RunningApiServer:
    """Starts etcd and kube-apiserver in a folder, on loopback and free ports; ends both when the block ends."""

    def __init__(self, folder: Path, etcd: Path, kube_apiserver: Path) -> None:
        self._folder = folder
        self._etcd = etcd
        self._kube_apiserver = kube_apiserver
        self._keeper = Keeper()
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> ApiServer:
        try:
            return self._start()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            stop(process, signal.SIGTERM)
        self._keeper.close()

    def _start(self) -> ApiServer:
        etcd_port, peer_port, port = free_ports(3)
        certificates = _write_certificates(self._folder)
        token = secrets.token_urlsafe(24)
        (self._folder / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n')
        api = ApiServer(f"https://127.0.0.1:{port}", token, certificates / "ca.crt", self._folder / "kubeconfig")
        api.kubeconfig.touch(mode=0o600)
        api.kubeconfig.write_text(yaml.safe_dump(_kubeconfig(api)))
        self._spawn(self._etcd, self._etcd_flags(etcd_port, peer_port))
        self._spawn(self._kube_apiserver, self._api_flags(port, etcd_port, certificates))
        self._await_ready(api)
        return api

    def _etcd_flags(self, port: int, peer_port: int) -> dict[str, str]:
        return {
            "data-dir": str(self._folder / "etcd"),
            "listen-client-urls": f"http://127.0.0.1:{port}",
            "advertise-client-urls": f"http://127.0.0.1:{port}",
            "listen-peer-urls": f"http://127.0.0.1:{peer_port}",
            "initial-advertise-peer-urls": f"http://127.0.0.1:{peer_port}",
            "initial-cluster": f"default=http://127.0.0.1:{peer_port}",
            "log-level": "warn",
            "unsafe-no-fsync": "true",
        }

    def _api_flags(self, port: int, etcd_port: int, certificates: Path) -> dict[str, str]:
        return {
            "etcd-servers": f"http://127.0.0.1:{etcd_port}",
            "bind-address": "127.0.0.1",
            "advertise-address": "127.0.0.1",
            "secure-port": str(port),
            "tls-cert-file": str(certificates / "server.crt"),
            "tls-private-key-file": str(certificates / "server.key"),
            "service-account-issuer": "https://levada.test",
            "service-account-key-file": str(certificates / "accounts.pub"),
            "service-account-signing-key-file": str(certificates / "accounts.key"),
            "service-cluster-ip-range": "10.96.0.0/24",
            "token-auth-file": str(self._folder / "tokens.csv"),
            "anonymous-auth": "false",
            "authorization-mode": "RBAC",
            # No controller is there that would make the accounts which this one waits for.
            "disable-admission-plugins": "ServiceAccount",
            "profiling": "false",
        }

    def _spawn(self, program: Path, flags: dict[str, str]) -> None:
        process = self._keeper.spawn(
            [program, *(f"--{name}={value}" for name, value in flags.items())],
            record=self._folder / f"{program.name}.json",
            log=self._folder / f"{program.name}.log",
            environment={"PATH": "/usr/bin:/bin", "HOME": str(self._folder)},
            cwd=self._folder,
            stop_signal=signal.SIGTERM,
        )
        self._processes.append(process)

    def _await_ready(self, api: ApiServer) -> None:
        deadline = time.monotonic() + START_SECONDS
        answer = "nothing"
        while True:
            for process, program in zip(self._processes, (self._etcd, self._kube_apiserver), strict=True):
                if process.poll() is not None:
                    log = (self._folder / f"{program.name}.log").read_text(errors="replace")
                    raise ApiServerFailed(f"{program.name} ended while it started:\n{log[-2000:]}")
            try:
                status, answer = api.get("/readyz")
            except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
                status, answer = 0, str(error)
            if status == 200:
                return
            if time.monotonic() > deadline:
                raise ApiServerFailed(f"the API server was not ready after {START_SECONDS:.0f} s: {answer}")
            time.sleep(0.05)


def _kubeconfig(api: ApiServer) -> dict[str, object]:
    authority = b64encode(api.ca.read_bytes()).decode()
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": api.url, "certificate-authority-data": authority}}],
        "users": [{"name": "admin", "user": {"token": api.token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        "current-context": "test",
    }


def _write_certificates(folder: Path) -> Path:
    """An authority, the server's certificate for 127.0.0.1, and the key that signs service accounts' tokens."""
    target = folder / "certificates"
    target.mkdir(mode=0o700)
    now = datetime.datetime.now(datetime.UTC)
    authority_key, server_key, accounts_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))

    def builder(subject: str, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(_name("levada-test-ca"))
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    identifier = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
    authority = (
        builder("levada-test-ca", authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_may_sign_certificates(), critical=True)
        .add_extension(identifier, critical=False)
        .sign(authority_key, SHA256())
    )
    addresses = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
    server = (
        builder("kube-apiserver", server_key.public_key())
        .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(authority_key, SHA256())
    )
    (target / "ca.crt").write_bytes(authority.public_bytes(Encoding.PEM))
    (target / "server.crt").write_bytes(server.public_bytes(Encoding.PEM))
    public = accounts_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (target / "accounts.pub").write_bytes(public)
    for name, key in (("server", server_key), ("accounts", accounts_key)):
        path = target / f"{name}.key"
        path.touch(mode=0o600)
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return target


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _may_sign_certificates() -> x509.KeyUsage:
    unused = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    flags = dict.fromkeys((*unused, "encipher_only", "decipher_only"), False)
    return x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **flags)
