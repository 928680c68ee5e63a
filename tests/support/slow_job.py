"""A job on a booted machine that would notice a disturbance of its worker."""

from tests.support.booted import Machine

#: It writes a line each fifth of a second until it is told to go on, for this long at most.
_LONGEST_S = 120
_GO = "/dev/shm/kici-go"
_JOB = f"""\
name: slow
runs-on: [self-hosted, linux]
steps:
  - name: work
    run: |
      for place in /tmp /var/tmp /dev/shm; do echo kept > $place/kici-kept; done
      i=0
      while [ $i -lt {_LONGEST_S * 5} ] && [ ! -e {_GO} ]; do
        i=$((i+1)); echo line $i; sleep 0.2
      done
      for place in /tmp /var/tmp /dev/shm; do cat $place/kici-kept; rm $place/kici-kept; done
      echo worked
"""


def start(machine: Machine) -> str:
    """Its id, once it writes."""
    machine.run(f"rm -f {_GO}")
    machine.put("/root/slow.yaml", _JOB)
    # Just after a restart it says on its error output what the job waits for.
    job = machine.run("kici run /root/slow.yaml --json 2>/root/slow.err | jq -r .jobId")
    machine.wait_for(f"kici logs {job} | grep 'line 1$'")
    return job


def let_go(machine: Machine, after_s: float = 0) -> None:
    """It may end, in ``after_s`` seconds; returns at once."""
    machine.run(f"(sleep {after_s}; touch {_GO}) >/dev/null 2>&1 &")


def state(job: str) -> str:
    """A command that prints the coordinator's word for it."""
    select = f'.. | objects | select(.jobId == "{job}") | .state'
    return f"kici jobs --json | jq -er '{select}'"


def ends_whole(machine: Machine, job: str) -> None:
    """Let go, it succeeds; it ran once, kept its files, and no line is lost or there twice."""
    let_go(machine)
    machine.wait_for(f"{state(job)} | grep -v running", 30)
    log = machine.run(f"kici logs {job}")
    assert machine.run(state(job)) == "success", log
    said = [row for row in log.splitlines() if row.startswith("line ") or row in ("kept", "worked")]
    lines = [f"line {i}" for i in range(1, len(said) - 3)]
    assert said == [*lines, "kept", "kept", "kept", "worked"], log
