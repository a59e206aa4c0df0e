#!/bin/sh
# All that Vitrine needs on a machine with Python 3.11 or 3.12, make and git: uv where there is none (into .tools/), a
# Java runtime (by apt-get, where that is allowed), the locked environment (into .venv/), Delta's jars and an archive of
# the JVM's classes (beside Spark's).
# make runs it before every target; where nothing is left to do it takes a fraction of a second.
set -eu
unset CDPATH VIRTUAL_ENV UV_PROJECT_ENVIRONMENT PYTHONHOME PYTHONPATH PYTHONDONTWRITEBYTECODE SPARK_HOME
cd -- "$(dirname -- "$0")/.."
root=$(pwd -P)
stamp=.venv/.vitrine-setup

say() { printf 'set-up: %s\n' "$*" >&2; }

# --- Java: Spark 4 starts at 17; its Hadoop asks the JVM for what 23 took away (Subject.getSubject).

java_fits() {
    major=$("$1" -version 2>&1 </dev/null | sed -n 's/.*version "\([0-9][0-9]*\).*/\1/p' | sed 1q)
    [ -n "$major" ] && [ "$major" -ge 17 ] && [ "$major" -le 22 ]
}

# What Spark would take by itself, else any that fits, by a link that the Makefile hands on as JAVA_HOME.
find_java() {
    if java_fits "${JAVA_HOME:+$JAVA_HOME/bin/}java"; then
        rm -f .tools/java
        return 0
    fi
    for java in .tools/java/bin/java java /usr/lib/jvm/*/bin/java /opt/homebrew/opt/openjdk@*/bin/java \
        /usr/local/opt/openjdk@*/bin/java /Library/Java/JavaVirtualMachines/*/Contents/Home/bin/java \
        "${HOME:-/nowhere}"/.sdkman/candidates/java/*/bin/java; do
        java_fits "$java" || continue
        [ "$java" != .tools/java/bin/java ] || return 0
        home=$("$java" -XshowSettings:properties -version 2>&1 | sed -n 's/^ *java\.home = //p')
        mkdir -p .tools
        ln -sfn "$home" .tools/java
        say "make uses Java $major of $home; for commands outside make: export JAVA_HOME='$home'"
        return 0
    done
    return 1
}

install_java() {
    command -v apt-get >/dev/null || return 1
    if [ "$(id -u)" = 0 ]; then
        as_root=
    elif sudo -n true 2>/dev/null; then
        as_root='sudo -n'
    else
        return 1
    fi
    say 'installing a Java runtime by apt-get; its log is .tools/apt.log'
    mkdir -p .tools
    $as_root apt-get update >.tools/apt.log 2>&1 </dev/null || true # old lists may do
    for version in 17 21; do
        if $as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -y \
            --no-install-recommends "openjdk-$version-jre-headless" >>.tools/apt.log 2>&1 </dev/null; then
            return 0
        fi
    done
    tried='apt-get could not install it: .tools/apt.log says why. '
    return 1
}

need_java() {
    tried=
    if find_java || { install_java && find_java; }; then
        return 0
    fi
    cat >&2 <<MESSAGE
set-up: no Java runtime of version 17 to 22 was found${JAVA_HOME:+ (JAVA_HOME is $JAVA_HOME)}; Spark needs one.
${tried}Install it, then run this again:
  Debian, Ubuntu   sudo apt-get install openjdk-17-jre-headless    (Debian 13: openjdk-21-jre-headless)
  Fedora, RHEL     sudo dnf install java-21-openjdk-headless
  macOS            brew install openjdk@21
One that lies elsewhere is found by JAVA_HOME.
MESSAGE
    exit 1
}

# --- Python and uv

find_python() {
    # A pyenv shim or a stub may be there and not run; a self-built Python may lack what Airflow and Feast import.
    for name in "${PYTHON:-}" .venv/bin/python python3.11 python3.12 python3 python; do
        [ -n "$name" ] || continue
        python=$("$name" -c '
import ctypes, sqlite3, ssl, sys
print(sys.executable if sys.version_info[:2] in ((3, 11), (3, 12)) else "")' 2>/dev/null </dev/null) || continue
        [ -z "$python" ] || return 0
    done
    cat >&2 <<'MESSAGE'
set-up: no Python 3.11 or 3.12 (with its ssl, sqlite3 and ctypes) runs here as python3.11, python3.12 or python3.
Install one, or name one: make PYTHON=/path/to/python3.12 ...
  Debian 12, Ubuntu 24.04   sudo apt-get install python3
  Fedora, RHEL              sudo dnf install python3.12
  macOS                     brew install python@3.12
MESSAGE
    exit 1
}

find_uv() {
    for uv in uv "$root/.tools/uv/bin/uv"; do
        if "$uv" --version >/dev/null 2>&1; then
            return 0
        fi
    done
    say 'fetching uv into .tools/'
    rm -rf .tools/uv .tools/uv.part
    pip='-m pip'
    "$python" -m pip --version >/dev/null 2>&1 || fetch_pip
    # --target also works where the system's Python is closed to pip.
    # shellcheck disable=SC2086
    if ! PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 "$python" $pip install --target .tools/uv.part 'uv>=0.9' \
        >.tools/uv.log 2>&1 </dev/null; then
        tail -n 3 .tools/uv.log >&2
        say 'uv could not be fetched; install it (https://docs.astral.sh/uv) or mend the network, then run this again'
        exit 1
    fi
    mv .tools/uv.part .tools/uv
}

# A bare Debian has a Python without pip, venv and ensurepip: pip's wheel runs as it is.
fetch_pip() {
    if ! "$python" - .tools/pip.whl >.tools/uv.log 2>&1 <<'CODE'; then
import hashlib, re, sys, urllib.parse, urllib.request
index = "https://pypi.org/simple/pip/"
sha256 = "98436feffb9e31bc9339cf369fd55d3331b1580b6a6f1173bacacddcf9c34754"
page = urllib.request.urlopen(index, timeout=60).read().decode()
url = urllib.parse.urljoin(index, re.search(r'href="([^"#]*/pip-26\.0-py3-none-any\.whl)', page)[1])
wheel = urllib.request.urlopen(url, timeout=60).read()
assert hashlib.sha256(wheel).hexdigest() == sha256, url
open(sys.argv[1], "wb").write(wheel)
CODE
        tail -n 1 .tools/uv.log >&2
        say "neither uv nor $python's pip is here, and pip could not be fetched; install either, then run this again"
        exit 1
    fi
    pip=.tools/pip.whl/pip
}

# --- the environment

# What the environment follows from: where it lies (its scripts hold the path) and these files' contents.
facts() {
    printf '%s\n' "$root"
    cksum pyproject.toml uv.lock scripts/setup.sh
}

up_to_date() {
    [ -f "$stamp" ] && [ "$(facts)" = "$(cat "$stamp")" ] || return 1
    for jar in .venv/lib/python3*/site-packages/pyspark/jars/delta-spark_*.jar; do
        [ ! -e "$jar" ] || return 0
    done
    return 1
}

# Two set-ups at once take turns. The lock stays with this shell's file, whatever ends it.
take_turn() {
    mkdir -p .tools
    exec 9>.tools/lock
    "$python" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'
}

install() {
    say "the environment into .venv/, with $("$python" -V)$([ -d .venv ] || echo ': some 4 GB to fetch, 9 GB on disk')"
    export UV_PYTHON_DOWNLOADS=never UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-300}"
    if ! "$uv" lock --check --python "$python"; then
        say 'uv.lock does not fit pyproject.toml: uv lock'
        exit 1
    fi
    : >.tools/installing
    if ! "$uv" sync --locked --python "$python"; then
        say 'uv could not make the environment, see above; run this again, and it is made anew'
        exit 1
    fi
    rm .tools/installing
}

fetch_jars() {
    say "Delta's jars"
    [ ! -e .tools/java ] || export JAVA_HOME="$root/.tools/java"
    if ! .venv/bin/python -m spark_jobs.jars >.tools/jars.log 2>&1 </dev/null; then
        tail -n 1 .tools/jars.log >&2
        exit 1
    fi
}

archive_classes() { # without it all works, and every JVM takes some seconds longer to start
    say "an archive of the JVM's classes"
    .venv/bin/python -m spark_jobs.class_archive >.tools/classes.log 2>&1 </dev/null ||
        say 'it could not be made, see .tools/classes.log; Spark starts slower without it'
}

# uv compiles no module, and the first commands would wait for it. What they import and the archive does not: TensorFlow
# and torch never share a process.
compile_modules() {
    for names in 'spark_jobs.worker.encoder, timm, open_clip, openvino, sklearn.linear_model' training.perceptron \
        'feature_repo.definitions, evaluation.gates.data_docs, evaluation.report.report, evaluation.milvus.sync, mlflow' \
        'airflow.sdk, airflow.cli.cli_parser, airflow.models, airflow.jobs.scheduler_job_runner'; do
        AIRFLOW_HOME="$root/.tools/airflow" .venv/bin/python -c "import $names" >>.tools/modules.log 2>&1 </dev/null ||
            say "$names: not compiled, see .tools/modules.log; the first command that needs one compiles it"
    done
}

need_java
up_to_date && exit 0
find_python
take_turn
up_to_date && exit 0
started=$(date +%s)
if [ -f "$stamp" ] && [ "$(sed 1q "$stamp")" != "$root" ]; then
    say "the environment was made for $(sed 1q "$stamp"); making it anew"
    rm -rf .venv
elif [ -f .tools/installing ]; then # uv does not see that files of a package are missing
    say 'the last set-up was cut short; making the environment anew'
    rm -rf .venv
fi
find_python # what .venv held may be gone
find_uv
install
fetch_jars
: >.tools/modules.log
compile_modules &
archive_classes
wait
facts >"$stamp.part"
mv "$stamp.part" "$stamp"
say "done in $(($(date +%s) - started)) s"
