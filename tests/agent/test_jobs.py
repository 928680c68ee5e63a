"""Whole jobs through a real agent process and a real socket."""


# A86 A89 A90
def test_a_job_clones_runs_its_steps_and_reports_in_order(worker, start_agent, repository):
    url, first, _ = repository
    start_agent(KICI_AGENT_TOKEN="kat_x", KICI_LABELS="linux")
    side = worker.accept()
    register = side.register()
    assert register["labels"][0] == "linux"
    side.dispatch(
        [
            {"name": "read", "run": "cat file.txt; echo err >&2"},
            {"name": "out", "run": 'echo "a=1" >> $KICI_OUTPUT; echo "X=from env" >> $KICI_ENV'},
            {"name": "use", "run": 'echo "$X"; printf "no newline"'},
        ],
        repoUrl=url,
        sha=first,
        ref="main",
    )
    end = side.until("job.status", state="success")
    side.until("agent.status", activeJobs=0)
    types = [(f["type"], f.get("state")) for f in side.seen if f["type"].startswith("job.")]
    assert types == [("job.ack", None), ("job.status", "running"), ("job.status", "success")]
    assert sorted(side.log_lines(0)) == ["err", "one"]
    assert side.log_lines(2) == ["from env", "no newline"]
    assert end["data"]["outputs"] == {"out": {"a": "1"}}
    assert [r["status"] for r in end["data"]["stepResults"]] == ["success"] * 3
    streams = {f["stream"] for f in side.seen if f["type"] == "log.chunk"}
    assert streams == {"stdout", "stderr"}
