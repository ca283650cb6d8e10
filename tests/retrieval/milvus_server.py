"""A real Milvus server, for as long as tests need it."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from loopback import PATIENCE, free_ports
from pymilvus import MilvusClient, MilvusException


@contextmanager
def running_milvus(folder: Path) -> Iterator[tuple[str, str]]:
    """
    Address and token of a Milvus 2.3.5, from the package `milvus`. In the folder it unpacks 450 MB, which are deleted.

    This version listens on all addresses of the machine, so the password is a new one each time.
    """
    milvus = pytest.importorskip(
        "milvus", reason="PyPI has no Milvus server for this platform, or it is not installed"
    )
    names = [name for name in milvus.default_server.config_keys if name.endswith("_port")]
    *numbers, peer = free_ports(len(names) + 1)
    ports = dict(zip(names, numbers, strict=True))
    etcd = folder / "etcd.yaml"
    etcd.write_text(etcd_config(ports["etcd_port"], peer))
    command = [sys.executable, "-c", "import milvus; milvus.main()", "--data", str(folder)]
    command += ["--authorization-enabled", "true"]
    command += [word for name, port in ports.items() for word in (f"--{name.replace('_', '-')}", str(port))]
    log = (folder / "server.log").open("w")
    # What is written arrives within 20 ms in place of 200.
    environment = {**os.environ, "ETCD_CONFIG_PATH": str(etcd), "PROXY_TIMETICKINTERVAL": "20"}
    server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        uri = f"http://127.0.0.1:{ports['proxy_port']}"
        password = secrets.token_urlsafe(16)
        wait_for(uri, server, folder).update_password("root", "Milvus", password)
        yield uri, f"root:{password}"
    finally:
        server.send_signal(signal.SIGINT)  # which it passes on
        server.wait(timeout=PATIENCE)
        log.close()
        shutil.rmtree(folder)


def wait_for(uri: str, server: subprocess.Popen, folder: Path) -> MilvusClient:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            client = MilvusClient(uri, token="root:Milvus", timeout=2)
            client.list_collections()
            return client
        except MilvusException:
            logs = [*folder.glob("server.log"), *folder.glob("logs/milvus-std*.log")]
            said = "\n".join(path.read_text()[-2000:] for path in logs)
            assert server.poll() is None and time.monotonic() < deadline, said
            time.sleep(0.2)


def etcd_config(port: int, peer: int) -> str:
    """The port that etcd keeps for its like is no setting of Milvus."""
    client, peers = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer}"
    return (
        f"listen-client-urls: {client}\nadvertise-client-urls: {client}\n"
        f"listen-peer-urls: {peers}\ninitial-advertise-peer-urls: {peers}\ninitial-cluster: default={peers}\n"
    )
