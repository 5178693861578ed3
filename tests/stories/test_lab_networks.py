"""Rooms of real machines, each in a network namespace: the line that the server prints is what the clients run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from error_cases import assert_reported
from namespaces import Machine, Network
from running import Place, Program
from small_workspace import TINY_JOB, SmallWorkspace
from test_faults_links import be_patient_for

from lanfit.core.workspace import Workspace
from lanfit_client.store.state import ClientState

pytestmark = pytest.mark.story


def serve(machine: Machine, place: SmallWorkspace, **flags: object) -> Program:
    """A server that is asked nothing, on all addresses and the usual port unless flags say otherwise."""
    given = {**TINY_JOB, "epochs": 1, **flags}
    words = [word for key, value in given.items() for word in ("--" + key.replace("_", "-"), value)]
    return machine.program("server", "--yes", *words, folder=place.root)


def line_of(server: Program) -> str:
    """The line to run on a client."""
    return server.expect(r"(?m)^    (lanfit client .*)$")[1].strip()


def join(machine: Machine, line: str, folder: Path, name: str = "pc") -> Program:
    """Run the line on a client machine."""
    folder.mkdir(exist_ok=True)
    return machine.program(command=f"{line} --name {name} --threads 1 --once", folder=folder)


def test_a_lab_switch_without_a_gateway(network: Network, small_workspace: SmallWorkspace, tmp_path: Path) -> None:
    """A whole run."""
    switch, teacher, pc = network.switch(), network.machine(), network.machine()
    teacher.plug(switch, "10.99.0.1/24")
    pc.plug(switch, "10.99.0.11/24")
    with serve(teacher, small_workspace) as server:
        line = line_of(server)
        assert line.startswith("lanfit client 10.99.0.1:8470 --fingerprint ")
        with join(pc, line, tmp_path / "pc") as client:
            server.expect(r"pc joined from 10\.99\.0\.11")
            client.finish()
            server.finish()
    assert small_workspace.summary()["status"] == "done"


def test_a_vpn_that_takes_everything_and_a_docker_bridge(
    network: Network, small_workspace: SmallWorkspace, tmp_path: Path
) -> None:
    switch, teacher, pc = network.switch(), network.machine(), network.machine()
    teacher.interface("docker0", "172.17.0.1/16", kind="bridge")
    teacher.plug(network.switch(), "10.8.0.2/24", name="tun0")
    teacher.plug(switch, "192.168.50.7/24")
    teacher.default_route("192.168.50.254")
    teacher.route("0.0.0.0/1", "dev", "tun0")
    teacher.route("128.0.0.0/1", "dev", "tun0")
    pc.plug(switch, "192.168.50.11/24")
    with serve(teacher, small_workspace) as server:
        line = line_of(server)
        assert line.startswith("lanfit client 192.168.50.7:8470 ")
        server.expect(r"of this machine: 10\.8\.0\.2 \(tun0, a VPN\)")
        with join(pc, line, tmp_path / "pc") as client:
            client.expect(r"Joined 192\.168\.50\.7:8470 as pc\.")


def test_a_room_that_has_only_ipv6(network: Network, small_workspace: SmallWorkspace, tmp_path: Path) -> None:
    switch, teacher, pc = network.switch(), network.machine(), network.machine()
    teacher.plug(switch, "fd00::1/64")
    pc.plug(switch, "fd00::11/64")
    with serve(teacher, small_workspace) as server:
        line = line_of(server)
        assert line.startswith("lanfit client [fd00::1]:8470 ")
        with join(pc, line, tmp_path / "pc") as client:
            client.expect(r"Joined \[fd00::1\]:8470 as pc\.")
            known = (tmp_path / "pc" / "lanfit" / "client" / "state" / "known_servers").read_text()
    assert '"[fd00::1]:8470"' in known


def test_clients_on_the_server_join_at_the_address_that_it_listens_on_and_say_when_they_cannot(
    network: Network, small_workspace: SmallWorkspace
) -> None:
    teacher = network.machine()
    teacher.plug(network.switch(), "10.99.0.1/24")
    teacher.down("lo")  # what goes to an address of one's own goes through it
    with serve(teacher, small_workspace, host="10.99.0.1", local=1) as server:
        server.expect(r"The local client local-1: .*10\.99\.0\.1:8470")
        teacher.up("lo")
        server.expect(r"local-1 joined from 10\.99\.0\.1")


def test_the_cloned_state_of_one_client_on_two_pcs(
    network: Network, small_workspace: SmallWorkspace, tmp_path: Path
) -> None:
    """Both work, and each is told once. The second run: what they settled is settled."""
    switch, teacher = network.switch(), network.machine()
    teacher.plug(switch, "10.99.0.1/24")
    pcs = [network.machine(), network.machine()]
    for number, pc in enumerate(pcs):
        pc.plug(switch, f"10.99.0.1{number}/24")
    # The image was made of a machine that had been a client.
    image = ClientState.take(Workspace(tmp_path / "pc-0" / "lanfit"))
    image.lock.release()
    shutil.copytree(tmp_path / "pc-0", tmp_path / "pc-1")
    for is_first in (True, False):
        with serve(teacher, small_workspace, clients=2) as server:
            line = line_of(server)
            with join(pcs[0], line, tmp_path / "pc-0", "image") as one:
                server.expect(r"image joined from 10\.99\.0\.10")
                with join(pcs[1], line, tmp_path / "pc-1", "image") as two:
                    server.expect(r"image-2 joined from 10\.99\.0\.11")
                    for program in (one, two, server) if is_first else ():
                        program.finish()
                    two.expect("Joined .* as image-2")
        assert server.output.count(" joined from ") == 2, "one was thrown out"
        assert server.output.count("was copied, for example in a disk image") == is_first
        assert two.output.count("now uses a new id") == is_first
        assert "id of its own" not in one.output
        assert [each.output.count("Joined ") for each in (one, two)] == [1, 1]
    [summary] = small_workspace.runs[:1]
    assert [each["status"] for each in small_workspace.summary(summary)["clients"]] == ["done", "done"]


def test_a_firewall_that_rejects_as_firewalld_does(
    network: Network, small_workspace: SmallWorkspace, tmp_path: Path
) -> None:
    router, teacher, pc = network.machine(), network.machine(), network.machine()
    teacher.connect(router, "10.99.7.1/24", port="eth1", to=("10.99.7.254/24",))
    teacher.default_route("10.99.7.254")
    pc.connect(router, "10.99.8.11/24", port="eth2", to=("10.99.8.254/24",))
    pc.default_route("10.99.8.254")
    router.forward()
    router.route("prohibit", "10.99.7.1/32")
    with serve(teacher, small_workspace) as server, join(pc, line_of(server), tmp_path / "pc") as client:
        client.expect("Retrying every")
        assert_reported("connect.rejected", client.output)
        router.ip("route", "delete", "prohibit", "10.99.7.1/32")  # as one who lets the port through
        client.expect(r"Joined 10\.99\.7\.1:8470 as pc\.")


def test_a_vpn_that_loses_large_packets_is_named(network: Network, tmp_path: Path) -> None:
    switch, teacher, pc = network.switch(), network.machine(), network.machine()
    teacher.plug(switch, "10.99.0.1/24")
    pc.plug(switch, "10.99.0.11/24")
    teacher.lose_large_packets(switch, "port1", 1000)
    place, folder = Place(tmp_path / "teacher"), tmp_path / "pc"
    be_patient_for(folder, lost=5, side="client")
    command = ("server", "--yes", "--clients", 1, "--epochs", 1)
    with teacher.program(*command, folder=place.root) as server:
        arguments = (*line_of(server).split()[1:], "--workspace", folder, "--backend", "jax", "--threads", 1)
        with pc.program(*arguments, folder=folder) as client:
            client.expect(r"(?s)Joined .*nothing was received for .*Joined .*nothing was received for .*VPN.*MTU")
