"""What the tools say, and what is made of it: nothing observed is never nothing found."""

import json

from attack.scanners.words import read_schemathesis, read_slowhttptest, read_sqlmap, read_wapiti

SCHEMATHESIS = """\
==================================== ERRORS ====================================
________________________________ POST /accounts ________________________________
Schema Error

Failed to generate test cases for this API operation
=================================== FAILURES ===================================
___________________________ GET /accounts/{account} ____________________________
1. Test Case ID: TuGL18

- ST105 Undocumented Content-Type

    Received: application/problem+json

[422] Unprocessable Content:

2. Test Case ID: jTut8j

- ST101 Server error

[500] Internal Server Error:

__________________________ TRACE /accounts/{account} ___________________________
1. Test Case ID: USFLjy

- ST101 Server error

[501] Not Implemented:

=================================== SUMMARY ====================================
Test cases:
  3189 generated, 22 found 22 unique failures
"""

SLOW = """\
initializing:        0
pending:             0
connected:           120
error:               0
closed:              30
service available:   YES
Test ended on 40th second
Exit status: Hit test time limit
"""


def test_a_failure_has_its_operation_and_status_and_501_is_none() -> None:
    findings = read_schemathesis(SCHEMATHESIS)
    assert findings.observed == 3189
    assert findings.found == [
        "GET /accounts/{account}: ST101 Server error (500)",
        "GET /accounts/{account}: ST105 Undocumented Content-Type (422)",
        "POST /accounts: could not be tested",
    ]


def test_output_of_a_tool_that_did_nothing_observes_nothing() -> None:
    assert read_schemathesis("No such file").observed == 0
    assert read_sqlmap("[CRITICAL] unable to connect to the target URL").observed == 0
    assert read_slowhttptest("").observed == 0
    assert read_wapiti("").observed == 0
    assert read_wapiti("[]").observed == 0


def test_wapiti_tells_vulnerabilities_and_anomalies() -> None:
    report = {
        "vulnerabilities": {"SQL Injection": [{"method": "GET", "path": "/account", "info": "in id"}], "XSS": []},
        "anomalies": {"Internal Server Error": [{"method": "POST", "path": "/a"}]},
        "infos": {"crawled_pages_nbr": 7},
    }
    findings = read_wapiti(json.dumps(report))
    assert findings.found == ["SQL Injection: GET /account in id", "Internal Server Error: POST /a "]
    assert findings.observed == 7


def test_sqlmap_names_what_can_be_injected_into() -> None:
    clean = "[INFO] testing 'AND boolean-based blind'\n[CRITICAL] all tested parameters do not appear to be injectable."
    assert read_sqlmap(clean).found == []
    assert read_sqlmap(clean).observed == 2
    injected = "[INFO] testing 'x'\nParameter: id (GET)\n    Type: boolean-based blind\nParameter: id (GET)\n"
    assert read_sqlmap(injected).found == ["id (GET)"]


def test_connections_that_are_left_open_and_a_service_that_was_away_are_found() -> None:
    assert read_slowhttptest(SLOW).found == ["120 connections were still open at the end"]
    assert read_slowhttptest(SLOW).observed == 120
    closed = SLOW.replace("connected:           120", "connected:           0")
    assert read_slowhttptest(closed).found == []
    assert read_slowhttptest(closed).observed == 30
    assert "not available" in read_slowhttptest(SLOW.replace("YES", "NO")).found[0]
