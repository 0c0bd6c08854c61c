"""One JVM that holds ScienceWorld's simulators.

The package starts a JVM for each of its environments; here they share one (half the memory for
eight), with a heap cap, in a process group of its own so that Ctrl-C reaches the run alone. It
ends with this process, however that ends: it watches its standard input, a pipe from here.
"""

from __future__ import annotations

import os
import shutil
import threading
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
        from py4j.java_gateway import launch_gateway
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
        self._gateway = _gateway(port, token)
        self._lock = threading.Lock()
        self._current: Simulator | None = None

    @property
    def pid(self) -> int:
        """Process id."""
        return int(self._process.pid)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def ask(self, simulator: Simulator, question: Callable[[Any], Any]) -> Any:
        """Do something with the JVM on a simulator's behalf.

        Args:
            question: Gets the JVM's name space.

        Raises:
            EnvironmentFailed: The simulator raised an exception.
            EnvironmentDied: The JVM does not answer any more.
        """
        from py4j.java_collections import JavaList
        from py4j.protocol import Py4JError, Py4JJavaError

        try:
            with self._lock:
                self._switch(simulator)
                answer = question(self._gateway.jvm)
                # Items of a Java list are fetched one by one, which may fail, too.
                return list(answer) if isinstance(answer, JavaList) else answer
        except Py4JJavaError as error:
            raise EnvironmentFailed(f"ScienceWorld: {error.java_exception}") from error
        except (Py4JError, OSError) as error:
            self.stop()
            ended = f"exit code {self._process.returncode}, heap_mb={self._heap_mb}"
            raise EnvironmentDied(f"ScienceWorld's JVM is gone ({ended})") from error

    def stop(self) -> None:
        """End the process; simulators hold nothing worth saving."""
        self._process.kill()
        self._process.wait()
        self._gateway.gateway_client.is_connected = False  # so that freed proxies don't call it
        self._gateway.close()

    def _switch(self, simulator: Simulator) -> None:
        """Give a simulator its own numbers for new objects.

        The simulator numbers its objects from 1 after each load, but with one counter for all of a
        JVM: a load elsewhere would make numbers of this one's objects ambiguous, and its scores wrong.
        """
        if simulator is self._current:
            return
        counter = self._gateway.jvm.util.UniqueIdentifier
        if self._current is not None:
            self._current.objects = counter.count()
        getattr(counter, "count_$eq")(simulator.objects)
        self._current = simulator


class Simulator:
    """One of a JVM's simulators: a proxy of the Java object behind the package's wrapper.

    Attributes:
        objects: How many objects it has numbered, while another one is at work.
    """

    def __init__(self, jvm: Jvm) -> None:
        self._jvm, self._busy, self.objects = jvm, False, 0
        self._java = jvm.ask(self, lambda names: names.scienceworld.runtime.pythonapi.PythonInterface())

    @property
    def alive(self) -> bool:
        """Whether its JVM runs."""
        return self._jvm.alive

    def call(self, method: str, *args: str | int | bool) -> Any:
        """Call a method; see `Jvm.ask` for what it raises."""
        self._busy = True
        try:
            return self._jvm.ask(self, lambda _: getattr(self._java, method)(*args))
        finally:
            self._busy = False

    def close(self) -> None:
        """Free it.

        Closed in the middle of a call it hangs, and only the end of the JVM ends that; what else lives
        there is replayed in the next one.
        """
        if self._busy:
            self._jvm.stop()
        self._java = None


def _gateway(port: int, token: str) -> Any:
    """A connection to the JVM that sends nothing twice and reports errors by raising alone.

    py4j's own would repeat a step whose answer was lost, and logs tracebacks to the root logger.
    """
    from py4j.java_gateway import GatewayClient, GatewayParameters, JavaGateway

    class Client(GatewayClient):
        def send_command(self, command: str, retry: bool = True, binary: bool = False) -> str:
            connection = self._get_connection()
            try:
                answer: str = connection.send_command(command)
            except BaseException:
                connection.close(False)
                raise
            self._give_back_connection(connection)
            return answer

    parameters = GatewayParameters(port=port, auth_token=token)
    gateway = JavaGateway(gateway_parameters=parameters)
    gateway.set_gateway_client(Client(gateway_parameters=parameters))
    return gateway
