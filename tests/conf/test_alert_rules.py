"""Alerts fire when they should, and only then."""

from pathlib import Path

import pytest
import yaml

from tests.web.test_metrics import CONF, NAME, promtool


def rule(name: str) -> dict:
    rules = yaml.safe_load((CONF / "prometheus/kici-worker.rules.yaml").read_text())
    return next(one for one in rules["groups"][0]["rules"] if one["alert"] == name)


def test_results_that_wait_are_not_told_by_the_age_of_jobs_that_run() -> None:
    waiting = rule("KiciWorkerResultsWait")
    assert NAME.findall(waiting["expr"]) == ["kici_worker_outbox_result_age_seconds"]


@pytest.mark.debian
def test_promtool_sees_the_alert_for_results_that_wait_and_no_false_one(tmp_path: Path) -> None:
    case = {
        "rule_files": [str(CONF / "prometheus/kici-worker.rules.yaml")],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    series("busy", "0+10x150"),
                    series("stuck", "0+60x150"),
                ],
                "alert_rule_test": [
                    {
                        "eval_time": "130m",
                        "alertname": "KiciWorkerResultsWait",
                        "exp_alerts": [
                            {
                                "exp_labels": {
                                    "severity": "warning",
                                    "instance": "stuck",
                                },
                                "exp_annotations": {
                                    key: text.replace("{{ $labels.instance }}", "stuck")
                                    for key, text in rule("KiciWorkerResultsWait")[
                                        "annotations"
                                    ].items()
                                },
                            }
                        ],
                    }
                ],
            }
        ],
    }
    (tmp_path / "case.yaml").write_text(yaml.safe_dump(case))
    promtool("test", "rules", str(tmp_path / "case.yaml"))


def series(instance: str, values: str) -> dict[str, str]:
    name = f'kici_worker_outbox_result_age_seconds{{instance="{instance}"}}'
    return {"series": name, "values": values}
