"""Texts for operators: tables."""

import ssl

import pytest

from tierlb.controller.etcd_advice import NAME_USER, SEE_ITS_LOG, advice_for, is_handshake, problem_text


def tls(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


def wrapped(cause: BaseException) -> OSError:
    error = OSError("the connection failed")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "text", "handshake"),
    [
        (OSError("no route"), "no route", False),
        (OSError(), "OSError", False),
        (tls("WRONG_VERSION_NUMBER"), "wrong version number", False),
        (wrapped(tls("TLSV1_ALERT_UNKNOWN_CA")), "tlsv1 alert unknown ca", True),
        (wrapped(tls("SSLV3_ALERT_BAD_CERTIFICATE")), "sslv3 alert bad certificate", True),
    ],
)
def test_what_is_wrong_with_tls_is_found_below_other_errors(error: Exception, text: str, handshake: bool) -> None:
    assert (problem_text(error), is_handshake(error)) == (text, handshake)


@pytest.mark.parametrize(
    ("fault", "advice"), [("etcdserver: user name is empty", NAME_USER), ("something else", SEE_ITS_LOG)]
)
def test_a_fault_has_its_advice(fault: str, advice: str) -> None:
    assert advice_for(fault) == advice
