# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The command line: which commands there are, and the one handler of errors.

This file is read at every start, so it imports nothing but `sys`; each command's module is imported when
that command is asked for, and what is heavy only in the command's body.
"""

import sys

# name, what it does; each lives in trtkit.cli.<name>, as a click command called `command`
COMMANDS = (
    ("init", "Write a new project: a small working one, or one around your ONNX file."),
    ("build", "Export, check and publish models to the model repository."),
    ("config", "Compare configurations: files, models, a running server's."),
    ("inspect", "Show what an ONNX file or a TensorRT plan holds, without a GPU."),
    ("lint", "Say what tritonserver will say about a model repository, without a server."),
    ("repo", "Look into a model repository: draw an ensemble."),
    ("serve", "Serve the model repository with a real tritonserver."),
    ("infer", "Send one request to a served model and show the answer."),
    ("validate", "Prove the served models against their references."),
    ("perf", "Load-test a served model."),
    ("deploy", "Render what runs the repository: images, Compose, Kubernetes, monitoring, pipelines."),
    ("doctor", "Check what is installed here and whether it fits together."),
    ("schema", "Print the JSON Schema of trtkit.yaml, for editors."),
)

_HELP = """Usage: trtkit COMMAND [OPTIONS]

From a trained model to a Triton Inference Server deployment that can be trusted.

Commands:
{commands}

Options:
  --version   Show the version and exit.
  -h, --help  Show this message and exit.

`trtkit COMMAND --help` explains a command. A first project: trtkit init demo && cd demo && trtkit build
"""

EXIT_BUG = 70
EXIT_INTERRUPTED = 130


def root_help() -> str:
    """The text of ``trtkit --help``."""
    width = max(len(name) for name, _ in COMMANDS)
    return _HELP.format(commands="\n".join(f"  {name:{width}}  {text}" for name, text in COMMANDS))


def main() -> None:
    """The console script: run the command line and end the process with its exit code."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(root_help())
        sys.exit(0 if arguments else 2)
    if arguments[0] == "--version":
        from trtkit import __version__

        sys.stdout.write(f"trtkit {__version__}\n")
        sys.exit(0)
    sys.exit(run(arguments))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code: 0, that of a `TrtkitError`, click's 2, 130, or 70 for a defect."""
    from importlib import import_module

    from trtkit.errors import TrtkitError, nearest

    name = arguments[0]
    names = [command for command, _ in COMMANDS]
    if name not in names:
        sys.stderr.write(f"trtkit: there is no command '{name}'; {nearest(name, names)}\n")
        return 2
    import click

    command = import_module(f"trtkit.cli.{name}").command
    try:
        return int(command.main(arguments[1:], prog_name=f"trtkit {name}", standalone_mode=False) or 0)
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write("interrupted\n")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away, as `trtkit … | head` does
        return 141
    except TrtkitError as exc:
        sys.stderr.write(f"trtkit {name}: {exc}\n")
        return exc.exit_code
    except Exception:
        import traceback

        traceback.print_exc()
        sys.stderr.write("This is a defect of trtkit; please report it with the lines above.\n")
        return EXIT_BUG
