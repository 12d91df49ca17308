"""
The commands of ``fairway``: their names, options and help, and nothing else.

Each command imports its module when it runs. What is imported here must be
quick and must not need an extra: ``fairway dataplane`` runs in an image without
the operator's libraries, and the other way round.

Exit status: 0 fine, 1 the input has errors, 2 wrong usage.
"""

from typing import Annotated

import typer

from fairway_operator.cli.forms import Output

app = typer.Typer(
    name="fairway",
    help="A Kubernetes ingress controller that can explain itself.",
    epilog="Try it: fairway dev -f examples/quickstart",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


Files = Annotated[
    list[str],
    typer.Option(
        "--filename",
        "-f",
        metavar="PATH",
        help="File or folder of manifests, or - for standard input; may be repeated.",
    ),
]
MaybeFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--filename",
        "-f",
        metavar="PATH",
        help="File or folder of manifests, or - for standard input; may be repeated.",
    ),
]
Kubeconfig = Annotated[
    str, typer.Option(metavar="PATH", help="Without it the one that kubectl takes.")
]
Context = Annotated[str, typer.Option(metavar="NAME", help="Of the kubeconfig.")]
Namespaces = Annotated[
    list[str] | None,
    typer.Option("--namespace", "-n", help="Look at these only; may be repeated. Without -f."),
]
OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="text for people, json or yaml for programs.")
]


def main() -> None:
    """Run the command line; the entry point of the distribution."""
    app()


@app.command(
    epilog="Example: fairway dev -f examples/quickstart --http-port 8080",
)
def dev(  # noqa: PLR0913 - one for each option
    filename: Files,
    *,
    http_port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8080,
    https_port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8443,
    admin_port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 9000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that forward.")] = 1,
    bind: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Serve a folder of manifests on this machine, without a cluster."""
    from fairway_operator.cli import dev as command  # noqa: PLC0415

    options = command.DevOptions(
        paths=tuple(filename),
        http_port=http_port,
        https_port=https_port,
        admin_port=admin_port,
        workers=workers,
        bind=bind,
    )
    raise typer.Exit(command.run(options))


@app.command(name="compile", epilog="Example: fairway compile -f manifests/ -o json")
def compile_(filename: Files, output: OutputOption = Output.TEXT) -> None:
    """Print the snapshot that the manifests come to, and its digest; never a secret."""
    from fairway_operator.cli import compile as command  # noqa: PLC0415

    raise typer.Exit(command.run(filename, output))


@app.command(epilog="Example: fairway validate -f manifests/ || exit 1")
def validate(filename: Files, output: OutputOption = Output.TEXT) -> None:
    """Say what is wrong with the manifests; exit 1 when something is."""
    from fairway_operator.cli import validate as command  # noqa: PLC0415

    raise typer.Exit(command.run(filename, output))


@app.command(
    epilog="Example: fairway explain http://shop.localhost/cart -f examples/quickstart",
)
def explain(  # noqa: PLR0913 - one for each option
    url: Annotated[
        str, typer.Argument(metavar="URL", help="Such as https://shop.example/cart?v=2")
    ],
    filename: MaybeFiles = None,
    *,
    method: Annotated[str, typer.Option("--method", "-X", help="Method of the request.")] = "GET",
    header: Annotated[
        list[str] | None,
        typer.Option("--header", "-H", metavar="NAME: VALUE", help="May be repeated."),
    ] = None,
    client_ip: Annotated[str, typer.Option(help="Where the request comes from.")] = "127.0.0.1",
    namespace: Namespaces = None,
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    controller_name: Annotated[
        str, typer.Option(help="The operator's setting of this name, without -f.")
    ] = "fairway.dev/ingress-controller",
    watch_without_class: Annotated[
        bool, typer.Option(help="The operator's setting of this name, without -f.")
    ] = False,
    assumed_class: Annotated[
        str, typer.Option(help="The operator's setting of this name, without -f.")
    ] = "fairway",
    output: OutputOption = Output.TEXT,
) -> None:
    """
    Say which route a request takes, why, and why not the others.

    Of the manifests, or without -f of what the API server of the kubeconfig holds.
    """
    from fairway_operator.cli import explain as command  # noqa: PLC0415

    try:
        request = command.request_of(url, method, header or [], client_ip)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if filename:
        from fairway_operator.cli.from_files import compile_files  # noqa: PLC0415

        raise typer.Exit(command.run(request, compile_files(filename), output))
    from fairway_operator.cli.from_api import compile_live  # noqa: PLC0415
    from fairway_operator.cli.reach import Reach  # noqa: PLC0415
    from fairway_operator.compiler import CompilerSettings  # noqa: PLC0415

    reach = Reach(kubeconfig=kubeconfig, context=context, namespaces=tuple(namespace or ()))
    settings = CompilerSettings(
        controller_name=controller_name, watch_without_class=watch_without_class
    )
    compiled = compile_live(reach, settings, assumed_class=assumed_class)
    raise typer.Exit(1 if compiled is None else command.run(request, compiled, output, live=True))


@app.command(epilog="Example: git stash; fairway compile ...; fairway diff -f old/ -f new/")
def diff(filename: Files, output: OutputOption = Output.TEXT) -> None:
    """Show the change in meaning between two folders: -f OLD -f NEW."""
    from fairway_operator.cli import diff as command  # noqa: PLC0415

    if len(filename) != 2:
        raise typer.BadParameter("give two, the old and the new", param_hint="-f")
    raise typer.Exit(command.run(filename[0], filename[1], output))


@app.command(epilog="Example: fairway status -n fairway-system")
def status(  # noqa: PLR0913 - one for each option
    *,
    admin: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="Ask this admin port, of an operator or of a data plane, such as that of"
            " fairway dev: http://127.0.0.1:9000.",
        ),
    ] = "",
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="Where the release is.")
    ] = "fairway-system",
    release: Annotated[str, typer.Option(help="Name of the release; empty is any.")] = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """
    Show data planes, digests, receipts and findings of a running system.

    Without --admin the pods of the release are asked through the API server of the
    kubeconfig, and where there is none, the admin port of fairway dev.
    """
    from fairway_operator.cli import status as command  # noqa: PLC0415
    from fairway_operator.cli.reach import Reach, has_kubeconfig  # noqa: PLC0415

    if admin or not (kubeconfig or has_kubeconfig()):
        raise typer.Exit(command.run(admin or "http://127.0.0.1:9000", output))
    reach = Reach(kubeconfig=kubeconfig, context=context, namespaces=(namespace,))
    raise typer.Exit(command.run_release(reach, release, output))


_PROGRAM = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(context_settings=_PROGRAM, add_help_option=False)
def operator(context: typer.Context) -> None:
    """Run the operator; every setting is a flag or a FAIRWAY__ variable (--help lists them)."""
    from fairway_operator.cli import operator as command  # noqa: PLC0415

    raise typer.Exit(command.run(context.args))


@app.command(context_settings=_PROGRAM, add_help_option=False)
def dataplane(context: typer.Context) -> None:
    """Run a data plane; every setting is a flag or a FAIRWAY__ variable (--help lists them)."""
    from fairway_operator.cli import dataplane as command  # noqa: PLC0415

    raise typer.Exit(command.run(context.args))


@app.command(epilog="Example: fairway version -o json")
def version(output: OutputOption = Output.TEXT) -> None:
    """Print the version, whether requests are served by compiled code, and by whose TLS."""
    from importlib.metadata import version as version_of  # noqa: PLC0415

    from fairway_dataplane.exchange import COMPILED  # noqa: PLC0415
    from fairway_dataplane.tls.serving import RUSTLS  # noqa: PLC0415

    number = version_of("fairway")
    request_path = "compiled" if COMPILED else "python"
    tls = "rustls" if RUSTLS else "openssl"
    match output:
        case Output.TEXT:
            typer.echo(f"fairway {number} (request path: {request_path}, TLS: {tls})")
        case Output.JSON:
            shown = f'"version": "{number}", "request_path": "{request_path}", "tls": "{tls}"'
            typer.echo(f"{{{shown}}}")
        case Output.YAML:
            typer.echo(f"version: {number}\nrequest_path: {request_path}\ntls: {tls}")
