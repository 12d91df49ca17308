"""Annotations of ingress-nginx without which nothing is different for a client."""

from typing import Final

TRIFLES: Final = (
    "affinity-canary-behavior", "affinity-mode", "auth-always-set-cookie",
    "auth-cache-duration", "auth-cache-key", "auth-keepalive", "auth-keepalive-requests",
    "auth-keepalive-share-vars", "auth-keepalive-timeout", "auth-method",
    "auth-proxy-set-headers", "auth-realm", "auth-request-redirect", "auth-response-headers",
    "auth-secret-type", "auth-signin", "auth-signin-redirect-param", "auth-tls-error-page",
    "auth-tls-match-cn", "auth-tls-pass-certificate-to-upstream", "auth-tls-verify-client",
    "auth-tls-verify-depth", "canary-by-cookie", "canary-by-header", "canary-by-header-pattern",
    "canary-by-header-value", "canary-weight", "canary-weight-total", "client-body-buffer-size",
    "connection-proxy-header", "cors-allow-credentials", "cors-allow-headers",
    "cors-allow-methods", "cors-allow-origin", "cors-expose-headers", "cors-max-age",
    "disable-proxy-intercept-errors", "enable-access-log", "enable-global-auth",
    "enable-influxdb", "enable-opentelemetry", "enable-opentracing", "enable-rewrite-log",
    "global-rate-limit-ignored-cidrs", "global-rate-limit-key", "global-rate-limit-window",
    "http2-push-preload", "influxdb-host", "influxdb-measurement", "influxdb-port",
    "influxdb-server-name", "limit-burst-multiplier", "limit-whitelist", "mirror-host",
    "mirror-request-body", "modsecurity-transaction-id", "opentelemetry-operation-name",
    "opentelemetry-trust-incoming-span", "opentracing-trust-incoming-span",
    "preserve-trailing-slash", "proxy-buffer-size", "proxy-buffering", "proxy-buffers-number",
    "proxy-busy-buffers-size", "proxy-http-version", "proxy-max-temp-file-size",
    "proxy-next-upstream-timeout", "proxy-request-buffering", "proxy-send-timeout",
    "proxy-ssl-ciphers", "proxy-ssl-protocols", "proxy-ssl-server-name",
    "proxy-ssl-verify-depth", "relative-redirects", "satisfy", "service-upstream",
    "session-cookie-change-on-failure", "session-cookie-conditional-samesite-none",
    "session-cookie-domain", "session-cookie-expires", "session-cookie-max-age",
    "session-cookie-name", "session-cookie-path", "session-cookie-samesite",
    "session-cookie-secure", "ssl-prefer-server-ciphers", "upstream-hash-by-subset",
    "upstream-hash-by-subset-size",
)  # fmt: skip
"""They tune nginx, or go with another annotation that is told of."""

FAMILIES: Final = {
    "auth-": ("auth-url", "auth-type", "auth-secret", "auth-tls-secret"),
    "canary-": ("canary",),
    "cors-": ("enable-cors",),
    "global-rate-limit-": ("global-rate-limit",),
    "limit-": ("limit-rps", "limit-rpm", "limit-connections"),
    "mirror-": ("mirror-target",),
    "session-cookie-": ("affinity",),
    "upstream-hash-by-": ("upstream-hash-by",),
}
"""Beginnings of names, and the annotations that such go with."""
