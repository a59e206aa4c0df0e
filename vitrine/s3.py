"""S3: what Spark, delta-rs and Arrow have to be told of it, each in its own words.

Region, endpoint and credentials come from where AWS's own programs have them: ``AWS_REGION``, ``AWS_ENDPOINT_URL_S3``
or ``AWS_ENDPOINT_URL``, and AWS's default chain of credentials (environment, profile, web identity, the machine's
role). Each process finds its own: nothing secret passes through here.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

_SCHEMES = re.compile(r"s3[an]?://", re.IGNORECASE)
_TOLD = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION")


def is_s3(uri: str) -> bool:
    """Is it an object's URI, in anyone's spelling?"""
    return _SCHEMES.match(uri) is not None


def plain(uri: str) -> str:
    """Hadoop's ``s3a://`` and ``s3n://`` as the ``s3://`` that everybody here reads; others as they are."""
    return _SCHEMES.sub("s3://", uri, count=1)


def endpoint() -> str | None:
    """Where S3 is, if it is not AWS's own."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


def delta_options() -> dict[str, str]:
    """delta-rs' ``storage_options``: it reads AWS's environment itself, and has to be allowed plain http.

    Its commits are conditional puts, without further settings.
    """
    return {"allow_http": "true"} if (endpoint() or "").startswith("http://") else {}


def spark_properties(jars: Sequence[Path] = ()) -> dict[str, str]:
    """Spark's properties for ``s3://``; ``jars`` go to every executor."""
    told = {name: os.environ[name] for name in _TOLD if os.environ.get(name)}
    region = told.get("AWS_REGION") or told.get("AWS_DEFAULT_REGION")
    where = endpoint()
    return {
        "spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
        "spark.hadoop.fs.s3a.aws.credentials.provider": (
            "software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider"
        ),
        **({"spark.hadoop.fs.s3a.endpoint.region": region} if region else {}),
        **({"spark.hadoop.fs.s3a.endpoint": where, "spark.hadoop.fs.s3a.path.style.access": "true"} if where else {}),
        **{f"spark.executorEnv.{name}": value for name, value in told.items()},
        **({"spark.jars": ",".join(map(str, jars))} if jars else {}),
    }
