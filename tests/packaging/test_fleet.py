"""Cloud-init, the first boot of a Raspberry Pi, and the Ansible role, in a booted Debian 13."""

import shutil
from pathlib import Path

import pytest

FLEET = Path(__file__).parents[2] / "packaging/fleet"
pytestmark = [pytest.mark.systemd, pytest.mark.debian, pytest.mark.root, pytest.mark.slow]

PLAYBOOK = (
    "cd /opt/fleet/ansible; ansible-playbook -i 'pi,' -c local site.yml"
    " -e ansible_python_interpreter=/usr/bin/python3 -e kici_join_token=kici_join_v1.a.b"
    " -e kici_coordinator_url=ws://127.0.0.1:4000/ws/peer"
    " -e kici_apt_uri=file:///opt/apt -e kici_apt_key=/opt/apt/kici-archive-keyring.pgp"
    " -e '{kici_settings: {KICI_PORT: 4001}}'"
)


@pytest.fixture
def machine(blank):
    shutil.copytree(FLEET, blank.root / "opt/fleet")
    return blank


def test_the_user_data_follow_the_schema(machine):
    shown = machine.run("cloud-init schema --config-file /opt/fleet/user-data.yaml")
    assert shown.startswith("Valid schema")


def test_the_role_makes_a_worker_and_changes_nothing_the_second_time(machine):
    first = machine.run(PLAYBOOK, 120)
    assert "failed=0" in first
    machine.run("systemctl is-active kici-worker; systemctl is-enabled kici-worker")
    assert machine.run("curl -fs http://127.0.0.1:4001/status | jq -r .instanceId") == "pi"
    assert "changed=0" in machine.run(PLAYBOOK, 120)


def test_the_first_boot_makes_a_worker_and_wipes_what_it_was_given(machine):
    machine.put("/boot/firmware/kici-join.txt", "\ufeffkici_join_v1.a.b\r\n")
    machine.put(
        "/boot/firmware/kici-worker.txt",
        "KICI_CLUSTER_COORDINATOR_URL=ws://127.0.0.1:4000/ws/peer\r\nKICI_PORT=4001\r\n",
    )
    shutil.copy(machine.root / "opt/apt/kici-archive-keyring.pgp", machine.root / "boot/firmware")
    shutil.copy(
        machine.root / "etc/apt/sources.list.d/kici.sources", machine.root / "boot/firmware"
    )
    machine.run("sh /opt/fleet/firstrun.sh", 120)
    machine.run("systemctl is-active kici-worker; systemctl is-enabled kici-worker")
    assert machine.run("cat /var/lib/kici-worker/join-token") in ("kici_join_v1.a.b", "")
    assert machine.run("ls /boot/firmware").split() == ["kici-archive-keyring.pgp", "kici.sources"]
    machine.wait_for("curl -fs http://127.0.0.1:4001/status | jq -e '.scalers | length == 1'")
