"""The page that shows an API's operations, made so that it runs under the guard's Content-Security-Policy.

Frameworks load that page's scripts from other people's servers, and start them by a script in the page. The policy of
pages forbids both, and a page that asked for an exception would lend it to whoever slips something into it. So here
everything comes from the service's own origin: the files of Swagger UI out of a wheel (the extra `docs`), whose code is
never imported, and two scripts of our own. What differs from app to app stands in attributes of the page, as data.

This room knows no framework: it makes files and pages, and a framework's integration serves them.
"""

from workhorse.integrations.api_docs.files import (
    SWAGGER_UI_SCRIPT,
    DocsFile,
    DocsFiles,
    find_swagger_ui,
    load_files,
    split_data_urls,
)
from workhorse.integrations.api_docs.pages import (
    missing_page,
    page_policy,
    redirect_page,
    redoc_page,
    swagger_page,
)

__all__ = [
    "SWAGGER_UI_SCRIPT",
    "DocsFile",
    "DocsFiles",
    "find_swagger_ui",
    "load_files",
    "missing_page",
    "page_policy",
    "redirect_page",
    "redoc_page",
    "split_data_urls",
    "swagger_page",
]
