"""Whatever the environment, the working folder and the home are called or hold: done, or one line and whose mistake."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.support.hostile import environments, shadows
from tests.support.project import PROJECT
from tests.support.small_shop import CONFIG

FEW, MANY, DEEP = 12, 300, 40
BASE = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "JAVA_HOME")}
SCRIPT = "import sys\nfrom vitrine.cli.main import main\nmain()\n"
VARIABLES = re.findall(
    r"\S+",
    """
    PYTHONPYCACHEPREFIX PYTHONUSERBASE PYTHONTZPATH PYTHONUNBUFFERED PYTHONNOUSERSITE PYTHONBREAKPOINT CLASSPATH
    SPARK_CONF_DIR SPARK_LOCAL_IP SPARK_DIST_CLASSPATH HADOOP_HOME JDK_JAVA_OPTIONS http_proxy HTTPS_PROXY all_proxy
    ALL_PROXY grpc_proxy no_proxy no_grpc_proxy GRPC_DNS_RESOLVER NO_COLOR FORCE_COLOR COLUMNS LINES TERM TERMINAL_WIDTH
    COLORTERM CI OMP_NUM_THREADS OMP_PLACES OMP_SCHEDULE KMP_AFFINITY MKL_THREADING_LAYER LOKY_MAX_CPU_COUNT
    OPENBLAS_NUM_THREADS ARROW_IO_THREADS ARROW_DEFAULT_MEMORY_POOL RUST_LOG RUST_BACKTRACE AWS_PROFILE AWS_REGION
    AWS_ENDPOINT_URL AWS_CONFIG_FILE AWS_CA_BUNDLE SSL_CERT_FILE SSLKEYLOGFILE OPENSSL_CONF REQUESTS_CA_BUNDLE
    XDG_CACHE_HOME XDG_RUNTIME_DIR HF_HOME HF_HUB_OFFLINE HF_ENDPOINT TORCH_HOME XLA_FLAGS TF_XLA_FLAGS MILVUS_URI
    TF_CPP_MIN_LOG_LEVEL MLFLOW_TRACKING_URI MLFLOW_RUN_ID MLFLOW_EXPERIMENT_ID OTEL_EXPORTER_OTLP_ENDPOINT AIRFLOW_HOME
    KERAS_BACKEND MPLCONFIGDIR MPLBACKEND SQLITE_TMPDIR TMPDIR HOME USER LANG LC_ALL LANGUAGE TZ TZDIR POSIXLY_CORRECT
    IFS ENV PS4 LD_BIND_NOW VITRINE_HOME VITRINE_MAX_PIXELS VITRINE_MILVUS__URI VITRINE_NIGHTLY__ENCODERS
    VITRINE_LAKE_URI
    """,
)
VALUES = re.findall(
    r"\S+",
    """
    0 1 -1 true 1e9 nan 999999999999999999999 /nowhere /proc/nowhere/x ~ ~nobody/x /dev/null /etc/passwd . .. C utf-16
    http://127.0.0.1:9 file:///x s3://b/x %s%n ${HOME} $(id) `id` ' " \\ { [] a,b;c:d = -- Asia/Kolkata ascii
    """,
)
VALUES += ["", " ", "a b", "\u00e9\U0001f4a1", "\n", "a\tb", "\x1b[31m", "\udcff", "x" * 5000]
NAMES = re.findall(
    r"\S+",
    """
    a#b 100% a%20b a%2Fb [a] {a}* a? a'b a"b a`b a\\b a|b $a ${a} -a a:b a,b a;b a=b a&b ~ ... a. C: s3: con
    """,
)
NAMES += ["a b", " a ", "\u00e9", "e\u0301", "\U0001f4a1", "\u202ea", "a\nb", "\udcff", "a" * 200, "\u00a0"]
VERBS = (
    *("status --json", "encoders --json", "pending --dataset shop --json", "check", "features"),
    *("index --encoder small", "lookup x --dataset shop", "promote small --dataset shop", "night --since 2020-01-01"),
    *("gate catalog --dataset shop", "ingest nowhere --dataset shop", "embed --encoder no --dataset shop"),
    "ingest 3x2 --dataset A --layout generated",
)
"""Those that start no JVM in an empty home."""
FIRST = (
    "ingest 3x2 --dataset shop --layout generated --json",
    "embed --encoder small --dataset shop --json",
    "promote small --dataset shop --force --reason try --json",
)
IN_A_SHOP = (
    *(*FIRST, *VERBS, "report --json", "maintain --json", "sql SHOW\u00a0TABLES --format json"),
    "lookup shop/backpack-0002/0000.jpg --dataset shop --json",
)
"""Those that do something where there is a small shop."""


def surroundings_of(chance: random.Random, folder: Path) -> dict[str, str]:
    """Some of what was set for other programs, and some variables of any value."""
    chosen: dict[str, str] = {}
    for more in chance.sample(list(environments(folder).values()), chance.randint(0, 3)):
        chosen |= more
    return chosen | {name: chance.choice(VALUES) for name in chance.sample(VARIABLES, chance.randint(0, 6))}


def ends(folder: Path, line: str, env: dict[str, str]) -> int:
    """The exit code of a verb in ``folder``, which has to be in order with what was printed."""
    verb = [word.replace("\u00a0", " ") for word in line.split(" ")]
    (folder.parent / "vitrine").write_text(SCRIPT)
    whole = BASE | env | {"PYTHONPATH": str(PROJECT)}
    run = [sys.executable, str(folder.parent / "vitrine"), *verb]
    ran = subprocess.run(run, cwd=folder, env=whole, capture_output=True, timeout=300)
    out, err = ran.stdout.decode(errors="replace"), ran.stderr.decode(errors="replace")
    about = (folder.name, verb, env, ran.returncode, out[-300:], err[-3000:])
    assert ran.returncode in (0, 2, 3), about
    assert not re.search(r"Traceback|\x1b|stack trace|\tat ", out + err), about
    assert len([line for line in err.splitlines() if line.startswith("vitrine: ")]) == bool(ran.returncode), about
    assert ran.returncode or "--json" not in verb or json.loads(out), about
    return ran.returncode


def project(chance: random.Random, folder: Path) -> Path:
    """A project in a folder of any name, in some cases with modules of the standard library's names."""
    project = folder / chance.choice(NAMES)
    project.mkdir(parents=True)
    (project / "vitrine.toml").write_text(CONFIG, encoding=chance.choice(("utf-8", "utf-8-sig")))
    if chance.random() < 0.3:
        shadows(project)
    return project


@pytest.mark.parametrize("cases", [pytest.param(FEW, id="few"), pytest.param(MANY, id="many", marks=pytest.mark.long)])
def test_any_surroundings_end_with_a_documented_code(tmp_path: Path, cases: int) -> None:
    chance, codes = random.Random(20261129), Counter[int]()
    for at in range(cases):
        folder = project(chance, tmp_path / f"case{at}")
        codes[ends(folder, chance.choice(VERBS), surroundings_of(chance, tmp_path / "set"))] += 1
    print(f"\n{cases} surroundings by exit code: {dict(codes)}")
    assert codes[0] and codes[2]


@pytest.mark.long
def test_any_surroundings_of_a_shop(tmp_path: Path) -> None:
    chance, codes = random.Random(20261130), Counter[int]()
    (shop := tmp_path / "shop" / "project").mkdir(parents=True)
    (shop / "vitrine.toml").write_text(CONFIG)
    assert [ends(shop, verb, {}) for verb in FIRST] == [0, 0, 0]
    for at in range(DEEP):
        folder = project(chance, tmp_path / f"case{at}")
        shutil.copytree(shop / ".vitrine", folder / ".vitrine")
        codes[ends(folder, chance.choice(IN_A_SHOP), surroundings_of(chance, tmp_path / "set"))] += 1
    print(f"\n{DEEP} surroundings of a shop by exit code: {dict(codes)}")
    assert codes[0] and codes[2]
