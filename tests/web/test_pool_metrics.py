"""The scaler's metrics have the reference's names and the pool's numbers."""

from kici.contracts.link.lifecycle import ReloadResult
from kici.contracts.link.views import PoolCounts, WarmSlots
from tests.support.web_child import WebChild, capacity, job, scaler_slots, until
from tests.web.test_metrics import scrape


# W149, S97
def test_scaler_metrics_tell_what_the_pool_told(web: WebChild) -> None:
    warm = (WarmSlots(label_set="arm64,linux", target=2, ready=1, in_flight=1),)
    scalers = (scaler_slots(cpus_used=1.5, memory_used_bytes=64, warm=warm),)
    web.pool.tell(capacity(1, scalers=scalers, guards=("disk",), refusing="disk: full"))
    web.pool.tell(job(1, "j-1", "queued", labels=("linux", "arm64")))
    web.pool.tell(job(2, "j-2", "queued", labels=("linux",)))
    web.pool.tell(job(3, "j-3", labels=("linux",)))
    web.pool.tell(
        PoolCounts(
            rev=1,
            n_log_chunks=7,
            n_log_bytes=900,
            n_spawn_refusals=3,
            spawn_failures=(("container", True, 2),),
            warm_spawns=(("pi", 5),),
            warm_reaped=(("pi", 1),),
        )
    )
    for at in (1.0, 1.0, 2.0):
        web.supervisor.tell(ReloadResult(rev=int(at), ok=at < 2, at=at))
    name = "kici_orch_scaler_config_reloads_total"
    found = until(lambda: scrape(web), lambda m: m.get((name, (("result", "failed"),))) == 1)
    pi = (("scaler", "pi"),)
    pool = (("labelSet", "arm64,linux"), *pi)
    total = (("scaler", "__global__"), ("scalerType", "__global__"))
    for key, value in {
        ("kici_orch_scaler_cpus_used", (*pi, ("scalerType", "bare-metal"))): 1.5,
        ("kici_orch_scaler_memory_bytes_used", total): 64,
        ("kici_orch_scaler_warm_pool_target", pool): 2,
        ("kici_orch_scaler_warm_pool_ready", pool): 1,
        ("kici_orch_scaler_warm_pool_in_flight", pool): 1,
        (
            "kici_orch_dispatch_queue_depth_by_label",
            (("label", "linux"), ("status", "pending")),
        ): 2,
        ("kici_orch_log_chunks_received_total", ()): 7,
        ("kici_orch_log_bytes_stored_total", ()): 900,
        ("kici_orch_scaler_spawn_refusals_total", ()): 3,
        (
            "kici_orch_scaler_spawn_failures_total",
            (("backend", "container"), ("bound", "true")),
        ): 2,
        ("kici_orch_scaler_warm_pool_spawns_total", pi): 5,
        ("kici_orch_scaler_warm_pool_reaped_total", pi): 1,
        (name, (("result", "attempted"),)): 2,
        ("kici_worker_guard_up", (("guard", "disk"),)): 1,
        ("kici_worker_guard_up", (("guard", "memory"),)): 0,
    }.items():
        assert found[key] == value, key
    assert web.request("GET", "/status")[0] == 200
