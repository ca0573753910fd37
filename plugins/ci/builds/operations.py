"""The operations of the plugin."""

from collections.abc import Iterator
from typing import Annotated

from builds import github, hooks, jenkins
from builds.build import OVER, Build
from builds.settings import GitHub, Jenkins, Settings, check
from consort.plugin import Call, Limits, Plugin, PluginError

plugin = Plugin(
    "ci",
    version="0.1.0",
    description="Starts builds of GitHub Actions and Jenkins, follows them, reads their logs, and checks webhooks.",
    config=Settings,
    threads=32,
)
plugin.on_configure(check)

Name = Annotated[str, Limits(minLength=1, maxLength=500)]


@plugin.operation(effect="write", dry_run=True)
def start(
    call: Call, what: Name, ref: str = "", inputs: dict[str, str] | None = None, service: str = "default"
) -> Build | None:
    """Starts a build.

    Args:
        what: GitHub: the workflow's file, such as ci.yml. Jenkins: the job's full name, such as folder/name.
        ref: GitHub: the branch or tag.
        inputs: What the workflow or job asks for, by name.
        service: Its name in the configuration.

    """
    place = _place(call, service)
    shown = f"{what} of '{service}'" + (f" at {ref}" if ref else "")
    if call.dry_run:
        call.would(f"start {shown}")
        return None
    build = _service(call, place).start(what, ref, inputs or {})
    call.did(f"started {shown}: {build['build'] or 'a run that is not named'}")
    return build


@plugin.operation(effect="read")
def status(call: Call, build: Name, service: str = "default") -> Build:
    """Says how a build is.

    Args:
        build: As `start` or `status` named it.
        service: Its name in the configuration.

    """
    return _service(call, _place(call, service)).status(build)


@plugin.operation(effect="read", timeout=3600)
def wait(call: Call, build: Name, service: str = "default") -> Build:
    """Waits until a build is over, and says how it ended; the call's deadline says how long at most.

    Args:
        build: As `start` or `status` named it.
        service: Its name in the configuration.

    """
    at = _service(call, _place(call, service))
    told = ""
    while True:
        found = at.status(build)
        if found["state"] in OVER:
            return found
        if found["detail"] != told:
            told = found["detail"]
            call.progress(None, f"{found['state']}: {told}")
        build = found["build"]  # One that waited has another name once it has begun.
        call.sleep(call.config.poll_s)


@plugin.operation(effect="read", media_type="text/plain; charset=utf-8", timeout=300)
def logs(call: Call, build: Name, service: str = "default") -> Iterator[bytes]:
    """Reads the log of a build.

    Args:
        build: As `start` or `status` named it.
        service: Its name in the configuration.

    """
    yield from _service(call, _place(call, service)).logs(build)


@plugin.operation(effect="idempotent_write", dry_run=True)
def cancel(call: Call, build: Name, service: str = "default") -> None:
    """Asks to stop a build.

    Args:
        build: As `start` or `status` named it.
        service: Its name in the configuration.

    """
    place = _place(call, service)
    if call.dry_run:
        call.would(f"cancel {build} of '{service}'")
        return
    _service(call, place).cancel(build)
    call.did(f"cancelled {build} of '{service}'")


@plugin.operation(effect="read")
def verify(
    call: Call,
    headers: dict[str, str],
    body: Annotated[str, Limits(maxLength=1_000_000)],
    webhook: str = "default",
) -> hooks.Event:
    """Checks the signature of a webhook that came in, and reads it.

    Args:
        headers: Those of the request.
        body: Its body as it came, to the byte.
        webhook: Its name in the configuration.

    """
    known = call.config.webhooks
    if webhook not in known:
        raise _unknown("webhook", webhook, list(known))
    hook = known[webhook]
    return hooks.verified(hook, call.host.get_secret(hook.secret), headers, body.encode())


def _place(call: Call, name: str) -> GitHub | Jenkins:
    services: dict[str, GitHub | Jenkins] = call.config.services
    if name not in services:
        raise _unknown("service", name, list(services))
    return services[name]


def _service(call: Call, place: GitHub | Jenkins) -> github.Service | jenkins.Service:
    secret = call.host.get_secret(place.secret)
    if isinstance(place, GitHub):
        return github.Service(call, call.config, place, secret)
    return jenkins.Service(call, call.config, place, secret)


def _unknown(what: str, name: str, known: list[str]) -> PluginError:
    problem = f"no {what} '{name}'; the configuration has: {', '.join(known) or 'none'}"
    return PluginError("NOT_FOUND", problem, field=what, reason=f"NO_{what.upper()}")
