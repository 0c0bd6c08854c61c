"""One JVM that holds ScienceWorld's simulators.

The package starts a JVM for each of its environments; here they share one (half the memory for
eight), with a heap cap, in a process group of its own so that Ctrl-C reaches the run alone. It
ends with this process, however that ends: it watches its standard input, a pipe from here.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from itercli.environments.base import EnvironmentDied, EnvironmentFailed

# The simulator keeps its objects in hash sets keyed by identity, and HotSpot draws identity hashes at
# random: the order in which things are listed (and with it ambiguity and valid actions) would differ from
# one reset to the next. With equal hashes the order is that of insertion.
SAME_ORDER = ("-XX:+UnlockExperimentalVMOptions", "-XX:hashCode=2")
NO_PACKAGE = "ScienceWorld is not installed: pip install 'itercli[scienceworld]'"
NO_JAVA = (
    "ScienceWorld needs Java, which is neither on the PATH nor in JAVA_HOME: apt-get install "
    "default-jre-headless, or brew install openjdk"
)


def find_java() -> str | None:
    """The Java program: of JAVA_HOME, else on the PATH."""
    home = os.environ.get("JAVA_HOME")
    return (shutil.which("java", path=str(Path(home) / "bin")) if home else None) or shutil.which("java")


def require() -> str:
    """The Java program.

    Raises:
        EnvironmentFailed: It or the package is missing.
    """
    if find_spec("scienceworld") is None or find_spec("py4j") is None:
        raise EnvironmentFailed(NO_PACKAGE)
    java = find_java()
    if java is None:
        raise EnvironmentFailed(NO_JAVA)
    return java


class Jvm:
    """A running JVM.

    Args:
        heap_mb: Cap of its heap, in MiB; the process takes about 150 MiB more. Out of heap it ends,
            which is an `EnvironmentDied` for all that use it.

    Raises:
        EnvironmentFailed: Java or the package is missing, or Java does not start.
    """

    def __init__(self, heap_mb: int) -> None:
        java = require()
        from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway
        from scienceworld.constants import BASEPATH, JAR_PATH

        # Options on the command line, not in JAVA_TOOL_OPTIONS, which other programs would obey too.
        options = [f"-Xmx{heap_mb}m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", *SAME_ORDER]
        try:
            # The simulator reads a table from its working directory, and writes one where there is none.
            # Without a token any local user could run code through the gateway's port.
            port, token, self._process = launch_gateway(
                classpath=JAR_PATH, cwd=BASEPATH, javaopts=options, java_path=java, die_on_exit=True,
                create_new_process_group=True, enable_auth=True, return_proc=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            raise EnvironmentFailed(f"{java} does not start with {' '.join(options)}: {error}") from error
        self._heap_mb = heap_mb
        self._gateway = JavaGateway(gateway_parameters=GatewayParameters(port=port, auth_token=token))

    @property
    def pid(self) -> int:
        """Process id."""
        return int(self._process.pid)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def simulator(self) -> Any:
        """A new simulator: a proxy of the Java object behind the package's wrapper."""
        # Each dot asks the JVM too.
        return self.call(lambda: self._gateway.jvm.scienceworld.runtime.pythonapi.PythonInterface())

    def call(self, ask: Callable[[], Any]) -> Any:
        """Do something that asks the JVM; Java lists, whose items are fetched one by one, come as lists.

        Raises:
            EnvironmentFailed: The simulator raised an exception.
            EnvironmentDied: The JVM does not answer any more.
        """
        from py4j.java_collections import JavaList
        from py4j.protocol import Py4JError, Py4JJavaError

        try:
            answer = ask()
            return list(answer) if isinstance(answer, JavaList) else answer
        except Py4JJavaError as error:
            raise EnvironmentFailed(f"ScienceWorld: {error.java_exception}") from error
        except (Py4JError, OSError) as error:
            self.stop()
            ended = f"exit code {self._process.returncode}"
            raise EnvironmentDied(
                f"ScienceWorld's JVM is gone ({ended}); it had heap_mb={self._heap_mb}"
            ) from error

    def stop(self) -> None:
        """End the process; simulators hold nothing worth saving."""
        self._process.kill()
        self._process.wait()
        self._gateway.close()
