"""Login of people at an OpenID Connect issuer, for pages: `OidcLogin`.

Beginning with `oidc`, which shows the flow; `attempt` has what binds it to one browser, `tokens` what is asked of an ID
token, `paths` where a browser may be sent.
"""

from workhorse.identity.login.oidc import OidcLogin
from workhorse.identity.login.paths import LoginPaths, is_local_path
from workhorse.identity.login.problems import LoginFailed, LoginNotAllowed

__all__ = ["LoginFailed", "LoginNotAllowed", "LoginPaths", "OidcLogin", "is_local_path"]
