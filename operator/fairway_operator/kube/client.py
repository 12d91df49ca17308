"""
Requests to the API server, as JSON.

The generated classes of the ``kubernetes`` package would cost a copy of each
object and refuse fields they do not know, so only its configuration (service
account, kubeconfig, renewal of tokens) and its transport are used here. Bodies
are plain JSON values in both directions; every failure is a
:class:`KubeError`.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

Body = dict[str, Any]

PAGE_SIZE = 500
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/strategic-merge-patch+json"


class KubeError(Exception):
    """A request that failed; ``status`` is 0 when there was no answer."""

    def __init__(self, status: int, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {message}")
        self.status = status
        self.message = message
        self.retry_after = retry_after
        """Seconds that the server asks to wait."""


class ListExpiredError(KubeError):
    """The pages of a list no longer belong together; list again from the first."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where the API server is and what it asks for, for a client that is not ours."""

    server: str
    headers: Mapping[str, str]
    ssl: Any
    """An ``ssl.SSLContext``, or None for plain HTTP."""


class KubeClient:
    """One connection pool to one API server."""

    def __init__(self, configuration: Configuration, *, timeout_seconds: float = 30.0) -> None:
        self._configuration = configuration
        self._timeout_seconds = timeout_seconds
        self._api = ApiClient(configuration)

    async def close(self) -> None:
        """Close all connections."""
        await self._api.close()  # type: ignore[no-untyped-call] # generated code

    async def access(self) -> Access:
        """Return present credentials; tokens in them may expire and must then be asked for anew."""
        headers: dict[str, str] = {}
        await self._api.update_params_for_auth(headers, [], ["BearerToken"], "/", "GET", None)
        return Access(self._configuration.host, headers, self._api.rest_client.ssl_context)

    async def get(self, path: str, **query: str) -> Body:
        """Read one object. Raises KubeError."""
        return await self._request("GET", path, query=query)

    async def create(self, path: str, body: Body) -> Body:
        """Create an object in the collection ``path``; 409 when it exists. Raises KubeError."""
        return await self._request("POST", path, body=body)

    async def replace(self, path: str, body: Body) -> Body:
        """Replace an object; 409 when ``metadata.resourceVersion`` is not its newest."""
        return await self._request("PUT", path, body=body)

    async def apply(self, path: str, body: Body, *, field_manager: str) -> Body:
        """Apply server-side, and take over fields that another manager holds."""
        return await self._request(
            "PATCH",
            path,
            query={"fieldManager": field_manager, "force": "true"},
            body=body,
            content_type=_APPLY,
        )

    async def merge(self, path: str, body: Body, *, field_manager: str) -> Body:
        """
        Change some fields of a built-in kind; lists that have names are merged by them.

        409 when ``metadata.resourceVersion`` is given and not the newest. Raises KubeError.
        """
        return await self._request(
            "PATCH",
            path,
            query={"fieldManager": field_manager},
            body=body,
            content_type=_MERGE,
        )

    async def pages(self, path: str, **query: str) -> AsyncIterator[tuple[list[Body], str]]:
        """
        List a collection in pages, each with the resourceVersion of the whole list.

        Raises ListExpiredError when the server has forgotten the list between
        two pages, and KubeError.
        """
        token = ""
        while True:
            page = {**query, "limit": str(PAGE_SIZE)}
            if token:
                page["continue"] = token
            try:
                answer = await self._request("GET", path, query=page)
            except KubeError as error:
                if error.status == HTTPStatus.GONE and token:
                    raise ListExpiredError(error.status, error.message) from error
                raise
            metadata = answer.get("metadata") or {}
            yield answer.get("items") or [], str(metadata.get("resourceVersion", ""))
            token = metadata.get("continue") or ""
            if not token:
                return

    async def proxy(self, path: str) -> tuple[int, str]:
        """
        Return status and text of what a pod answers, by way of the API server.

        Raises KubeError where the API server itself refuses, or cannot reach the pod.
        """
        status, content, _ = await self._exchange("GET", path, None, "application/json")
        if status >= HTTPStatus.BAD_REQUEST and _is_status(content):
            raise _failure(status, content, None)
        return status, content.decode(errors="replace")

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Body | None = None,
        content_type: str = "application/json",
    ) -> Body:
        target = path + (f"?{urlencode(query)}" if query else "")
        status, content, retry_after = await self._exchange(method, target, body, content_type)
        if status >= HTTPStatus.BAD_REQUEST:
            raise _failure(status, content, retry_after)
        return _decode(content)

    async def _exchange(
        self, method: str, target: str, body: Body | None, content_type: str
    ) -> tuple[int, bytes, str | None]:
        """Return status, body and Retry-After of an answer. Raises KubeError without one."""
        url = self._configuration.host + target
        path = target.partition("?")[0]
        headers = {"Accept": "application/json", "Content-Type": content_type}
        try:
            await self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
            response = await self._api.call_api(
                method, url, headers, body=body, _request_timeout=self._timeout_seconds
            )
            content = await response.read()  # type: ignore[no-untyped-call] # generated code
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise KubeError(0, f"{type(error).__name__}: {error}") from error
        return response.status, content, response.headers.get("Retry-After")


async def connect(kubeconfig: str = "", *, context: str = "") -> KubeClient:
    """
    Use a kubeconfig file, or the pod's service account. Raises KubeError when there is none.

    ``context`` is one of the kubeconfig's; empty takes its current one.
    """
    configuration = Configuration()
    configuration.retries = None
    try:
        if kubeconfig:
            await config.load_kube_config(  # type: ignore[no-untyped-call] # as the package is
                kubeconfig, context or None, client_configuration=configuration
            )
        else:
            config.load_incluster_config(  # type: ignore[no-untyped-call] # as the package is
                client_configuration=configuration
            )
        return KubeClient(configuration)
    except config.ConfigException as error:
        raise KubeError(0, f"no access to a cluster: {error}") from error
    except Exception as error:
        # The package takes a file for what it should be, and fails in as many ways as there are.
        # Only the type is told: the text may quote what the file holds.
        name = kubeconfig or "the service account"
        reason = error.strerror if isinstance(error, OSError) else None
        what = reason or f"it is not what it should be ({type(error).__name__})"
        raise KubeError(0, f"no access to a cluster: {name} cannot be used: {what}") from error


def _decode(content: bytes) -> Body:
    try:
        return msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise KubeError(0, f"the answer is not a JSON object: {error}") from error


def _is_status(content: bytes) -> bool:
    """Tell whether this is the API server's own word: a pod of ours answers errors as text."""
    try:
        return msgspec.json.decode(content, type=dict[str, Any]).get("kind") == "Status"
    except msgspec.DecodeError:
        return False


def _failure(status: int, content: bytes, retry_after: str | None) -> KubeError:
    # Whatever stands in front of the API server may answer with anything.
    try:
        message = msgspec.json.decode(content, type=dict[str, Any]).get("message", "")
    except msgspec.DecodeError:
        message = ""
    seconds = float(retry_after) if retry_after and retry_after.isdecimal() else None
    return KubeError(status, str(message) or "no message", retry_after=seconds)
