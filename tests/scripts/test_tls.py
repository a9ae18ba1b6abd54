"""What counts as a finding."""

import json

import pytest

from scripts.benchmarks.tls import TOO_OLD, TOPOLOGY, VULNERABLE, findings_of_sslyze, findings_of_testssl


def seen_by_testssl(severity: str, name: str = "FREAK") -> str:
    good = {"id": "TLS1_3", "severity": "OK", "finding": "offered"}
    return json.dumps([good, {"id": name, "severity": severity, "finding": "seen"}])


def test_of_testssl_all_above_info_counts() -> None:
    assert list(findings_of_testssl(seen_by_testssl("INFO"))) == []
    assert list(findings_of_testssl(seen_by_testssl("LOW"))) == ["testssl.sh: FREAK: LOW: seen"]
    assert list(findings_of_testssl(seen_by_testssl("MEDIUM", "BREACH"))) == []


def seen_by_sslyze(**changed: object) -> str:
    results: dict[str, object] = {
        f"{name}_cipher_suites": {"result": {"accepted_cipher_suites": []}} for name in TOO_OLD
    }
    results |= {name: {"result": {field: wanted}} for name, (field, wanted) in VULNERABLE.items()}
    results["robot"] = {"result": {"robot_result": "NOT_VULNERABLE_RSA_NOT_SUPPORTED"}}
    return json.dumps({"server_scan_results": [{"scan_result": results | changed}]})


@pytest.mark.parametrize(
    "changed",
    [
        {"heartbleed": {"result": {"is_vulnerable_to_heartbleed": True}}},
        {"tls_1_3_early_data": {"result": {"supports_early_data": True}}},
        {"tls_1_0_cipher_suites": {"result": {"accepted_cipher_suites": [{}]}}},
        {"tls_1_1_cipher_suites": {"result": None}},
        {"robot": {"result": {"robot_result": "VULNERABLE_WEAK_ORACLE"}}},
    ],
)
def test_of_sslyze_what_is_bad_or_was_not_looked_at_counts(changed: dict[str, object]) -> None:
    assert list(findings_of_sslyze(seen_by_sslyze())) == []
    assert len(list(findings_of_sslyze(seen_by_sslyze(**changed)))) == 1


def test_the_example_has_what_is_replaced() -> None:
    text = TOPOLOGY.read_text()
    assert text.count("127.0.0.1:8080") == 1
    assert "\ncluster: tls\n" in text
