"""What to do where etcd, or the connection to it, reports something: the texts for operators."""

import ssl

NOT_TRUSTED = "its certificate is not trusted"
A_CERTIFICATE = "a certificate for clients, from a CA that it trusts: `certificate` and `key` of `store`"
NAME_USER = "it demands a user: name `user` and `password_file` of `store` in the topology file"
NO_TLS = "it has no TLS there: write etcd:// in `store`"
MAYBE_TLS = "see its log; if it demands TLS, write etcds:// in `store`"
ETCD_ADVICE = {
    "database space exceeded": "make room (etcdctl compact, etcdctl defrag, etcdctl alarm disarm)",
    "message larger than max": "make the topology file smaller, or start etcd with a larger --max-request-bytes",
    "request is too large": "make the topology file smaller, or start etcd with a larger --max-request-bytes",
    "user name is empty": NAME_USER,
    "authentication failed": "correct `user` of `store` in the topology file, or the password in its `password_file`",
    "permission denied": (
        "allow it to a role of the user (etcdctl role grant-permission ROLE --prefix=true readwrite PREFIX/CLUSTER/)"
    ),
    "CommonName of client": "where etcd has users, a `certificate` of `store` has to be one without a common name",
    "HTTPS server": "it demands TLS: write etcds:// in `store`, and name the certificate's CA in its `ca`",
    "mismatch": "name each member in `store` as its certificate does",
    "expired": "have the certificate renewed",
    NOT_TRUSTED: "name its CA in `ca` of `store`",
    "wrong version number": NO_TLS,
    "eof while reading": f"see its log; maybe {NO_TLS}",
    "alert": f"it demands {A_CERTIFICATE}",
    "status 404": "is it etcd 3.4 or later, with its gateway enabled (--enable-grpc-gateway)?",
}
SEE_ITS_LOG = "see its log"
CORRECT = "correct `store` in the topology file"


def problem_text(error: BaseException) -> str:
    """What is wrong; of a TLS failure, the reason that OpenSSL gives."""
    problem = _tls_problem(error)
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"{NOT_TRUSTED}: {problem.verify_message.rstrip('.')}"
    if problem is not None and problem.reason:
        return problem.reason.replace("_", " ").lower()
    return str(error) or type(error).__name__


def _tls_problem(error: BaseException | None) -> ssl.SSLError | None:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error


def is_handshake(error: Exception) -> bool:
    """Whether a certificate was refused, so no answer came after it."""
    problem = _tls_problem(error)
    reason = (problem and problem.reason) or ""
    return "ALERT" in reason and any(part in reason for part in ("CERT", "UNKNOWN_CA"))


def advice_for(fault: str, other: str = SEE_ITS_LOG) -> str:
    """What an operator does about the fault."""
    return next((advice for part, advice in ETCD_ADVICE.items() if part in fault), other)
