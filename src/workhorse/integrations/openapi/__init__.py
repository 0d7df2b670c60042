"""Makes the OpenAPI document that a framework publishes tell what the service around the app does.

A framework knows its handlers. It does not know who may call them, that a retry needs an Idempotency-Key, or that the
service answers 429 with a problem document. All of that is in the policies and the identity, so it is taken from there,
and cannot differ from what is served. What the app has declared itself is left as it is: only what is missing is added.

Described is what the service may answer once it knows which operation a request is for. What it refuses before that
(another host, a head that is too large or broken, plain HTTP where TLS is wanted) belongs to no operation.

This room knows no framework: it completes a document, and a framework's integration publishes it.
"""

from workhorse.integrations.openapi.document import Facts, complete
from workhorse.integrations.openapi.replies import PROBLEM_JSON, problem_replies

__all__ = ["PROBLEM_JSON", "Facts", "complete", "problem_replies"]
