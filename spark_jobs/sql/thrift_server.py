"""Hive's Thrift protocol (JDBC, ODBC) over a session, for BI tools; whoever asks shows the SQL server's token."""

import tempfile
import zipfile
from pathlib import Path

from pyspark.sql import SparkSession

HOST = "127.0.0.1"
"""Hive's clients send the password as it is: never to another machine without TLS, which a proxy has to add."""

# Hive takes a password's check by the name of a class, and none that it has compares with a secret. Janino, which Spark
# brings, compiles this one. The JVM has the token in its environment, as Spark Connect asks.
_CLASS = "vitrine.TokenIsThePassword"
_SOURCE = """
package vitrine;

public class TokenIsThePassword implements org.apache.hive.service.auth.PasswdAuthenticationProvider {
    public void Authenticate(String user, String password) throws javax.security.sasl.AuthenticationException {
        byte[] token = System.getenv("SPARK_CONNECT_AUTHENTICATE_TOKEN").getBytes();
        if (!java.security.MessageDigest.isEqual(token, password.getBytes())) {
            throw new javax.security.sasl.AuthenticationException("the password is the server's token");
        }
    }
}
"""


def start(spark: SparkSession, port: int) -> None:
    """Serve what ``spark`` has at ``HOST``:``port`` until the session ends.

    ``SPARK_CONNECT_AUTHENTICATE_TOKEN`` has to be in the environment that the session was started in. Any user's name
    will do.
    """
    jvm, session = spark._jvm, spark._jsparkSession
    assert jvm is not None
    # Threads that answer go over to this loader with their first query: it has to know the class.
    loader = session.sharedState().jarClassLoader()
    loader.addURL(jvm.java.io.File(str(_compile(jvm, loader))).toURI().toURL())
    jvm.java.lang.Thread.currentThread().setContextClassLoader(loader)
    wanted = {
        "hive.server2.custom.authentication.class": _CLASS,
        "hive.server2.authentication": "CUSTOM",
        "hive.server2.thrift.bind.host": HOST,
        "hive.server2.thrift.port": str(port),
        "derby.stream.error.file": "/dev/null",  # else derby.log, wherever this was started
    }
    for name, value in wanted.items():
        jvm.java.lang.System.setProperty(name, value)
    logs = jvm.org.apache.logging.log4j
    for noisy in ("org.apache.thrift.server", "org.apache.thrift.transport"):  # a wrong password is no fault of ours
        logs.core.config.Configurator.setLevel(noisy, logs.Level.OFF)
    jvm.org.apache.spark.sql.hive.thriftserver.HiveThriftServer2.startWithContext(session.sqlContext())


def _compile(jvm: object, loader: object) -> Path:
    """A jar with the class, in a folder of this process's own."""
    compiler = jvm.org.codehaus.janino.SimpleCompiler()  # type: ignore[attr-defined]
    compiler.setParentClassLoader(loader)
    compiler.cook(_SOURCE)
    jar = Path(tempfile.mkdtemp(prefix="vitrine-")) / "authentication.jar"
    with zipfile.ZipFile(jar, "w") as file:
        file.writestr(f"{_CLASS.replace('.', '/')}.class", bytes(compiler.getBytecodes()[_CLASS]))
    return jar
