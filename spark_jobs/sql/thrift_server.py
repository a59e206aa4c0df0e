"""Hive's Thrift protocol (JDBC, ODBC) over a session, for BI tools. The password is the SQL server's token."""

from py4j.java_gateway import JVMView
from pyspark.sql import SparkSession

HOST = "127.0.0.1"
"""Hive's clients send the password unencrypted: the server never listens to another machine. A proxy can add TLS."""

# Hive takes a password check by the name of a class, and none of its own compares with a secret. Janino, a compiler
# that Spark brings, makes this one. The JVM has the token in its environment, where Spark Connect wants it as well.
_CLASS = "org.apache.hive.service.auth.TokenIsThePassword"
_SOURCE = """
package org.apache.hive.service.auth;

public class TokenIsThePassword implements PasswdAuthenticationProvider {
    public void Authenticate(String user, String password) throws javax.security.sasl.AuthenticationException {
        byte[] token = System.getenv("SPARK_CONNECT_AUTHENTICATE_TOKEN").getBytes();
        if (!java.security.MessageDigest.isEqual(token, password.getBytes())) {
            throw new javax.security.sasl.AuthenticationException("the password is the server's token");
        }
    }
}
"""


def start(spark: SparkSession, port: int) -> None:
    """Serve the tables and views of ``spark`` at ``HOST``:``port`` until the session ends.

    ``SPARK_CONNECT_AUTHENTICATE_TOKEN`` has to be in the environment that the session was started in. Clients may give
    any user name.
    """
    jvm, session = spark._jvm, spark._jsparkSession
    assert jvm is not None
    _load_password_check(jvm)
    properties = {
        "hive.server2.custom.authentication.class": _CLASS,
        "hive.server2.authentication": "CUSTOM",
        "hive.server2.thrift.bind.host": HOST,
        "hive.server2.thrift.port": str(port),
        "derby.stream.error.file": "/dev/null",  # else Derby writes derby.log into the working directory
    }
    for name, value in properties.items():
        jvm.java.lang.System.setProperty(name, value)
    logs = jvm.org.apache.logging.log4j  # Thrift logs each wrong password as an error
    for logger in ("org.apache.thrift.server", "org.apache.thrift.transport"):
        logs.core.config.Configurator.setLevel(logger, logs.Level.OFF)
    jvm.org.apache.spark.sql.hive.thriftserver.HiveThriftServer2.startWithContext(session.sqlContext())


def _load_password_check(jvm: JVMView) -> None:
    """Compile the class and define it in the class loader that has Hive's own classes.

    Hive leaves each thread that answered a client with a new class loader, whose parent is that one. The next client
    of the thread is let in only if the class is found there.
    """
    interface = jvm.java.lang.Class.forName("org.apache.hive.service.auth.PasswdAuthenticationProvider")
    compiler = jvm.org.codehaus.janino.SimpleCompiler()
    compiler.setParentClassLoader(interface.getClassLoader())
    compiler.cook(_SOURCE)
    handles = jvm.java.lang.invoke.MethodHandles
    handles.privateLookupIn(interface, handles.lookup()).defineClass(compiler.getBytecodes()[_CLASS])
