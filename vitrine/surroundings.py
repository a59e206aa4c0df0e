"""The environment that a process finds, and the one that Vitrine's processes get: whoever starts one asks here.

A shell, a container or a scheduler has variables for its own programs: another Spark, another Airflow, a proxy, a
locale. ``for_child`` is an environment without them, for who starts a process; ``begin`` gives it to a command, whose
children inherit it; ``leave_other_sparks`` is for a JVM on this machine. docs/faults.md says what is obeyed.

It imports what every interpreter has loaded when it starts, and nothing else: until ``begin`` has run, a module of the
working folder or of PYTHONPATH may stand before the standard library's.
"""

import os
import sys
import time

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_LOCAL = ("localhost", "127.0.0.1", "::1")
_LOCALE = "en_US.UTF-8" if sys.platform == "darwin" else "C.UTF-8"
_PYTHON = (
    *("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONPLATLIBDIR", "PYTHONCASEOK", "PYTHONEXECUTABLE"),
    *("PYTHONWARNINGS", "PYTHONOPTIMIZE", "PYTHONINSPECT", "PYTHONDEBUG", "PYTHONVERBOSE", "PYTHONDEVMODE"),
    *("PYTHONASYNCIODEBUG", "PYTHONPROFILEIMPORTTIME", "PYTHONTRACEMALLOC", "PYTHONMALLOC", "PYTHONMALLOCSTATS"),
    *("PYTHONDUMPREFS", "PYTHONIOENCODING", "PYTHONUTF8", "PYTHONCOERCECLOCALE", "PYTHONWARNDEFAULTENCODING"),
)
"""What the interpreter obeys before any program does: where modules lie, what a warning is, how text is read."""
_OTHERS = (
    # What starts several processes tells each its part by these, and means its own.
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK", "MASTER_ADDR", "MASTER_PORT"),
    *("TF_CONFIG", "TF_USE_LEGACY_KERAS", "KERAS_HOME", "MPLBACKEND", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"),
    *("SPARK_REMOTE", "SPARK_CONNECT_MODE", "SPARK_CONNECT_MODE_ENABLED", "SPARK_API_MODE"),
    *("GRPC_TRACE", "GRPC_VERBOSITY", "TORCH_LOGS"),
    *("XLA_FLAGS", "TF_XLA_FLAGS"),  # TensorFlow ends its process at a flag of other versions
    *(
        "FORCE_COLOR",
        "CLICOLOR_FORCE",
        "PY_COLORS",
        "TTY_COMPATIBLE",
        "GITHUB_ACTIONS",
        "TERMINAL_WIDTH",
    ),  # for terminals
    *("BASH_ENV", "ENV", "CDPATH", "SHELLOPTS", "BASHOPTS", "POSIXLY_CORRECT"),  # Spark is started by bash
)
_OTHERS_PREFIXES = ("TORCHELASTIC_", "BASH_FUNC_", "FEAST_", "JOBLIB_", "LOKY_")
# Libraries read these as a number, and some end their process where it is none.
_THREADS = ("_NUM_THREADS", "_MAX_THREADS", "_THREAD_LIMIT", "_WORKER_THREADS", "_MAXIMUM_THREADS")
_CERTIFICATES = (
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"),
)
_CACHES = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")
_SPARKS = ("SPARK_", "PYSPARK_", "HADOOP_", "YARN_", "HIVE_")
_OURS_OF_SPARK = ("SPARK_HOME", "SPARK_USER", "SPARK_LOCAL_DIRS", "SPARK_CONNECT_AUTHENTICATE_TOKEN", "PYSPARK_PYTHON")
_JAVAS = ("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS")
_NETWORK = ("-Djavax.net.", "-Djava.net.", "-Dhttp.", "-Dhttps.", "-DsocksProxy")
"""Options that stay in Java's variables: how the network is reached, and whom to trust in it."""
_AGAIN = "VITRINE_BEGUN_AGAIN"
_NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"
"""With it, each process would compile torch, pandas and all else that it imports anew, for ten seconds and more."""


def begin() -> None:
    """Give this process, which is a command of Vitrine's, the environment of ``for_child``; where its interpreter has
    obeyed another already, the command starts again. To be called before anything else is imported.

    A driver that spark-submit started keeps what spark-submit gave it.
    """
    if not _is_command():
        return
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        os.environ |= _no_proxy_here() | {"TZ": "UTC"}
        time.tzset()
        return
    wrong = _open_standard_streams() or sys.getfilesystemencoding() != "utf-8"
    wrong |= any(os.environ.get(name) not in (None, "", _python().get(name)) for name in _PYTHON)
    if wrong and not os.environ.get(_AGAIN):  # once is enough, whatever comes of it
        again = {name: value for name, value in os.environ.items() if name not in _PYTHON}
        again |= _python() | {"LC_ALL": _LOCALE, _AGAIN: "1"}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], again)  # noqa: S606 (a list, no shell)
    if os.environ.get(_NO_BYTECODE):
        sys.dont_write_bytecode = False
    if sys.path[0] != _ROOT and sys.path[0] in ("", _absolute(os.curdir)):  # of ``python -m vitrine``
        del sys.path[0]
    _become(for_child())
    time.tzset()


def _is_command() -> bool:
    """Is this process the program ``vitrine``, or a module of ours run as a program?"""
    program = _absolute(sys.argv[0] if sys.argv else "")
    rooms = tuple(os.path.join(_ROOT, room, "") for room in ("vitrine", "spark_jobs"))
    return os.path.basename(program) == "vitrine" or program.startswith(rooms)


def _absolute(path: str) -> str:
    try:
        return os.path.abspath(path)
    except OSError:  # the working folder is no more
        return path


def _open_standard_streams() -> bool:
    """Was one of the first three files closed? It is the null device now: else the next file that is opened, a table's
    or a socket's, would be taken for it."""
    closed = False
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            closed = True
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    return closed


def _become(environment: dict[str, str]) -> None:
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    os.environ.update(environment)


def for_child() -> dict[str, str]:
    """The environment that a process of Vitrine's is started with."""
    clean = {name: value for name, value in os.environ.items() if not _is_others(name, value)}
    clean |= _python() | {"TZ": "UTC", "PGTZ": "UTC", "LC_ALL": _LOCALE, "KERAS_BACKEND": "tensorflow"}
    if not _fits(clean.get("SPARK_HOME")):
        clean.pop("SPARK_HOME", None)
    folders = clean.get("PATH", "").split(os.pathsep)
    folders += [folder for folder in os.defpath.split(os.pathsep) if folder not in folders]
    clean["PATH"] = os.pathsep.join(filter(None, folders))
    return clean | _no_proxy_here() | _account(clean)


def _python() -> dict[str, str]:
    """Children find the code that this process runs, wherever they are started, and no module of that folder."""
    installed = {"site-packages", "dist-packages"} & set(_ROOT.split(os.sep))
    return {"PYTHONSAFEPATH": "1"} | ({} if installed else {"PYTHONPATH": _ROOT})


def _is_others(name: str, value: str) -> bool:
    if name.endswith(_THREADS):
        return not value.isdecimal() or int(value) == 0
    if name == "COLUMNS":
        return not value.isdecimal() or int(value) < 40
    if name in _CERTIFICATES:  # a library that finds none there starts no client, not even for this machine
        return not os.path.exists(value)
    if name in _CACHES:
        return not _writable(value)
    return name in (*_PYTHON, *_OTHERS, _NO_BYTECODE, _AGAIN) or name.startswith(_OTHERS_PREFIXES)


def _fits(spark_home: str | None) -> bool:
    """Is it a Spark of the version that Python has? Where Python has none with jars, another is needed."""
    if not spark_home:
        return False
    own = next((jars for folder in sys.path if os.path.isdir(jars := os.path.join(folder, "pyspark", "jars"))), None)
    return own is None or _cores(own) == _cores(os.path.join(spark_home, "jars"))


def _cores(jars: str) -> list[str]:
    return [name for name in os.listdir(jars) if name.startswith("spark-core_")] if os.path.isdir(jars) else []


def _no_proxy_here() -> dict[str, str]:
    """No proxy is asked for what is on this machine: Milvus Lite, Feast's server, Airflow's, Spark's."""
    named = f"{os.environ.get('no_proxy', '')},{os.environ.get('NO_PROXY', '')}".split(",")
    hosts = ",".join(dict.fromkeys(name.strip() for name in (*named, *_LOCAL) if name.strip()))
    # gRPC reads the first that is there of no_grpc_proxy and no_proxy.
    others = os.environ.get("no_grpc_proxy")
    return {"no_proxy": hosts, "NO_PROXY": hosts} | ({"no_grpc_proxy": f"{others},{hosts}"} if others else {})


def ask_no_proxy_here() -> None:
    """Let this process ask no proxy for what is on this machine, whatever started it."""
    os.environ.update(_no_proxy_here())


def name_of_nobody() -> str:
    """A name for this process's account where the machine knows none, as in containers; empty where it does."""
    import pwd

    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return os.environ.get("USER") or f"uid{os.getuid()}"
    return ""


def _account(environment: dict[str, str]) -> dict[str, str]:
    """A user's name and a home that can be written: libraries ask for the one and keep caches in the other."""
    own = {}
    if name := name_of_nobody():
        own = {"SPARK_USER": name} | {key: environment.get(key) or name for key in ("USER", "LOGNAME")}
    home = environment.get("HOME") or os.path.expanduser("~")
    if os.path.isdir(home) and _writable(home):
        return own | {"HOME": home}
    own["HOME"] = _home_of_ours()
    for variable, folder in (("HF_HOME", "huggingface"), ("TORCH_HOME", "torch")):
        cache = os.path.join(home, ".cache", folder)
        if variable not in environment and os.access(cache, os.R_OK | os.X_OK):
            own[variable] = cache  # weights that are there can be read
    return own


def _writable(folder: str) -> bool:
    """Can it be written, or made?"""
    while folder and not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)


def _home_of_ours() -> str:
    import tempfile

    folder = os.path.join(tempfile.gettempdir(), f"vitrine-home-{os.getuid()}")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        there = os.lstat(folder)
        if there.st_uid == os.getuid() and there.st_mode & 0o777 == 0o700 and not os.path.islink(folder):
            return folder
    except OSError:
        pass
    return tempfile.mkdtemp(prefix="vitrine-home-")  # that one is somebody else's


def leave_other_sparks() -> None:
    """Take another Spark's, Hadoop's and Java's settings out of this process's environment: before a JVM on this
    machine, whose settings are ``[spark]`` of vitrine.toml alone. A cluster's are told by these variables, and stay."""
    _become({name: value for name, value in (for_child() | _other_sparks()).items() if value})


def without_other_sparks(environment: dict[str, str]) -> dict[str, str]:
    """``environment`` with what ``leave_other_sparks`` takes out empty, which to Spark and Java is as if it were not
    there: for who can add variables to a child's environment and remove none."""
    return environment | {name: value for name, value in _other_sparks().items() if name in os.environ}


def _other_sparks() -> dict[str, str]:
    """New values of the variables of another Spark; empty where nothing stays."""
    gone = {name: "" for name in os.environ if name.startswith(_SPARKS) and name not in _OURS_OF_SPARK}
    javas = {name: os.environ[name].split() for name in _JAVAS if name in os.environ}
    return gone | {name: " ".join(o for o in options if o.startswith(_NETWORK)) for name, options in javas.items()}


def without_other_airflow(environment: dict[str, str], *, alone: bool) -> dict[str, str]:
    """``environment`` without the variables of another Airflow, whose database would be migrated: none stays where
    AIRFLOW_HOME or AIRFLOW_CONFIG names one, or where ``alone``; else connections and pages do, database and core
    do not."""
    alone = alone or "AIRFLOW_HOME" in environment or "AIRFLOW_CONFIG" in environment
    gone = ("AIRFLOW_",) if alone else ("AIRFLOW__DATABASE__", "AIRFLOW__CORE__")
    return {name: value for name, value in environment.items() if not name.startswith(gone)}
