"""Environments that were made for other programs, each by its name."""

from pathlib import Path

SHADOWED = ("queue", "random", "numpy", "typing", "tempfile")
"""Modules of the standard library and of others that a user's own files are called after."""
NOWHERE = "http://127.0.0.1:9"


def shadows(folder: Path) -> Path:
    """``folder`` with modules that end whoever imports them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in SHADOWED:
        (folder / f"{name}.py").write_text(f"raise SystemExit('the wrong {name}')")
    return folder


def environments(folder: Path) -> dict[str, dict[str, str]]:
    """All of them; ``folder`` takes the files that they name."""
    hadoop, spark, tmp = folder / "hadoop", folder / "spark conf", folder / "tmp with blanks"
    for each in (hadoop, spark, tmp):
        each.mkdir(parents=True, exist_ok=True)
    site = "<configuration><property><name>fs.defaultFS</name><value>hdfs://nowhere.invalid</value></property>"
    (hadoop / "core-site.xml").write_text(f"{site}</configuration>")
    (spark / "spark-defaults.conf").write_text("spark.master spark://nowhere.invalid:7077\n")
    (spark / "spark-env.sh").write_text("exit 7\n")
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "grpc_proxy"), NOWHERE)
    return {
        "modules of the same names": {"PYTHONPATH": str(shadows(folder / "modules"))},
        "Python's switches": {
            **{"PYTHONSTARTUP": "/nowhere", "PYTHONWARNINGS": "error", "PYTHONOPTIMIZE": "2", "PYTHONDEVMODE": "1"},
            **{"PYTHONIOENCODING": "ascii:strict", "PYTHONINSPECT": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        },
        "another Spark": {
            **{"SPARK_HOME": "/nowhere", "SPARK_CONF_DIR": str(spark), "SPARK_LOCAL_IP": "192.0.2.1"},
            **{
                "SPARK_REMOTE": "sc://nowhere",
                "PYSPARK_SUBMIT_ARGS": "--master nowhere",
                "PYSPARK_PYTHON": "/bin/false",
            },
            **{"PYSPARK_DRIVER_PYTHON": "jupyter", "SPARK_SUBMIT_OPTS": "-XX:+UseG1GC", "SPARK_DIST_CLASSPATH": "/no"},
        },
        "another Hadoop": {"HADOOP_CONF_DIR": str(hadoop), "YARN_CONF_DIR": str(hadoop), "HADOOP_USER_NAME": "hdfs"},
        "another Java's options": {
            **{"JAVA_TOOL_OPTIONS": "-XX:+UseG1GC -Xmx32m", "_JAVA_OPTIONS": "-XX:+UseParallelGC"},
            **{"JDK_JAVA_OPTIONS": "-agentlib:nowhere"},
        },
        "a proxy": {**proxies, "all_proxy": "socks5://127.0.0.1:9", "no_proxy": "example.com"},
        "another Airflow, MLflow and Feast": {
            **{"AIRFLOW_HOME": str(folder / "airflow"), "AIRFLOW__CORE__DAGS_FOLDER": "/nowhere"},
            **{"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite:////nowhere", "MLFLOW_TRACKING_URI": NOWHERE},
            **{"FEAST_CA_CERT_FILE_PATH": "/nowhere", "FEAST_USAGE": "x"},
        },
        "a locale that is not UTF-8": {"LC_ALL": "C", "LANG": "tr_TR.ISO-8859-9", "PYTHONUTF8": "0"},
        "a zone": {"TZ": "Asia/Kolkata"},
        "places": {
            "TMPDIR": str(tmp),
            "HOME": "/proc/nowhere",
            "XDG_CACHE_HOME": "/proc/nowhere/cache",
            "SSL_CERT_FILE": "/no",
        },
        "numbers": {
            **{"COLUMNS": "1", "OMP_NUM_THREADS": "many", "TOKIO_WORKER_THREADS": "0", "RAYON_NUM_THREADS": "-1"},
            **{"CUDA_VISIBLE_DEVICES": "none of them", "LOKY_MAX_CPU_COUNT": "many", "JOBLIB_MULTIPROCESSING": "x"},
            **{"TERMINAL_WIDTH": "wide"},
        },
        "a part of a job of several processes": {
            **{"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "3", "MASTER_ADDR": "192.0.2.1", "MASTER_PORT": "1"},
            **{"KERAS_BACKEND": "jax", "MPLBACKEND": "nowhere", "TF_CONFIG": "{"},
            **{"XLA_FLAGS": "--of_jax", "TF_XLA_FLAGS": "--nowhere"},
        },
        "colours": {"FORCE_COLOR": "1", "CLICOLOR_FORCE": "1", "PY_COLORS": "1", "GITHUB_ACTIONS": "true"},
        "a shell": {"BASH_ENV": str(spark / "spark-env.sh"), "CDPATH": "/", "POSIXLY_CORRECT": "1"},
    }
